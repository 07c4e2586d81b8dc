import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pandas as pd
import pytest
import yaml

from mentallam.config import Config, to_dict
from mentallam.evaluation.checks import make_checks
from mentallam.evaluation.findings import CheckedRun
from mentallam.evaluation.metrics import METRICS
from mentallam.reports.figures import REPORT_FIGURES
from mentallam.reports.report import render_report
from tests.unit.predictions import ALONE, DESCRIPTIONS
from tests.unit.seen import tables

BANNER = "SYNTHETIC DATA: these numbers say nothing about people"

Render = Callable[[], str]


@pytest.fixture
def render(
    summary: dict[str, Any],
    uncertainty: dict[str, Any],
    data_statistics: dict[str, Any],
    training_config: Config,
    criteria: pd.DataFrame,
) -> Render:
    """Return a function that renders the fixtures with the test's changes, and the checks of these."""

    def rendered() -> str:
        checks = make_checks(CheckedRun(summary, uncertainty, data_statistics, training_config))
        return render_report(
            summary, uncertainty, data_statistics, training_config, criteria, checks, "ensemble", None, ALONE
        )

    return rendered


def test_a_search_in_each_fold_is_told_with_its_optimism_and_beside_the_flat_one(
    render: Render, summary: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "## A search in each fold" not in render()
    for fold in summary["folds"]:
        values = f"adapter.r={4 + fold['fold']}"
        fold["search"] = {"overrides": values, "trials": 20, "score": fold["average_precision"] + 0.125}
    summary["search_optimism"] = {"mean": 0.125, "std": 0.0, "n": len(summary["folds"])}
    report = render()
    rows = [line for line in report.splitlines() if "`adapter.r=" in line]
    assert len(rows) == len(summary["folds"])
    assert all(row.endswith("| 0.125 |") for row in rows)
    assert "Optimism of the search: 0.125 ± 0.000" in report
    assert "there is none to compare with" in report
    pooled = {name: summary["pooled"][name] + 0.25 for name in ("f1", "average_precision")}
    monkeypatch.setitem(ALONE, "flat", {"run_id": "feed", **pooled})
    report = render()
    assert "0.250 and 0.250 more" in report
    assert f"first=feed,second={summary['cv_run_id']}" in report


def test_a_confirmed_search_is_set_beside_the_held_out_score(
    render: Render, summary: dict[str, Any], data_statistics: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    for fold in summary["folds"]:
        fold["dev_average_precision"] = 0.5
    held_out = summary["metrics"]["average_precision"]["mean"]
    search = {"run_id": "feed", "score": held_out + 0.25, "trials": 20, "folds_seed": data_statistics["folds"]["seed"]}
    monkeypatch.setitem(ALONE, "confirms", search)
    report = render()
    assert f"| **held out, here** | **{held_out:.3f}** |" in report
    assert "| optimism: best of the search minus held out here | 0.250 |" in report
    assert f"minus dev here | {held_out + 0.25 - 0.5:.3f} |" in report
    assert "confirm with another `folds.seed`" in report
    monkeypatch.setitem(ALONE, "confirms", {**search, "folds_seed": -1})
    assert "confirm with another `folds.seed`" not in render()


def test_synthetic_data_are_announced_before_any_number(render: Render, summary: dict[str, Any]) -> None:
    report = render()
    assert report.index(BANNER) < report.index("## Data")
    summary["synthetic"] = False
    assert "synthetic" not in render().lower()


def test_every_table_has_all_its_rows_and_cells(render: Render) -> None:
    found = tables(render())
    sizes = {name: len(table) for name, table in found.items()}
    assert sizes == {
        "metric": 1 + sum(metric.plain is not None for metric in METRICS),
        "calibration": 5,
        "threshold probability": 6,
        "protocol": 4,
        "fold": 6,
        "criterion": 10,
        "pairs of": 6,
        "classifier": 4,
        "compared with": 5,
        "item": 38,
    }
    for table in found.values():
        assert {len(row) for row in table} == {len(table[0])}
        assert all(cell for row in table for cell in row)


def test_each_baseline_has_a_row_under_the_models(render: Render, summary: dict[str, Any]) -> None:
    rows = tables(render())["classifier"]
    assert [row[0] for row in rows] == ["classifier", "this model", "tfidf", "embedding"]
    embedding = summary["learned_baselines"]["embedding"]
    assert rows[0][5] == "average precision"
    precision = embedding["metrics"]["average_precision"]
    assert rows[3][5:] == [f"{precision['mean']:.3f} ± {precision['std']:.3f}", f"{embedding['pooled']['f1']:.3f}"]
    assert rows[1][-1] == f"{summary['pooled']['f1']:.3f}"


def test_only_the_baselines_that_were_fitted_are_explained(render: Render, summary: dict[str, Any]) -> None:
    words, states = (f"- `{name}` is {description}\n" for name, description in DESCRIPTIONS.items())
    assert words + states in render()
    del summary["learned_baselines"]["embedding"]
    assert words in (text := render())
    assert "embedding" not in text.partition("\n## Configuration\n")[0]


def test_a_baseline_without_a_description_is_listed_by_its_name(render: Render, summary: dict[str, Any]) -> None:
    summary["learned_baselines"]["tfidf"]["description"] = None
    del summary["learned_baselines"]["embedding"]["description"]  # a summary of an older version
    assert "- `tfidf`\n- `embedding`\n" in render()


def test_without_baselines_the_report_says_so(render: Render, summary: dict[str, Any]) -> None:
    summary["learned_baselines"] = {}
    assert "No baseline was fitted" in render()
    assert "classifier" not in tables(render())


def test_the_headline_shows_mean_spread_pool_interval_and_baselines(
    render: Render, summary: dict[str, Any], uncertainty: dict[str, Any]
) -> None:
    f1 = summary["metrics"]["f1"]
    uncertainty["headline"]["f1"] |= {"low": 0.514, "high": 0.719}
    assert tables(render())["metric"][1] == [
        "**F1**",
        f"{f1['mean']:.3f} ± {f1['std']:.3f}",
        f"{summary['pooled']['f1']:.3f} (0.51-0.72)",
        "0.000",
        f"{summary['baselines']['all_positive']['f1']:.3f}",
        f"{summary['baselines']['prior_only']['f1']:.3f}",
    ]


def test_without_criteria_of_few_positives_no_interval_is_doubted(render: Render, summary: dict[str, Any]) -> None:
    assert "Its interval may be too narrow" in render() and "Fewer than 20 positive pairs" in render()
    summary["few_positives"] = []
    assert "Its interval may be too narrow" not in render() and "Fewer than 20" not in render()


def test_a_criterion_without_positive_pairs_has_no_interval_to_doubt(
    render: Render, uncertainty: dict[str, Any]
) -> None:
    uncertainty["per_criterion"][0] |= {"n_positive": 0, "simulated_coverage": None}
    assert "A.1 DEPRESSED_MOOD (n+ 0, no interval)" in render()


def test_a_calibration_error_is_judged_by_what_chance_shows(render: Render, uncertainty: dict[str, Any]) -> None:
    check = uncertainty["calibration"]
    check |= {"ece": 0.05, "ece_if_calibrated": {"mean": 0.03, "p95": 0.06}}
    assert "It is no larger than chance explains." in render()
    check["ece"] = 0.07
    assert "It is larger than chance explains." in render()


def test_uncalibrated_probabilities_are_called_so(
    summary: dict[str, Any],
    uncertainty: dict[str, Any],
    data_statistics: dict[str, Any],
    training_config: Config,
    criteria: pd.DataFrame,
    checks: dict[str, Any],
) -> None:
    for method in ("platt", "none"):
        config = replace(training_config, decision=replace(training_config.decision, calibration=method))
        report = render_report(summary, uncertainty, data_statistics, config, criteria, checks, "ensemble", None, ALONE)
        assert ("The probabilities are not calibrated" in report) == (method == "none")


def test_protocols_stand_side_by_side(render: Render, summary: dict[str, Any]) -> None:
    rows = {row[0]: row for row in tables(render())["protocol"]}
    assert list(rows) == ["protocol", "dev-split", "cross-fitted", "same-fold"]
    assert rows["dev-split"][3] == f"{summary['pooled']['f1']:.3f}"
    same_fold = summary["metrics"]["f1_same_fold"]
    assert rows["same-fold"][2] == f"{same_fold['mean']:.3f} ± {same_fold['std']:.3f}"


def test_explicit_negatives_are_reported(render: Render, summary: dict[str, Any]) -> None:
    assert "No pair is marked as an explicit negative." in render()
    summary["explicit_negatives"] = {"n": 8, "false_alarms": 2, "rate": 0.25, "rate_of_other_unmatched": 0.1}
    assert "2 of 8 are false alarms (0.250, against\n0.100 of the other unmatched pairs)" in render()
    assert "An explicit negative is a pair that an annotator judged not to match, often a near miss. 2 of 8" in render()


def test_a_fold_is_traceable(render: Render, summary: dict[str, Any]) -> None:
    fold = summary["folds"][2]
    assert tables(render())["fold"][3] == [
        "2",
        "108",
        str(fold["n_positive"]),
        "0.46",
        f"{fold['f1']:.3f}",
        f"{fold['f1_same_fold']:.3f}",
        "0.400",
        "3 of 4",
        "0:01:01",
        "`child2`",
        "`data/06_models/fold_2`",
    ]


def test_selection_is_spelled_out(render: Render, summary: dict[str, Any], uncertainty: dict[str, Any]) -> None:
    uncertainty["protocols"]["selection_optimism"] |= {"low": -0.014, "high": 0.1}
    report = render()
    assert f"Selection optimism: {summary['selection_optimism']:.3f} (-0.01 to 0.10)." in report
    assert "Platt-scaled; one threshold for all criteria, by F1 on the inner dev split" in report
    assert "The epoch with the best `average_precision` on this split was chosen." in report
    assert "Served is the **ensemble of all 5 folds' models**" in report


def test_undefined_metrics_are_called_not_defined(
    render: Render, summary: dict[str, Any], uncertainty: dict[str, Any]
) -> None:
    uncertainty["headline"]["roc_auc"] = {"estimate": None, "low": None, "high": None, "undefined": 1.0}
    summary["metrics"]["roc_auc"] = {"mean": 0.8, "std": 0.1, "n": 4}
    summary["metrics"]["average_precision"] = {"mean": None, "std": None, "n": 0}
    summary["pooled"]["roc_auc"] = None
    rows = {row[0]: row[1:] for row in tables(render())["metric"]}
    assert rows["ROC-AUC"][:2] == ["0.800 ± 0.100 (4 of 5 folds)", "not defined"]
    assert rows["average precision"][0] == "not defined"


def test_the_override_reason_is_printed(render: Render, data_statistics: dict[str, Any]) -> None:
    assert "accepted because" not in render()
    data_statistics["counts"]["override_reason"] = "a later release of the corpus"
    assert "accepted because: a later release of the corpus." in render()


def test_expected_counts_are_reported(render: Render, data_statistics: dict[str, Any]) -> None:
    assert "seed 42. The expected counts are 60 posts, 9 criteria, 540 pairs.\n" in render()
    data_statistics["counts"]["expected"] |= {"pairs": None, "explicit_negative": 3}
    assert "seed 42. The expected counts are 60 posts, 9 criteria, 3 explicit negative.\n" in render()
    data_statistics["counts"]["expected"] = dict.fromkeys(["posts", "criteria", "pairs"])
    assert "seed 42.\n" in render()


def test_pairs_without_a_label_are_reported(render: Render, summary: dict[str, Any]) -> None:
    assert "no label" not in render()
    summary["n_pairs"] -= 7
    assert " 7 pairs of these posts and criteria have no label" in render()


def test_placeholders_and_uneven_folds_are_reported(render: Render, data_statistics: dict[str, Any]) -> None:
    balance = {"fold": 1, "posts": 25, "share": 25 / 60, "equal_share": 0.2, "uneven": False}
    data_statistics |= {"placeholder_posts": {}}
    nowhere: dict[str, list[int]] = {"train": [], "dev": [], "held_out": []}
    data_statistics["folds"] |= {"balance": balance, "without_positives": nowhere, "without_negatives": {**nowhere}}
    for words in ("placeholders", "uneven", "No held-out pair", "learnt nothing"):
        assert words not in render()
    data_statistics["placeholder_posts"] = {"[removed]": 20, "[deleted]": 3}
    balance["uneven"] = True
    data_statistics["folds"]["without_positives"] |= {"dev": [0], "held_out": [2, 3]}
    data_statistics["folds"]["without_negatives"] |= {"train": [4], "held_out": [1]}
    report = render()
    assert " 23 posts were placeholders of deleted posts (`[removed]`, `[deleted]`) and were left out" in report
    assert " fold 1 holds out 42 % of the posts instead of 20 %" in report
    assert " No held-out pair of fold 2, 3 is positive: precision, recall, F1, ROC-AUC and " in report
    assert " No held-out pair of fold 1 is negative: no prediction of yes can be wrong there" in report
    assert " **No training pair of fold 4 is negative**, so the model of that fold has learnt nothing." in report


def test_a_criterion_without_a_name_is_called_by_its_id(render: Render, summary: dict[str, Any]) -> None:
    assert tables(render())["criterion"][1][0] == "A.1 DEPRESSED_MOOD"
    summary["per_criterion"][0]["symptom"] = "A.1"
    assert tables(render())["criterion"][1][0] == "A.1"


@pytest.mark.parametrize(
    ("n_authors", "n_straddling", "sentence"),
    [
        (45, 9, "Authors with posts in more than one fold: 9 of 45."),
        (45, 0, "No author has posts in more than one fold."),
        (None, None, "it is unknown whether an author"),
    ],
)
def test_authors_in_several_folds_are_declared(
    render: Render,
    data_statistics: dict[str, Any],
    n_authors: int | None,
    n_straddling: int | None,
    sentence: str,
) -> None:
    data_statistics |= {"n_authors": n_authors, "n_authors_straddling_folds": n_straddling}
    assert sentence in render()
    assert ("by 45 authors" in render()) == (n_authors is not None)


@pytest.mark.parametrize(
    ("duplicates", "sentence"),
    [
        (
            {},
            "No near-duplicate posts were found. Two posts count as such if their runs of five words have a Jaccard "
            "similarity of at least 0.8, or if a post of 50 words or more has at least 75 % of its runs in one part of "
            "a longer post. Paraphrases",
        ),
        ({"sets": 2, "posts": 5}, "5 in 2 sets. Sets in more than one fold: 0. Two posts count"),
        ({"sets": 2, "posts": 5, "sets_straddling_folds": 1}, "1. A model was trained on a near copy"),
        ({"handling": "ignore"}, "No search was made for near-duplicate posts"),
    ],
)
def test_duplicates_are_declared(
    render: Render, data_statistics: dict[str, Any], duplicates: dict[str, Any], sentence: str
) -> None:
    data_statistics["duplicates"] |= duplicates
    assert sentence in render()


def test_the_fine_tuned_models_are_compared_with_each_baseline(render: Render, uncertainty: dict[str, Any]) -> None:
    other = uncertainty["baselines"]["tfidf"]
    other["headline"]["f1"] = {"estimate": 0.4, "low": 0.3, "high": 0.5, "undefined": 0.0}
    f1 = {"estimate": 0.2, "low": -0.1, "high": 0.3, "undefined": 0.0}
    other["difference"]["f1"] = {**f1, "p_value": 0.5, "p_holm": 0.0005}
    other["difference"]["average_precision"] = {"estimate": None, "low": None, "high": None, "p_value": None}
    for row, estimate, p_holm in zip(
        other["per_criterion"], [1, 1, -1, 1, 0, 0, 0, 0, 0], [0.05, 0.01, 0.02, 0.06, None, 1, 1, 1, 1], strict=True
    ):
        row |= {"estimate": estimate, "p_holm": p_holm}
    rows = {row[0]: row for row in tables(render())["compared with"][1:]}
    assert list(rows) == ["all-negative", "all-positive", "prior-only", "tfidf"]
    assert rows["tfidf"][1:] == [
        "0.400 (0.30-0.50)",
        "0.200 (-0.10 to 0.30)",
        "< 0.001",
        "not defined",
        "not defined",
        "2, 1",
    ]


def test_resamples_that_are_left_out_are_reported(render: Render, uncertainty: dict[str, Any]) -> None:
    for row in uncertainty["per_criterion"]:
        row["f1"]["undefined"] = 0.0
    assert "left out for it" not in render()
    uncertainty["per_criterion"][3]["f1"]["undefined"] = 0.0125
    assert "at most 1.2 % of" in render()


def test_the_spread_between_seeds_is_reported_where_there_is_one(render: Render, uncertainty: dict[str, Any]) -> None:
    assert "different seeds" not in render()
    f1 = {"mean": 0.61, "std_between_seeds": 0.023, "low": 0.5, "high": 0.7}
    uncertainty["seeds"] = {"repeats": ["this run", "b", "c"], "metrics": {"f1": f1}, "differences": {}}
    text = " ".join(render().split())
    assert "over 3 cross-validations with different seeds: mean 0.610 (0.50-0.70)" in text
    assert "standard deviation between seeds 0.023." in text
    assert "covers other posts and other seeds." in text and "each repeat with its own" not in text


def test_a_criterion_cannot_break_its_table(render: Render, criteria: pd.DataFrame) -> None:
    criteria.loc[3, "criterion"] = "sleep | too little\nor too much"
    assert tables(render())["criterion"][4][-1] == r"sleep \| too little or too much"


def test_the_configuration_is_printed_whole(render: Render, training_config: Config) -> None:
    block = re.search(r"```yaml\n(.*)```\n", render(), flags=re.DOTALL)
    assert block and yaml.safe_load(block[1]) == to_dict(training_config)


def test_every_figure_is_linked_once(render: Render) -> None:
    places = re.findall(r"^\[.+\]\(report\.html#figure-(.+)\)$", render(), flags=re.MULTILINE)
    assert sorted(places) == sorted(REPORT_FIGURES)


def test_the_report_links_to_the_page_with_its_figures(render: Render) -> None:
    assert "(report.html)\n" in render()[: render().index("## Data")]


def test_the_checklist_comes_last_and_names_sections_that_exist(render: Render) -> None:
    report = render()
    assert report.count("\n## TRIPOD+AI checklist\n") == 1
    titles = re.findall(r"^## (.+)$", report, flags=re.MULTILINE)
    assert titles[-1] == "TRIPOD+AI checklist" and titles[:2] == ["Summary", "Checks"]
    rows = {row[0]: row[2:] for row in tables(report)["item"][1:]}
    assert rows["12a"][1].endswith("section How epoch and threshold were chosen")
    assert rows["12a"][0] == "reported"
    assert rows["12e"] == ["reported", "sections Result, Calibration, Net benefit, Uncertainty"]


def test_the_report_says_what_it_is_not(render: Render) -> None:
    assert "never a diagnosis" in render()


def test_folds_whose_dev_pairs_have_one_label_are_named(render: Render, summary: dict[str, Any]) -> None:
    assert "same label" not in render()
    for number in (1, 4):
        summary["folds"][number] |= {"dev_f1": None, "selected_by": "loss", "threshold": 0.5}
    text = " ".join(render().split())
    assert "**All dev pairs of fold 1, 4 have the same label**" in text
    assert "There the loss chose the epoch, probabilities are not calibrated, the threshold is 0.50" in text
