"""The TRIPOD+AI checklist, filled in from what the report holds (Collins et al., BMJ 2024;385:e078378).

A row is reported, partly reported or missing. Its status is not written down: it follows from what the row says, from
whether the sections that it names are in the report, and from which figures have intervals.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from mentallam.config import Config
from mentallam.evaluation.decision import describe
from mentallam.evaluation.metrics import METRICS
from mentallam.markdown import as_code, as_text

REPORTED, PARTLY, MISSING, NOT_APPLICABLE = "reported", "partly", "missing", "does not apply"


@dataclass(frozen=True)
class Row:
    """One row of the checklist.

    Attributes:
        numbers: Numbers of the items.
        topic: What they ask for.
        content: What the run says about it, as Markdown; empty where it says nothing.
        sections: Titles of the report's sections that say more.
        lacking: What is still asked for.
        applies: Whether the items apply to this kind of study; `lacking` then says why not.
    """

    numbers: str
    topic: str
    content: str = ""
    sections: tuple[str, ...] = ()
    lacking: str = ""
    applies: bool = True


def checklist(
    sections: Collection[str],
    summary: Mapping[str, Any],
    uncertainty: Mapping[str, Any],
    data: Mapping[str, Any],
    config: Config,
) -> list[dict[str, str]]:
    """Fill in the checklist.

    Args:
        sections: Titles of the sections that the report has.
        summary: As `aggregate.summarise` returns it.
        uncertainty: As `uncertainty.estimate_uncertainty` returns it.
        data: Statistics of the corpus, as data_processing saves them.
        config: The configuration of the run.

    Returns:
        For each row numbers, topic, status (`REPORTED`, `PARTLY`, `MISSING`, `NOT_APPLICABLE`) and text (Markdown).
    """
    rows = [*_methods(summary, data, config), *_open_science(summary), *_results(summary, uncertainty, data)]
    return [{"numbers": row.numbers, "topic": row.topic, **_judged(row, sections)} for row in rows]


def figures_with_intervals(uncertainty: Mapping[str, Any]) -> tuple[list[str], list[str]]:
    """Return the labels of the pooled figures that have an interval, and of those that have none.

    Args:
        uncertainty: As `uncertainty.estimate_uncertainty` returns it.
    """
    shown = [metric for metric in METRICS if metric.plain is not None or metric.weighted is not None]
    known = [(metric.label, has_interval(uncertainty["headline"].get(metric.name))) for metric in shown]
    return [label for label, found in known if found], [label for label, found in known if not found]


def has_interval(figure: Any) -> bool:
    """Tell whether a saved figure is an interval with bounds."""
    return isinstance(figure, Mapping) and figure.get("low") is not None


def _judged(row: Row, sections: Collection[str]) -> dict[str, str]:
    """Return status and text of a row."""
    held = [section for section in row.sections if section in sections]
    if not row.applies:
        return {"status": NOT_APPLICABLE, "text": row.lacking}
    if not row.content and not held:
        return {"status": MISSING, "text": row.lacking}
    is_whole = not row.lacking and len(held) == len(row.sections)
    where = f"section{'s' if len(held) > 1 else ''} {', '.join(held)}" if held else ""
    said = "; ".join(filter(None, [row.content, where]))
    lacking = f". Lacking: {row.lacking}" if row.lacking else ""
    return {"status": REPORTED if is_whole else PARTLY, "text": f"{said}{lacking}"}


def _methods(summary: Mapping[str, Any], data: Mapping[str, Any], config: Config) -> Iterator[Row]:
    by_authors = "the authors of the study write it"
    n_cells = summary["n_posts"] * len(summary["per_criterion"])
    cut = next((row["n_posts"] for row in summary["slices"] if row["slice"] == "truncated posts"), 0)
    adapter = "DoRA" if config.adapter.use_dora else "LoRA"
    yield Row("1, 2", "title, abstract", lacking=by_authors)
    yield Row("3a-3c", "background", lacking="health-care context, intended users, known inequalities")
    yield Row("4", "objectives", "whether a post matches a criterion, a screening of text for research", ("Summary",))
    yield Row(
        "5a",
        "source of the data",
        f"{as_text(data['corpus'])}{' (synthetic)' if summary['synthetic'] else ''}, data hash "
        f"`{summary['data_hash']}`",
        ("Data",),
        "how the posts were sampled, and whom they represent",
    )
    yield Row("5b", "dates of the data", lacking="when the posts were written and collected")
    yield Row("6a, 6b", "setting, eligibility", lacking="where the posts come from, and which were eligible")
    yield Row("6c", "treatments", lacking="posts are assessed, not patients", applies=False)
    yield Row(
        "7",
        "data preparation",
        "text repaired and trimmed in the same way for all posts (`cleaning_counts.json`); a post is cut where it "
        f"exceeds {config.model.max_length} tokens with its criterion: "
        + (f"{cut} of {summary['n_posts']} posts" if cut else "none was"),
    )
    yield Row(
        "8a",
        "outcome",
        "the annotators' label of each pair; an explicit negative, a pair that an annotator judged not to match, is "
        "unmatched",
    )
    yield Row("8b, 8c", "assessors of the outcome", lacking="who annotated, with which training, and whether blinded")
    yield Row("9a-9c", "predictors", "the post's text and the criterion's wording, nothing else", ("Criteria",))
    yield Row(
        "10",
        "sample size",
        f"{summary['n_posts']} posts, {summary['n_pairs']} pairs, {summary['n_positive']} positive",
        lacking="a calculation in advance",
    )
    yield Row("11", "missing data", f"{n_cells - summary['n_pairs']} of {n_cells} pairs lack a label and were left out")
    yield Row(
        "12a",
        "use of the data",
        f"{summary['n_folds']} folds grouped by {data['folds']['group_by']}; in each a dev split chose epoch, "
        "calibration and threshold",
        ("How epoch and threshold were chosen",),
    )
    yield Row(
        "12b, 12c",
        "type of model, its building",
        f"{as_code(config.model.name, in_table=True)} with {adapter} of rank {config.adapter.r}",
        ("Configuration",),
    )
    yield Row("12d", "heterogeneity between clusters: method", lacking=_NO_CLUSTERS)
    yield Row("12e", "measures of performance", sections=("Result", "Calibration", "Net benefit", "Uncertainty"))
    yield Row("12f", "model updating", lacking="no model was updated", applies=False)
    yield Row(
        "12g",
        "how predictions were made",
        "sigmoid(slope x logit + intercept) of each fold, kept in its checkpoint; of several folds, "
        "the calibrated mean of slope x logit + intercept",
        ("The served model",),
    )
    yield Row(
        "13",
        "class imbalance",
        f"base rate {summary['n_positive'] / summary['n_pairs']:.3f}; `class_weight` {config.training.class_weight}; "
        f"{describe(config.decision)}",
    )
    yield Row("14", "fairness", lacking="the data name no groups of people")
    yield Row("15", "output of the model", "a probability, and yes if it reaches the threshold")
    yield Row("16", "training versus evaluation", "the same source for both: internal validation only")
    yield Row("17", "ethical approval", lacking=by_authors)


def _open_science(summary: Mapping[str, Any]) -> Iterator[Row]:
    run = as_code(summary["cv_run_id"], in_table=True)
    yield Row("18a-18d", "funding, interests, protocol, registration", lacking="the authors of the study write it")
    yield Row("18e", "data sharing", f"data hash `{summary['data_hash']}`", lacking="how others get the data")
    yield Row(
        "18f",
        "code sharing",
        f"version of the code, packages and configuration, in MLflow run {run}",
        lacking="where others get the code",
    )
    yield Row("19", "patient and public involvement", lacking="the authors of the study write it")


def _results(summary: Mapping[str, Any], uncertainty: Mapping[str, Any], data: Mapping[str, Any]) -> Iterator[Row]:
    people = "the people" if data["n_authors"] is None else f"the {data['n_authors']} authors"
    yield Row("20a-20c", "participants", "`data_audit.html`", ("Data",), f"characteristics of {people}")
    yield Row(
        "21",
        "model development",
        sections=("Folds",),
        lacking="pairs and positives of each fold's training and dev posts",
    )
    yield Row(
        "22",
        "model specification",
        "the checkpoints in MLflow's registry",
        ("The served model", "Folds", "Configuration"),
    )
    yield _performance(summary, uncertainty)
    yield Row("23b", "heterogeneity between clusters: results", lacking=_NO_CLUSTERS)
    yield Row("24", "results of updating", lacking="no model was updated", applies=False)
    yield Row("25", "interpretation", sections=("Summary",), lacking="comparison with other studies")
    yield Row("26", "limitations", sections=("Checks", "Limits"), lacking="those of the study's design")
    yield Row(
        "27a-27c",
        "usability",
        "a post that is too long is cut",
        lacking="how other poor input is handled, who uses the model, and what to study next",
    )


_NO_CLUSTERS = (
    "performance was not compared between clusters such as platforms or annotators; folds are random parts of one "
    "source, so the spread over them does not stand for it"
)


def _performance(summary: Mapping[str, Any], uncertainty: Mapping[str, Any]) -> Row:
    """Return the row of the intervals: which figures have one, and which are printed without."""
    having, lacking = figures_with_intervals(uncertainty)
    of_criteria = any(has_interval(row["f1"]) for row in uncertainty["per_criterion"])
    of_slices = any(map(has_interval, (figure for row in summary["slices"] for figure in row.values())))
    of_calibration = any(map(has_interval, uncertainty["calibration"].values()))
    having += ["F1 per criterion"] if of_criteria else []
    lacking += [] if of_slices else ["all figures of the section Where the errors are"]
    lacking += ["precision, recall and ROC-AUC per criterion"] if of_criteria else ["all figures per criterion"]
    return Row(
        "23a",
        "performance with intervals",
        f"intervals of {', '.join(having)}" if having else "",
        ("Result", "Uncertainty", *(["Criteria"] if of_criteria else []), *(["Calibration"] if of_calibration else []))
        if having
        else (),
        f"intervals of {', '.join(lacking)}" if lacking else "",
    )
