"""The figures with a row per criterion, against scikit-learn."""

import pandas as pd
import pytest
from sklearn.metrics import confusion_matrix, f1_score

from mentallam.errors import MentallamError
from mentallam.evaluation.metrics import criterion_metrics
from mentallam.evaluation.resampling import Interval
from mentallam.reports.figures_criteria import FINE_TUNED, confusion, criterion_f1


def interval(low: float, high: float) -> Interval:
    return {"estimate": (low + high) / 2, "low": low, "high": high, "undefined": 0.0}


def test_the_four_cells_of_every_criterion_are_scikit_learns(oof: pd.DataFrame, criteria: pd.DataFrame) -> None:
    (cells,) = confusion(oof, criteria).data
    assert (cells.x, cells.y) == (("TP", "FN", "FP", "TN"), ("all", *criteria["criterion_id"]))
    for row, criterion_id in enumerate(cells.y):
        rows = oof if criterion_id == "all" else oof[oof["criterion_id"] == criterion_id]
        tn, fp, fn, tp = confusion_matrix(rows["label"], rows["prediction"]).ravel()
        assert tuple(cells.text[row]) == (str(tp), str(fn), str(fp), str(tn))
        assert tuple(cells.z[row]) == pytest.approx((tp / (tp + fn), fn / (tp + fn), fp / (fp + tn), tn / (fp + tn)))


def test_a_criterion_without_positives_has_no_share_of_them(oof: pd.DataFrame, criteria: pd.DataFrame) -> None:
    oof.loc[oof["criterion_id"] == "A.4", ["label", "prediction"]] = 0
    (cells,) = confusion(oof, criteria).data
    assert tuple(cells.text[4]) == ("0", "0", "0", "60")
    assert tuple(cells.z[4]) == (None, None, 0, 1)


def test_a_criterion_may_be_called_all(oof: pd.DataFrame, criteria: pd.DataFrame) -> None:
    expected = confusion(oof, criteria).data[0].text
    for table in (oof, criteria):
        table["criterion_id"] = table["criterion_id"].replace("A.1", "all")
    assert confusion(oof, criteria).data[0].text == expected


def test_a_criterion_that_is_not_listed_is_refused(oof: pd.DataFrame, criteria: pd.DataFrame) -> None:
    with pytest.raises(MentallamError, match=r"'A\.1', which the criteria do not list"):
        confusion(oof, criteria.drop(index=0))


def test_f1_of_every_criterion_without_baselines_and_intervals(oof: pd.DataFrame, criteria: pd.DataFrame) -> None:
    figure = criterion_f1(oof, criteria)
    model, everything = figure.data
    metrics = criterion_metrics(oof, criteria)
    assert model.name == FINE_TUNED and everything.name == "yes to everything"
    assert list(model.x) == [f1_score(oof["label"], oof["prediction"]), *(row["f1"] for row in metrics)]
    rate = oof["label"].mean()
    assert everything.x[0] == pytest.approx(2 * rate / (1 + rate))
    assert list(model.y) == list(range(10)) == list(figure.layout.yaxis.tickvals)
    assert figure.layout.yaxis.ticktext[9] == f"SUICIDAL_THOUGHTS<br>n+ = {metrics[8]['n_positive']}"


def test_each_baseline_has_a_mark_and_a_colour(oof: pd.DataFrame, criteria: pd.DataFrame) -> None:
    worse = oof.assign(prediction=0)
    baselines = pd.concat([worse.assign(model="tfidf"), oof.assign(model="embedding")], ignore_index=True)
    model, tfidf, embedding, _ = criterion_f1(oof, criteria, baselines).data
    assert (model.name, tfidf.name, embedding.name) == (FINE_TUNED, "tfidf", "embedding")
    assert set(tfidf.x) == {0} and embedding.x == model.x
    assert len({trace.marker.symbol for trace in (model, tfidf, embedding)}) == 3
    assert len({trace.marker.color for trace in (model, tfidf, embedding)}) == 3
    places = [y for trace in (model, tfidf, embedding) for y in trace.y]
    assert len(set(places)) == len(places) and all(abs(y - round(y)) < 0.5 for y in places)


def test_a_baseline_without_rows_is_not_drawn(oof: pd.DataFrame, criteria: pd.DataFrame) -> None:
    assert len(criterion_f1(oof, criteria, oof.assign(model="tfidf").iloc[:0]).data) == 2


def test_intervals_are_drawn_where_they_are_known(oof: pd.DataFrame, criteria: pd.DataFrame) -> None:
    known = {
        FINE_TUNED: {"all": interval(0.4, 0.6), "A.2": interval(0.25, 0.75)},
        "a model without predictions": {"A.2": interval(0.4, 0.6)},
    }
    lines, dots, _ = criterion_f1(oof, criteria, None, known).data
    assert lines.x == (0.4, 0.6, None, 0.25, 0.75, None)
    assert lines.y == (0, 0, None, 2, 2, None)
    assert dots.name == "model (95 % interval)"
    assert criterion_f1(oof, criteria, None, known, 0.9).data[1].name == "model (90 % interval)"
    pooled_only = {FINE_TUNED: {"all": interval(0.4, 0.6)}}
    assert criterion_f1(oof, criteria, None, pooled_only).data[1].name == "model (95 % interval of all criteria)"
    assert [bounds for _, bounds in dots.customdata][1:3] == ["", " (0.250 to 0.750)"]
    assert lines.line.color == dots.marker.color
