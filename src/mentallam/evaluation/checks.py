"""Coded checks of a cross-validation: what a statistical reviewer would ask, answered from the saved figures.

`CHECKS` lists them in the order in which they are shown. A code is never given to another check. docs/checks.md
explains each one, and a test holds the page equal to the list.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from mentallam.evaluation import findings
from mentallam.evaluation.few_positives import FEW
from mentallam.evaluation.findings import FEW_CLUSTERS, NOT_CHECKED, PASSED, WARNING, CheckedRun, Finding


@dataclass(frozen=True)
class Check:
    """A check.

    Attributes:
        code: Its code.
        title: What is the case where the check warns, as a clause.
        look: From the results to a finding.
        advice: What to do about a warning, as Markdown.
        if_not_checked: What to do so that it can be checked, as Markdown; empty where it always can.
    """

    code: str
    title: str
    look: Callable[[CheckedRun], Finding]
    advice: str
    if_not_checked: str = ""


CHECKS = (
    Check(
        "MC001",
        "a baseline is at least as good",
        findings.baselines,
        "Claim no gain from fine-tuning on these data. More posts, more epochs or a larger base model may bring one; "
        "compare again over several seeds.",
        "Fit the baselines: `overrides=baselines.models=[tfidf,embedding]`.",
    ),
    Check(
        "MC002",
        "seeds matter as much as the model",
        findings.seeds,
        "Report the mean over the seeds with the spread between them, never the best seed; add seeds before a "
        "comparison.",
        "Train with other seeds, `mentallam seeds 42 142 242` (docs/evaluation.md, Repeats with other seeds).",
    ),
    Check(
        "MC003",
        f"some criteria have fewer than {FEW} positive pairs",
        findings.few_positives,
        "Do not rank these criteria or compare their F1. Read their intervals as too narrow, and annotate more posts "
        "for them.",
    ),
    Check(
        "MC004",
        "authors straddle folds",
        findings.authors,
        "Group the folds by author, `--params folds.group_by=author`, and train again.",
        "Name the authors: a column `author` in the posts, or ids of the form `s_<author>_<n>`.",
    ),
    Check(
        "MC005",
        "truncation hits positive pairs",
        findings.truncation,
        "Raise `model.max_length`, so that the evidence at the end of long posts is read. The section Where the "
        "errors are compares truncated with whole posts.",
        "Finish a fold that has positive pairs.",
    ),
    Check(
        "MC006",
        "this run is one of several on the same data",
        findings.candidates,
        "State how many runs there were, and their spread. Choose between them by the paired interval, "
        '`kedro run --pipeline compare --params "first=RUN_ID,second=RUN_ID"`, or fix the recipe and report its mean.',
        "Count the finished runs with this data hash in MLflow, and state their number.",
    ),
    Check(
        "MC007",
        "the dev splits are small",
        findings.dev_split,
        "Lower `folds.dev_splits`, so that more posts choose, or annotate more posts. Read the dev F1 as noise.",
        "Train again.",
    ),
    Check(
        "MC008",
        "the calibration slope is not 1",
        findings.slope,
        "Do not read the probabilities as such, nor the net benefit. Look at the section Calibration; a larger dev "
        "split fits the calibration better.",
        "Finish a fold that has positive pairs.",
    ),
    Check(
        "MC009",
        "the data are synthetic",
        findings.synthetic,
        "Use the figures to test the software, and quote none of them as a result.",
    ),
    Check(
        "MC010",
        "the folds are unbalanced",
        findings.fold_balance,
        "Read the pooled figures rather than means over folds. Fewer folds (`MENTALLAM_CV_FOLDS`), another "
        "`folds.seed` or smaller groups balance them.",
    ),
    Check(
        "MC011",
        "the cross-validation is not finished",
        findings.finished,
        "Finish it with the command that began it, then run `kedro run --pipeline reporting`.",
    ),
    Check(
        "MC012",
        "the base model is random",
        findings.random_model,
        "Use the figures to test the software, and quote none of them as a result.",
    ),
    Check(
        "MC013",
        "a threshold marks all pairs or none",
        findings.thresholds,
        "Look at the threshold curves of these folds. The scores of their dev splits did not separate the labels: "
        "train for longer, or check the learning curves.",
    ),
    Check(
        "MC014",
        "the calibration error exceeds chance",
        findings.calibration_error,
        "Do not read the probabilities as such. The reliability diagram shows where they are off.",
    ),
    Check(
        "MC015",
        "near-duplicates straddle folds",
        findings.duplicates,
        "Keep near-duplicates in one fold, `--params folds.duplicates=group`, and train again.",
        "Look for them: `--params folds.duplicates=group`.",
    ),
    Check(
        "MC016",
        f"fewer than {FEW_CLUSTERS} authors, groups or posts are resampled",
        findings.clusters,
        "Read intervals and p-values as too optimistic; collect posts of more authors.",
    ),
    Check(
        "MC017",
        "the models learnt from a sample",
        findings.sample,
        "Train with `training.sample_fraction=1` before you report a result.",
    ),
    Check(
        "MC018",
        "a baseline is far better on some criteria",
        findings.criteria_lost,
        "Name these criteria beside the overall result. Words may decide them, so that counting suffices, or the model "
        "saw too few posts of them: compare the baseline's errors with the model's.",
        "Fit the baselines: `overrides=baselines.models=[tfidf,embedding]`.",
    ),
)
"""Every check, in the order in which they are shown."""


def make_checks(run: CheckedRun) -> dict[str, Any]:
    """Make all checks.

    Returns:
        JSON-serialisable: cv_run_id; `passed`, `warnings` and `not_checked`, the numbers of checks; and `checks`, in
        the order of `CHECKS`: code, title, status, finding (a sentence), figures, what_to_do (Markdown, empty where
        the check passed) and page, the place that explains the check.
    """
    rows = []
    for check in CHECKS:
        found = check.look(run)
        what_to_do = {WARNING: check.advice, NOT_CHECKED: check.if_not_checked}.get(found.status, "")
        rows.append(
            {
                **{"code": check.code, "title": check.title, "status": found.status, "finding": found.sentence},
                **{"figures": dict(found.figures), "what_to_do": what_to_do},
                "page": f"docs/checks.md#{check.code.lower()}",
            }
        )
    statuses = [row["status"] for row in rows]
    return {
        "cv_run_id": run.summary["cv_run_id"],
        "passed": statuses.count(PASSED),
        "warnings": statuses.count(WARNING),
        "not_checked": statuses.count(NOT_CHECKED),
        "checks": rows,
    }
