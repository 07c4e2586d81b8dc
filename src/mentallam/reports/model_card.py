"""The model card: the intended use, data, metrics and limits of a cross-validation's model."""

from typing import Any

from mentallam.config import Config
from mentallam.evaluation.decision import describe
from mentallam.reports.report import markdown_environment

TEMPLATE = "model_card.md.j2"


def render_model_card(
    summary: dict[str, Any],
    uncertainty: dict[str, Any],
    data_statistics: dict[str, Any],
    training_config: Config,
    use: str,
    ensemble: dict[str, Any] | None,
    candidates: dict[str, Any],
) -> str:
    """Write the model card of a cross-validation.

    Args:
        summary: As `aggregate.summarise` returns it.
        uncertainty: As `uncertainty.estimate_uncertainty` returns it.
        data_statistics: Statistics of the corpus, as data_processing saves them.
        training_config: The configuration of the run.
        use: What is served: ensemble, refit or best_fold.
        ensemble: As `ensemble.calibrate_ensemble` returns it; None where folds are missing.
        candidates: As `reported_runs.find_candidates` returns it.

    Returns:
        Markdown without any text of a post.
    """
    return (
        markdown_environment()
        .get_template(TEMPLATE)
        .render(
            summary=summary,
            uncertainty=uncertainty,
            data=data_statistics,
            config=training_config,
            use=use,
            confidence=uncertainty["method"]["confidence"],
            unit=uncertainty["clusters"]["unit"],
            headline=uncertainty["headline"],
            f1_of_criterion={row["criterion_id"]: row["f1"] for row in uncertainty["per_criterion"]},
            ensemble=ensemble,
            candidates=candidates,
            decision_rule=describe(training_config.decision),
            seconds=sum(fold["seconds"] for fold in summary["folds"]),
        )
    )
