"""What all figures of the report have in common; the other tests of figures check their numbers."""

import json
from typing import Any

import pandas as pd
import plotly.io
import pytest
from plotly.graph_objects import Figure

from mentallam.evaluation.thresholds import predict_labels
from mentallam.reports.figures import REPORT_FIGURES, fold_figures, report_figures


@pytest.fixture
def figures(oof: pd.DataFrame, criteria: pd.DataFrame) -> dict[str, Figure]:
    return report_figures(oof, criteria, synthetic=True)


def plain(figure: Figure) -> dict[str, Any]:
    return dict(json.loads(figure.to_json()))


def titles(figure: Figure, axis: str) -> list[str]:
    layout = plain(figure)["layout"]
    return [
        part["title"]["text"] for name, part in layout.items() if name.startswith(axis) and part["title"].get("text")
    ]


def test_they_are_those_that_are_announced(figures: dict[str, Figure]) -> None:
    assert tuple(figures) == REPORT_FIGURES


def test_axes_carry_titles(figures: dict[str, Figure]) -> None:
    for name, figure in figures.items():
        assert titles(figure, "xaxis"), name
        has_criteria_down = name in ("confusion", "criterion_f1")
        assert has_criteria_down or len(titles(figure, "yaxis")) == len(list(figure.select_yaxes())), name
    assert titles(figures["precision_recall"], "yaxis") == ["precision (0 to 1)"]
    assert titles(figures["learning_curves"], "xaxis") == ["optimizer step"]


def test_saved_figures_can_be_loaded(figures: dict[str, Figure]) -> None:
    for figure in figures.values():
        assert "bdata" not in figure.to_json()  # Kedro-Viz's plotly.js reads plain lists only.
        assert plotly.io.from_json(figure.to_json()).to_plotly_json()


def test_synthetic_data_are_marked_on_each(oof: pd.DataFrame, criteria: pd.DataFrame) -> None:
    for synthetic in (True, False):
        drawn = [*report_figures(oof, criteria, synthetic).values(), *fold_figures(oof, criteria, synthetic).values()]
        assert {"SYNTHETIC DATA" in figure.to_json() for figure in drawn} == {synthetic}


def test_the_mark_gets_additional_space(oof: pd.DataFrame, criteria: pd.DataFrame) -> None:
    marked, bare = (report_figures(oof, criteria, synthetic)["roc"].layout for synthetic in (True, False))
    assert marked.height - bare.height == marked.margin.b - bare.margin.b > 0


def test_no_trace_has_a_point_per_pair_or_names_a_post(oof: pd.DataFrame, criteria: pd.DataFrame) -> None:
    for figure in report_figures(oof, criteria, synthetic=False).values():
        assert all(len(trace.y or ()) < len(oof) / 2 for trace in figure.data)
        assert not [post_id for post_id in oof["post_id"].unique() if f'"{post_id}"' in figure.to_json()]


def test_the_figures_of_a_fold_show_that_fold_alone(folds: list[pd.DataFrame], criteria: pd.DataFrame) -> None:
    figures = fold_figures(folds[2], criteria, synthetic=False)
    assert list(figures) == ["precision_recall", "confusion"]
    names = [trace.name.split(":")[0] for trace in figures["precision_recall"].data]
    assert names == ["fold 2", "chosen", "chance"]


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(("n_criteria", "n_folds", "label"), [(38, 2, None), (1, 1, None), (9, 3, 0), (9, 3, 1)])
def test_any_number_of_criteria_and_folds_and_one_label_alone(n_criteria: int, n_folds: int, label: int | None) -> None:
    ids = [f"c{number}" for number in range(n_criteria)]
    criteria = pd.DataFrame({"criterion_id": ids, "symptom": ids, "criterion": ids})
    rows = [
        (f"p{post}", criterion_id, post % n_folds, int((post + place) % 7 == 0) if label is None else label)
        for post in range(24)
        for place, criterion_id in enumerate(ids)
    ]
    pairs = pd.DataFrame(rows, columns=["post_id", "criterion_id", "fold", "label"])
    pairs["probability"] = [((7 * number) % 100) / 100 for number in range(len(pairs))]
    pairs = pairs.assign(group=pairs["post_id"], explicit_negative=False, threshold=0.5)
    pairs["prediction"] = predict_labels(pairs["probability"], pairs["threshold"])
    figures = report_figures(pairs, criteria, synthetic=True)
    assert tuple(figures) == REPORT_FIGURES
    assert len(figures["confusion"].data[0].y) == n_criteria + 1
    assert len(figures["criterion_f1"].layout.yaxis.ticktext) == n_criteria + 1
    sentences = [note.text for note in figures["roc"].layout.annotations]
    assert ("All pairs have the same label." in sentences) == (label is not None)


def test_a_name_cannot_become_markup(oof: pd.DataFrame, criteria: pd.DataFrame) -> None:
    criteria.loc[0, "symptom"] = "<img src=x>"
    baselines = oof.assign(model="<b>tfidf</b>")
    for figure in report_figures(oof, criteria, synthetic=False, baselines=baselines).values():
        assert "<img" not in figure.to_json().replace("\\u003c", "<")
        assert "<b>tfidf" not in figure.to_json().replace("\\u003c", "<")
