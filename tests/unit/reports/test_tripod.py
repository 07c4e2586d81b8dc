"""The checklist claims what the report holds, and nothing more."""

import re
from typing import Any

import pytest

from mentallam.config import Config
from mentallam.evaluation.metrics import METRICS
from mentallam.reports.tripod import MISSING, NOT_APPLICABLE, PARTLY, REPORTED, checklist, figures_with_intervals
from tests.unit.seen import tables

Facts = dict[str, Any]
INTERVAL = re.compile(r"\((-?\d\.\d+)(?:-| to )(-?\d\.\d+)\)")


@pytest.fixture
def titles(report: str) -> list[str]:
    return re.findall(r"^## (.+)$", report, flags=re.MULTILINE)[:-1]


class Filled:
    """The checklist of the fixtures, as a test has changed them."""

    def __init__(self, *facts: Any) -> None:
        self._facts = facts

    def row(self, numbers: str, sections: list[str]) -> dict[str, str]:
        [row] = [row for row in self.rows(sections) if row["numbers"] == numbers]
        return row

    def rows(self, sections: list[str]) -> list[dict[str, str]]:
        return checklist(sections, *self._facts)


@pytest.fixture
def filled(summary: Facts, uncertainty: Facts, data_statistics: Facts, training_config: Config) -> Filled:
    return Filled(summary, uncertainty, data_statistics, training_config)


def test_every_item_has_a_row_and_a_known_status(filled: Filled, titles: list[str]) -> None:
    rows = filled.rows(titles)
    named = {int(number) for row in rows for number in re.findall(r"\d+", row["numbers"])}
    assert named == set(range(1, 28))
    assert {row["status"] for row in rows} == {REPORTED, PARTLY, MISSING, NOT_APPLICABLE}
    for row in rows:
        assert row["text"] and row["topic"]
        assert ("Lacking: " in row["text"]) == (row["status"] == PARTLY)


def test_the_report_prints_these_rows(report: str, filled: Filled, titles: list[str]) -> None:
    printed = tables(report)["item"][1:]
    assert printed == [[row["numbers"], row["topic"], row["status"], row["text"]] for row in filled.rows(titles)]


def test_a_section_that_is_named_is_in_the_report(filled: Filled, titles: list[str]) -> None:
    named = set()
    for row in filled.rows(titles):
        if found := re.search(r"(?:^|; )sections? ([^.;]+)", row["text"]):
            named |= set(found[1].split(", "))
    assert len(named) > 8
    assert named <= set(titles)


@pytest.mark.parametrize(
    ("items", "section", "status", "words"),
    [
        ("12a", "How epoch and threshold were chosen", PARTLY, "epoch, calibration and threshold"),
        ("21", "Folds", MISSING, "pairs and positives"),
        ("12e", "Calibration", PARTLY, "sections Result, Net benefit, Uncertainty"),
    ],
)
def test_a_section_that_is_gone_is_no_longer_claimed(
    filled: Filled, titles: list[str], items: str, section: str, status: str, words: str
) -> None:
    assert section in filled.row(items, titles)["text"]
    titles.remove(section)
    row = filled.row(items, titles)
    assert row["status"] == status and words in row["text"] and section not in row["text"]


def test_the_intervals_that_are_claimed_are_those_that_are_printed(
    report: str, filled: Filled, titles: list[str], uncertainty: Facts
) -> None:
    having, lacking = figures_with_intervals(uncertainty)
    printed = {
        re.sub(r"\*\*| \(less is better\)", "", row[0]): bool(INTERVAL.search(row[2]))
        for row in tables(report)["metric"][1:]
    }
    assert {label for label, has in printed.items() if has} == {*having} - {"macro F1"}
    assert {label for label, has in printed.items() if not has} == {*lacking}
    assert {*having, *lacking} == {metric.label for metric in METRICS}
    assert INTERVAL.search(report[report.index("Macro F1, the mean") :].partition("\n")[0])
    text = filled.row("23a", titles)["text"]
    claimed, _, without = text.partition(". Lacking: ")
    assert claimed.startswith(f"intervals of {', '.join(having)}, F1 per criterion; sections Result, ")
    assert all(label in without for label in lacking)


def test_tables_without_an_interval_are_said_to_have_none(report: str, filled: Filled, titles: list[str]) -> None:
    found = tables(report)
    assert not any(INTERVAL.search(cell) for row in found["pairs of"] for cell in row)
    header, *rows = found["criterion"]
    assert {header[k] for row in rows for k, cell in enumerate(row) if INTERVAL.search(cell)} == {"F1"}
    row = filled.row("23a", titles)
    assert row["status"] == PARTLY
    assert "all figures of the section Where the errors are" in row["text"]
    assert "precision, recall and ROC-AUC per criterion" in row["text"]


def test_without_intervals_none_is_claimed(filled: Filled, titles: list[str], uncertainty: Facts) -> None:
    for figure in (
        *uncertainty["headline"].values(),
        *(row["f1"] for row in uncertainty["per_criterion"]),
        *(check for check in uncertainty["calibration"].values() if isinstance(check, dict) and "low" in check),
    ):
        figure |= {"low": None, "high": None}
    row = filled.row("23a", titles)
    assert row["status"] == MISSING
    assert row["text"].startswith("intervals of F1, precision, recall")
    assert "all figures per criterion" in row["text"]


def test_the_spread_over_folds_is_not_offered_as_heterogeneity(filled: Filled, titles: list[str]) -> None:
    for items in ("12d", "23b"):
        row = filled.row(items, titles)
        assert row["status"] == MISSING
        assert "folds are random parts of one source, so the spread over them does not stand for it" in row["text"]


def test_rows_hold_the_figures_of_the_run(filled: Filled, titles: list[str], summary: Facts) -> None:
    assert filled.row("10", titles)["text"].startswith(
        f"60 posts, 540 pairs, {summary['n_positive']} positive. Lacking: "
    )
    assert filled.row("7", titles)["text"].endswith(": none was")
    assert filled.row("11", titles)["text"].startswith("0 of 540 pairs")
    summary["n_pairs"] -= 7
    summary["slices"].append({**summary["slices"][0], "slice": "truncated posts", "n_posts": 4})
    assert filled.row("7", titles)["text"].endswith(": 4 of 60 posts")
    assert filled.row("11", titles)["text"].startswith("7 of 540 pairs")
