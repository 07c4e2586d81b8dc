"""The numbers of the curves, against scikit-learn."""

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from plotly.graph_objects import Figure
from scipy.stats import binomtest
from sklearn.metrics import f1_score, precision_recall_curve, precision_score, recall_score, roc_curve

from mentallam.errors import MentallamError
from mentallam.evaluation.calibration import reliability as reliability_bins
from mentallam.evaluation.thresholds import predict_labels, sweep
from mentallam.reports.figures_scores import (
    precision_recall,
    reliability,
    roc,
    score_histograms,
    threshold_curves,
)


def traces(figure: Figure) -> dict[str, list[Figure]]:
    """Return the traces by the part of their name before the colon."""
    found: dict[str, list[Figure]] = {}
    for trace in figure.data:
        found.setdefault((trace.name or "").split(":")[0], []).append(trace)
    return found


def test_precision_and_recall_are_scikit_learns(oof: pd.DataFrame) -> None:
    found = traces(precision_recall(oof))
    assert list(found) == [*(f"fold {fold}" for fold in range(5)), "pooled", "chosen", "chance"]
    for name, pairs in [("fold 3", oof[oof["fold"] == 3]), ("pooled", oof)]:
        precision, recall, _ = precision_recall_curve(pairs["label"], pairs["probability"], drop_intermediate=True)
        assert (found[name][0].x, found[name][0].y) == (tuple(recall), tuple(precision))
    assert found["chance"][0].y == (oof["label"].mean(),) * 2


def test_roc_is_scikit_learns(oof: pd.DataFrame) -> None:
    found = traces(roc(oof))
    assert len(found) == 5 + 3
    for name, pairs in [("fold 3", oof[oof["fold"] == 3]), ("pooled", oof)]:
        false_positive_rate, recall, _ = roc_curve(pairs["label"], pairs["probability"])
        assert (found[name][0].x, found[name][0].y) == (tuple(false_positive_rate), tuple(recall))


def test_dots_are_what_each_fold_reached(oof: pd.DataFrame) -> None:
    (dots,) = traces(precision_recall(oof))["chosen"]
    (roc_dots,) = traces(roc(oof))["chosen"]
    for fold, rows in oof.groupby("fold"):
        recall = recall_score(rows["label"], rows["prediction"])
        assert dots.x[fold] == roc_dots.y[fold] == pytest.approx(recall)
        assert dots.y[fold] == pytest.approx(precision_score(rows["label"], rows["prediction"]))
        assert roc_dots.x[fold] == pytest.approx(1 - recall_score(1 - rows["label"], 1 - rows["prediction"]))
    colours = [traces(precision_recall(oof))[f"fold {fold}"][0].line.color for fold in range(5)]
    assert list(dots.marker.color) == colours


def test_folds_differ_in_colour_and_dash(oof: pd.DataFrame) -> None:
    lines = [trace.line for name, (trace, *_) in traces(roc(oof)).items() if name.startswith("fold")]
    assert len({line.color for line in lines}) == len({line.dash for line in lines}) == 5


def test_a_fold_with_one_label_has_no_curve(oof: pd.DataFrame) -> None:
    oof.loc[oof["fold"] == 2, "label"] = 0
    oof.loc[oof["fold"] == 4, "label"] = 1
    assert [name for name in traces(precision_recall(oof)) if name.startswith("fold")] == [
        *("fold 0", "fold 1", "fold 3", "fold 4")
    ]
    assert [name for name in traces(roc(oof)) if name.startswith("fold")] == ["fold 0", "fold 1", "fold 3"]


def test_reliability_shows_the_bins_of_the_calibration_error_on_a_square_root_scale(oof: pd.DataFrame) -> None:
    bins = reliability_bins(oof["label"], oof["probability"])
    _, points, _ = reliability(oof).data
    assert np.square(points.x) == pytest.approx(bins["probability"])
    assert np.square(points.y) == pytest.approx(bins["observed"])
    assert points.name == "bins of 54 pairs, 95 % interval"
    for place, row in enumerate(bins.itertuples()):
        positives = round(row.n * row.observed)
        wilson = binomtest(positives, row.n).proportion_ci(0.95, method="wilson")
        assert list(points.customdata[place]) == [
            *(positives, row.n, wilson.low, wilson.high),
            *(row.probability, row.observed),
        ]
        assert (points.y[place] + points.error_y.array[place]) ** 2 == pytest.approx(wilson.high)
        assert (points.y[place] - points.error_y.arrayminus[place]) ** 2 == pytest.approx(wilson.low, abs=1e-9)


def test_reliability_spreads_the_bins_of_a_low_base_rate(oof: pd.DataFrame) -> None:
    """Seven of ten bins below 0.05 share a fifth of the axis, and not a twentieth."""
    oof["probability"] = np.linspace(0.0, 1.0, len(oof)) ** 8
    _, points, _ = reliability(oof).data
    assert sum(np.square(points.x) < 0.05) == 7
    assert max(x for x in points.x if x**2 < 0.05) > 0.15


def test_reliability_shows_how_many_pairs_have_which_probability(oof: pd.DataFrame) -> None:
    *_, bars = reliability(oof).data
    assert sum(bars.y) == len(oof)
    below = oof["probability"] < bars.customdata[0][1]
    assert (bars.customdata[0][1], bars.y[0]) == (pytest.approx(0.04**2), below.sum())


@pytest.mark.parametrize("draw", [reliability, score_histograms])
def test_the_axis_says_whether_probabilities_are_calibrated(oof: pd.DataFrame, draw: Callable[..., Figure]) -> None:
    for calibrated, word in ((True, "calibrated probability"), (False, "uncalibrated probability")):
        titles = [axis.title.text for axis in draw(oof, calibrated).select_xaxes() if axis.title.text]
        assert [title.startswith(word) for title in titles] == [True]


def test_reliability_says_where_bins_are_unequal() -> None:
    pairs = pd.DataFrame({"probability": [0.1, 0.1, 0.1, 0.9], "label": [0, 0, 1, 1]})
    assert reliability(pairs).data[1].name == "bins of 1 to 3 pairs, 95 % interval"


def test_reliability_refuses_a_value_that_is_not_a_probability() -> None:
    with pytest.raises(MentallamError, match="not a number from 0 to 1"):
        reliability(pd.DataFrame({"probability": [1.5], "label": [1]}))


def test_threshold_curves_are_those_of_the_sweep(oof: pd.DataFrame) -> None:
    found = traces(threshold_curves(oof))
    assert {name: len(panels) for name, panels in found.items()} == dict.fromkeys(
        [*(f"fold {fold}" for fold in range(5)), "pooled", "chosen"], 3
    )
    rows = oof[oof["fold"] == 1]
    precision, recall, f1 = found["fold 1"]
    curve = sweep(rows["label"], rows["probability"])
    assert (list(f1.x), list(f1.y)) == (list(curve["threshold"]), list(curve["f1"]))
    assert list(recall.y) == list(curve["recall"])
    is_predicted = curve["threshold"] <= rows["probability"].max()
    assert [y for y in precision.y if y is not None] == list(curve["precision"][is_predicted])
    assert not is_predicted.all()


def test_a_folds_threshold_lies_on_its_curve(oof: pd.DataFrame) -> None:
    oof["threshold"] += 0.003  # The thresholds are now off the grid.
    oof["prediction"] = predict_labels(oof["probability"], oof["threshold"])
    found = traces(threshold_curves(oof))
    for row in range(3):
        dots = found["chosen"][row]
        for fold in range(5):
            curve = found[f"fold {fold}"][row]
            assert dots.y[fold] == pytest.approx(curve.y[curve.x.index(dots.x[fold])])
        assert dots.error_x.array is None


def test_thresholds_per_criterion_are_a_range(oof: pd.DataFrame) -> None:
    oof["threshold"] = oof["criterion_id"].str[2:].astype(int) / 10
    oof["prediction"] = predict_labels(oof["probability"], oof["threshold"])
    dots = traces(threshold_curves(oof))["chosen"][2]
    assert dots.x == (0.5,) * 5
    assert [round(length, 6) for length in (dots.error_x.array[0], dots.error_x.arrayminus[0])] == [0.4, 0.4]
    rows = oof[oof["fold"] == 0]
    assert dots.y[0] == pytest.approx(f1_score(rows["label"], rows["prediction"]))


def test_without_explicit_negatives_there_is_no_empty_panel_for_them(oof: pd.DataFrame) -> None:
    oof["explicit_negative"] = False
    matched, unmatched = score_histograms(oof).data
    assert (sum(matched.y), sum(unmatched.y)) == (oof["label"].sum(), (oof["label"] == 0).sum())
    assert unmatched.name == f"unmatched: {(oof['label'] == 0).sum()}"


def test_histograms_hold_every_pair_once_and_explicit_negatives_apart(oof: pd.DataFrame) -> None:
    oof["explicit_negative"] = (oof["label"] == 0) & (np.arange(len(oof)) % 3 == 0)
    matched, unmatched, explicit = score_histograms(oof).data
    assert sum(matched.y) == oof["label"].sum()
    assert sum(explicit.y) == oof["explicit_negative"].sum()
    assert sum(matched.y) + sum(unmatched.y) + sum(explicit.y) == len(oof)
    assert explicit.name == f"explicit negative: {oof['explicit_negative'].sum()}"
    lowest = oof[oof["explicit_negative"] & (oof["probability"] < 0.04)]
    assert (explicit.x[0], explicit.y[0]) == (0.02, len(lowest))


def test_what_colours_tell_apart_is_told_apart_in_grey(oof: pd.DataFrame) -> None:
    oof.loc[(oof["label"] == 0) & (oof.index % 5 == 0), "explicit_negative"] = True
    fills = [trace.marker.pattern.shape for trace in score_histograms(oof).data]
    assert len(fills) == len(set(fills)) == 3
    assert {trace.marker.pattern.fillmode for trace in score_histograms(oof).data} == {"overlay"}  # else white on white
    for figure in (precision_recall(oof), roc(oof), threshold_curves(oof)):
        [*_, dots] = [trace for trace in figure.data if trace.name == "chosen"]
        assert (list(dots.text), dots.mode) == (["0", "1", "2", "3", "4"], "markers+text")
        lines = [trace.line.dash or "solid" for trace in figure.data if trace.name.split(":")[0].startswith("fold")]
        assert len(set(lines)) == 5
