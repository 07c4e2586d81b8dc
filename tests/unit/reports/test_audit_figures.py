"""The numbers of the audit's figures, read back from the saved JSON."""

import json
from typing import Any

import plotly.io
import pytest

from mentallam.corpus.audit import audit_facts
from mentallam.reports.audit_figures import AUDIT_FIGURES, audit_figures
from tests.unit.audited import CRITERIA, FOLDS, NOT_COUNTED, PAIRS, POSTS, STATISTICS, TOKENS


def figures_of(**changes: Any) -> dict[str, dict[str, Any]]:
    facts = audit_facts(POSTS, CRITERIA, PAIRS, FOLDS, STATISTICS, [TOKENS, NOT_COUNTED])
    figures = audit_figures({**facts, **changes})
    return {name: json.loads(figure.to_json()) for name, figure in figures.items()}


@pytest.fixture(scope="module")
def figures() -> dict[str, dict[str, Any]]:
    return figures_of()


def titles(figure: dict[str, Any]) -> tuple[str, str]:
    return figure["layout"]["xaxis"]["title"]["text"], figure["layout"]["yaxis"]["title"]["text"]


def test_they_are_those_that_are_announced(figures: dict[str, Any]) -> None:
    assert tuple(figures) == AUDIT_FIGURES


def test_class_balance(figures: dict[str, Any]) -> None:
    positive, negative = figures["class_balance"]["data"]
    assert (positive["name"], positive["y"], positive["x"]) == ("positive", ["A", "B", "C"], [2, 2, 0])
    assert (negative["name"], negative["x"]) == ("explicit negative", [1, 1, 0])


def test_co_occurrence(figures: dict[str, Any]) -> None:
    (cells,) = figures["co_occurrence"]["data"]
    assert (cells["y"], cells["x"]) == (["B", "C"], ["A", "B"])
    assert cells["z"] == [[pytest.approx(1 / 3), None], [0, 0]]
    assert cells["text"] == [["1", ""], ["0", "0"]]
    assert cells["customdata"][0][0] == ["SECOND", "FIRST", "1.00"]


def test_lengths_are_drawn_by_their_edges(figures: dict[str, Any]) -> None:
    words, tokens = figures["lengths"]["data"]
    assert (words["x"], words["y"]) == ([3, 3, 4, 5, 6, 7], [0, 2, 1, 0, 1, 0])
    assert (tokens["name"], tokens["x"], tokens["y"]) == ("tokens, tiny", [3, 3, 4, 5], [0, 2, 2, 0])
    assert words["line"] != tokens["line"]


def test_truncation(figures: dict[str, Any]) -> None:
    (curve,) = figures["truncation"]["data"]
    assert (curve["x"], curve["y"]) == ([128, 256, 300, 512, 1024], [100, 75, 50, 25, 0])
    sizes = curve["marker"]["size"]
    assert max(sizes) == sizes[2] and sizes.count(max(sizes)) == 1  # The configured length stands out.


def test_a_figure_without_data_says_so() -> None:
    figures = figures_of(tokens=[NOT_COUNTED], authors=None)
    for name, words in (("truncation", "Tokens were not counted."), ("authors", "does not name its authors")):
        assert figures[name]["data"] == []
        assert words in figures[name]["layout"]["annotations"][0]["text"]
    assert [trace["name"] for trace in figures["lengths"]["data"]] == ["words"]


def test_authors(figures: dict[str, Any]) -> None:
    (bars,) = figures["authors"]["data"]
    assert (bars["x"], bars["y"]) == (["1", "2"], [0, 2])


def test_fold_balance(figures: dict[str, Any]) -> None:
    (cells,) = figures["fold_balance"]["data"]
    assert (cells["y"], cells["x"]) == (["A", "B", "C"], ["0", "1"])
    assert cells["z"] == [[50, -50], [0, 0], [0, 0]]
    assert cells["text"] == [["2", "0"], ["1", "1"], ["0", "0"]]
    assert (cells["zmin"], cells["zmax"]) == (-50, 50)


def test_small_differences_between_folds_stay_pale() -> None:
    folds = {"posts": [9, 9], "positives": [[1, 1]] * 3, "deviations": [[0.002, -0.002]] * 3}
    (cells,) = figures_of(folds=folds)["fold_balance"]["data"]
    assert (cells["zmin"], cells["zmax"]) == (-1, 1)


def test_axes_carry_titles(figures: dict[str, Any]) -> None:
    for name in ("lengths", "truncation", "authors"):
        assert all(titles(figures[name]))
    assert titles(figures["class_balance"])[0] == "pairs"
    assert titles(figures["fold_balance"])[0] == "fold"


def test_long_names_are_cut_on_axes_and_whole_in_the_hover_text() -> None:
    name = "A criterion whose name does not end for a long while"
    counts = {"pairs": 3, "positive": 1, "explicit_negative": 0}
    rows = [{"criterion_id": f"c{k}", "symptom": name, **counts} for k in (0, 1)]
    together = {kind: [[1, 0]] * 2 for kind in ("posts", "jaccard", "lift")}
    figures = figures_of(criteria=rows, co_occurrence=together)
    axis = figures["class_balance"]["layout"]["yaxis"]
    assert axis["tickvals"] == ["c0", "c1"]
    assert axis["ticktext"] == ["c0 A criterion whose …", "c1 A criterion whose …"]
    assert figures["class_balance"]["data"][0]["customdata"][0][0] == name


def test_saved_figures_can_be_loaded(figures: dict[str, Any]) -> None:
    for figure in figures.values():
        assert "bdata" not in json.dumps(figure)  # Kedro-Viz's plotly.js reads plain lists only.
        assert plotly.io.from_json(json.dumps(figure)).to_plotly_json()
