from itertools import count
from typing import Any

import pandas as pd
import pytest

from mentallam.evaluation.learning_curve import CURVE_METRICS, learning_curve
from mentallam.evaluation.resampling import UncertaintyOptions
from mentallam.reports.figures_learning_curve import size_curve
from mentallam.reports.learning_curve_report import answer, learning_curve_tables, render_learning_curve
from mentallam.reports.report_page import render_report_page
from tests.unit.predictions import worse
from tests.unit.reports.test_table_columns import distinct
from tests.unit.reports.test_tables import csv_of, interval, named, numbers_of, printed
from tests.unit.seen import Page, tables


@pytest.fixture
def curve(oof: pd.DataFrame, data_statistics: dict[str, Any], options: UncertaintyOptions) -> dict[str, Any]:
    poor = worse(oof)
    scored = {("model", 50): poor, ("model", 100): oof, ("tfidf", 50): poor, ("tfidf", 100): poor}
    predictions = pd.concat([table.assign(model=model, size=size) for (model, size), table in scored.items()])
    splits = [
        {"fold": 0, "size": size, "train": ["p"] * size, "train_pairs": 9 * size, "train_positive": size // 3}
        for size in (50, 100)
    ]
    return learning_curve(predictions, splits, data_statistics, options)


def test_every_number_of_the_tables_is_that_of_the_curve(curve: dict[str, Any]) -> None:
    sizes = curve["sizes"]
    curve = {**distinct(curve, count(100)), "sizes": sizes}
    for rows in curve["curves"].values():
        for row, size in zip(rows, sizes, strict=True):
            row["size"] = size["size"]
    texts = learning_curve_tables(curve)
    labels = {"f1": "F1", "average_precision": "average precision", "macro_f1": "macro F1"}
    expected = []
    in_csv = []
    for model, rows in curve["curves"].items():
        for row, size in zip(rows, sizes, strict=True):
            numbers = {labels[name]: interval(row[name]) for name in CURVE_METRICS}
            expected.append({"posts": [size["posts"]], "n+": [size["positive"]], **numbers})
            flat = {key: value for name in CURVE_METRICS for key, value in named(name, row[name]).items()}
            about = {"classifier": model, "posts": size["posts"], "positive": size["positive"]}
            in_csv.append({"size": size["size"], **about, **flat})
    assert printed(texts, "learning_curve") == [expected, expected]
    assert csv_of(texts, "learning_curve") == in_csv
    gains = tables(render_learning_curve(curve))["difference"][1:]
    differences = [*curve["last_doubling"]["difference"].values(), *curve["ahead"]]
    for cells, difference in zip(gains, differences, strict=True):
        flat = [
            number for name in CURVE_METRICS for number in (*interval(difference[name]), difference[name]["p_value"])
        ]
        assert [number for cell in cells[1:] for number in numbers_of(cell)] == flat


@pytest.mark.parametrize(
    ("bounds", "words"),
    [
        ((0.1, 0.02, 0.2), "F1 still rose by 0.100 (interval of the difference: 0.020 to 0.200) from 50 to 100 % of"),
        ((0.1, -0.02, 0.2), "F1 rose by 0.100 (interval of the difference: -0.020 to 0.200)"),
        ((-0.1, -0.2, 0.02), "F1 fell by 0.100"),
        ((-0.1, -0.2, -0.02), "did not help, unless one training went badly"),
        ((None, None, None), "F1 is not defined at these sizes"),
    ],
)
def test_the_answer_says_no_more_than_the_interval(
    curve: dict[str, Any], bounds: tuple[float | None, ...], words: str
) -> None:
    gain = curve["last_doubling"]["difference"]["model"]["f1"]
    gain |= dict(zip(("estimate", "low", "high"), bounds, strict=True))
    sentence = answer(curve)
    assert words in sentence and sentence in render_learning_curve(curve)
    assert ("likely to help" in sentence) == (bounds[1] is not None and bounds[1] > 0)


def test_the_page_has_the_figure_and_synthetic_data_are_marked(curve: dict[str, Any]) -> None:
    report, figure = render_learning_curve(curve), size_curve(curve)
    page = Page(render_report_page(report, {"learning_curve": figure}, curve["synthetic"]))
    assert [tag for tag, attributes in page.tags if attributes.get("id") == "figure-learning_curve"] == ["figure"]
    assert "SYNTHETIC DATA" in report and "SYNTHETIC DATA" in figure.to_json()
    curve["synthetic"] = False
    assert "SYNTHETIC" not in render_learning_curve(curve) + size_curve(curve).to_json()


def test_the_figure_shows_each_classifier_in_both_panels(curve: dict[str, Any]) -> None:
    lines = [trace for trace in size_curve(curve).data if trace.mode == "lines+markers"]
    assert [trace.name for trace in lines] == ["model (95 % interval)"] * 2 + ["tfidf (95 % interval)"] * 2
    assert list(lines[0].x) == [50, 100]
    assert list(lines[1].y) == [row["average_precision"]["estimate"] for row in curve["curves"]["model"]]
    assert len({(trace.line.dash, trace.marker.symbol) for trace in lines}) == 2  # told apart in grey
