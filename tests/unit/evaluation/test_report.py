import re
from collections.abc import Callable
from typing import Any

import pandas as pd
import pytest
import yaml

from mentallam.evaluation.plots import oof_figures
from mentallam.evaluation.report import render_report

BANNER = "SYNTHETIC DATA: these numbers say nothing about people"

Render = Callable[[], str]


@pytest.fixture
def render(
    summary: dict[str, Any],
    data_statistics: dict[str, Any],
    training_config: dict[str, Any],
    criteria: pd.DataFrame,
) -> Render:
    """Renders with the fixtures as the test has changed them by then."""
    return lambda: render_report(summary, data_statistics, training_config, criteria)


def tables(report: str) -> dict[str, list[list[str]]]:
    """Cells of every Markdown table by its first heading, the header first, without its ruler."""
    blocks = re.findall(r"(?:^\|.*\|\n)+", report, flags=re.MULTILINE)
    rows = [[re.split(r" *(?<!\\)\| *", line)[1:-1] for line in block.splitlines()] for block in blocks]
    return {header[0]: [header, *body] for header, _, *body in rows}


def test_synthetic_data_are_announced_before_any_number(render: Render, summary: dict[str, Any]) -> None:
    report = render()
    assert report.index(BANNER) < report.index("## Data")
    summary["synthetic"] = False
    assert "synthetic" not in render().lower()


def test_every_table_has_all_its_rows_and_cells(render: Render) -> None:
    found = tables(render())
    sizes = {name: len(table) for name, table in found.items()}
    assert sizes == {"metric": 12, "protocol": 4, "fold": 6, "criterion": 10, "pairs of": 6}
    for table in found.values():
        assert {len(row) for row in table} == {len(table[0])}
        assert all(cell for row in table for cell in row)


def test_the_headline_shows_mean_spread_pool_and_baselines(render: Render, summary: dict[str, Any]) -> None:
    f1 = summary["metrics"]["f1"]
    assert tables(render())["metric"][1] == [
        "**F1**",
        f"{f1['mean']:.3f} ± {f1['std']:.3f}",
        f"{summary['pooled']['f1']:.3f}",
        "0.000",
        f"{summary['baselines']['all_positive']['f1']:.3f}",
        f"{summary['baselines']['prior_only']['f1']:.3f}",
    ]


def test_protocols_stand_side_by_side(render: Render, summary: dict[str, Any]) -> None:
    rows = {row[0]: row for row in tables(render())["protocol"]}
    assert list(rows) == ["protocol", "honest", "cross-fitted", "same-fold"]
    assert rows["honest"][3] == f"{summary['pooled']['f1']:.3f}"
    own = summary["metrics"]["f1_same_fold"]
    assert rows["same-fold"][2] == f"{own['mean']:.3f} ± {own['std']:.3f}"


def test_explicit_negatives_are_told(render: Render, summary: dict[str, Any]) -> None:
    assert "No pair is marked as an explicit negative." in render()
    summary["explicit_negatives"] = {"n": 8, "false_alarms": 2, "rate": 0.25, "rate_of_other_unmatched": 0.1}
    assert "2 of 8 are false alarms (0.250, against\n0.100 of the other unmatched pairs)" in render()


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


def test_selection_is_spelled_out(render: Render, summary: dict[str, Any]) -> None:
    report = render()
    assert f"Selection optimism: {summary['selection_optimism']:.3f}." in report
    assert "Platt-scaled; one threshold for all criteria, by F1 on the inner dev split" in report
    assert "The epoch was chosen by its `average_precision`" in report
    assert re.search(r"Fold\s+3\s+has\s+the\s+best\s+F1\s+on\s+its\s+dev\s+split", report)


def test_undefined_metrics_are_named_as_such(render: Render, summary: dict[str, Any]) -> None:
    summary["metrics"]["roc_auc"] = {"mean": 0.8, "std": 0.1, "n": 4}
    summary["metrics"]["average_precision"] = {"mean": None, "std": None, "n": 0}
    summary["pooled"]["roc_auc"] = None
    result = tables(render())["metric"]
    assert result[7][1:3] == ["0.800 ± 0.100 (4 of 5 folds)", "not defined"]
    assert result[8][1] == "not defined"


def test_the_override_reason_is_printed(render: Render, data_statistics: dict[str, Any]) -> None:
    assert "accepted because" not in render()
    data_statistics["counts"]["override_reason"] = "a later release of the corpus"
    assert "accepted because: a later release of the corpus." in render()


def test_expected_counts_are_told(render: Render, data_statistics: dict[str, Any]) -> None:
    assert "seed 42. Expected were 60 posts, 9 criteria, 540 pairs.\n" in render()
    data_statistics["counts"]["expected"] |= {"pairs": None, "explicit_negative": 3}
    assert "seed 42. Expected were 60 posts, 9 criteria, 3 explicit negative.\n" in render()
    data_statistics["counts"]["expected"] = dict.fromkeys(["posts", "criteria", "pairs"])
    assert "seed 42.\n" in render()


def test_pairs_without_a_label_are_told(render: Render, summary: dict[str, Any]) -> None:
    assert "no label" not in render()
    summary["n_pairs"] -= 7
    assert " 7 pairs of these posts and criteria have no label" in render()


def test_a_criterion_without_a_name_is_called_by_its_id(render: Render, summary: dict[str, Any]) -> None:
    assert tables(render())["criterion"][1][0] == "A.1 DEPRESSED_MOOD"
    summary["per_criterion"][0]["symptom"] = "A.1"
    assert tables(render())["criterion"][1][0] == "A.1"


@pytest.mark.parametrize(
    ("n_authors", "n_straddling", "sentence"),
    [
        (45, 9, "Authors with posts in more than one fold: 9 of 45."),
        (45, 0, "No author has posts in more than one fold."),
        (None, None, "is unknown"),
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
        ({}, "No two posts are nearly the same (similarity at least 0.8)."),
        ({"sets": 2, "posts": 5}, "5 in 2 sets. Sets in more than one fold: 0.\n"),
        ({"sets": 2, "posts": 5, "sets_straddling_folds": 1}, "1. A model was trained on a near copy"),
        ({"handling": "ignore"}, "were not looked for"),
    ],
)
def test_duplicates_are_declared(
    render: Render, data_statistics: dict[str, Any], duplicates: dict[str, Any], sentence: str
) -> None:
    data_statistics["duplicates"] |= duplicates
    assert sentence in render()


def test_a_criterion_cannot_break_its_table(render: Render, criteria: pd.DataFrame) -> None:
    criteria.loc[3, "criterion"] = "sleep | too little\nor too much"
    assert tables(render())["criterion"][4][-1] == r"sleep \| too little or too much"


def test_the_configuration_is_printed_whole(render: Render, training_config: dict[str, Any]) -> None:
    block = re.search(r"```yaml\n(.*)```\n*\Z", render(), flags=re.DOTALL)
    assert block and yaml.safe_load(block[1]) == training_config


def test_the_pictures_are_those_that_are_drawn(render: Render, oof: pd.DataFrame, criteria: pd.DataFrame) -> None:
    assert re.findall(r"!\[.+\]\((.+)\.png\)", render()) == list(oof_figures(oof, criteria))


def test_the_report_says_what_it_is_not(render: Render) -> None:
    assert "never a diagnosis" in render()
