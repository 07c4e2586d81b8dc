"""The model card: what a cross-validation's model is for, what it was made from, how well it does, where it fails."""

from typing import Any

from mentallam.config import DecisionConfig
from mentallam.evaluation.decision import describe
from mentallam.evaluation.metrics import mean_and_std
from mentallam.reports.report import markdown_environment

TEMPLATE = "model_card.md.j2"

METRIC_NAMES = {
    "f1": "F1",
    "precision": "precision",
    "recall": "recall",
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "mcc": "MCC",
    "roc_auc": "ROC-AUC",
    "average_precision": "average precision",
    "brier": "Brier score",
    "log_loss": "log loss",
    "ece": "expected calibration error",
}


def render_model_card(
    summary: dict[str, Any],
    uncertainty: dict[str, Any],
    data_statistics: dict[str, Any],
    training_config: dict[str, Any],
    use: str,
) -> str:
    """Write the model card of a cross-validation.

    Args:
        summary: As `aggregate.summarise` returns it.
        uncertainty: As `uncertainty.estimate_uncertainty` returns it.
        data_statistics: Of the corpus, as data_processing saves it.
        training_config: The composed configuration of the run.
        use: `ensemble` if all folds are served together; else the best fold is.

    Returns:
        Markdown without a word of any post.
    """
    return (
        markdown_environment()
        .get_template(TEMPLATE)
        .render(
            summary=summary,
            data=data_statistics,
            config=training_config,
            use=use,
            percent=f"{100 * uncertainty['method']['confidence']:g}",
            headline=uncertainty["headline"],
            f1_of_criterion={row["criterion_id"]: row["f1"] for row in uncertainty["per_criterion"]},
            best=next(fold for fold in summary["folds"] if fold["fold"] == summary["best_fold"]),
            mean_threshold=mean_and_std(fold["threshold"] for fold in summary["folds"])["mean"],
            decision_rule=describe(DecisionConfig(**training_config["decision"])),
            metric_names=METRIC_NAMES,
            seconds=sum(fold["seconds"] for fold in summary["folds"]),
        )
    )
