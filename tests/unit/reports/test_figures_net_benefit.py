from typing import Any

import pytest

from mentallam.reports.figures_net_benefit import net_benefit


def test_the_curve_and_its_band_are_those_of_the_table(uncertainty: dict[str, Any]) -> None:
    curve = uncertainty["decision_curve"]
    band, read_all, read_none, model = net_benefit(curve, 0.9).data
    assert [trace.name for trace in (band, read_all, read_none, model)] == [
        *("90 % interval", "read all", "read none", "model"),
    ]
    assert list(model.x) == list(read_all.x) == [row["threshold"] for row in curve]
    assert list(model.y) == [row["model"]["estimate"] for row in curve]
    assert list(read_all.y) == [row["read_all"]["estimate"] for row in curve]
    assert set(read_none.y) == {0}
    assert list(band.y[: len(curve)]) == [row["model"]["low"] for row in curve]
    assert list(band.y[len(curve) :])[::-1] == [row["model"]["high"] for row in curve]


def test_all_of_the_models_gain_is_in_sight(uncertainty: dict[str, Any]) -> None:
    curve = uncertainty["decision_curve"]
    low, high = net_benefit(curve, 0.95).layout.yaxis.range
    assert low < 0 < max(row["model"]["high"] for row in curve) < high


def test_thresholds_are_explained_by_the_false_alarms_that_a_miss_is_worth(uncertainty: dict[str, Any]) -> None:
    axis = net_benefit(uncertainty["decision_curve"], 0.95).layout.xaxis
    assert dict(zip(axis.tickvals, axis.ticktext, strict=True))[0.1] == "0.1<br>9:1"


@pytest.mark.filterwarnings("error")
def test_a_model_without_any_benefit_is_drawn(uncertainty: dict[str, Any]) -> None:
    nothing = {"estimate": 0.0, "low": 0.0, "high": 0.0, "undefined": 0.0}
    curve = [{**row, "model": nothing} for row in uncertainty["decision_curve"]]
    assert net_benefit(curve, 0.95).layout.yaxis.range is None


def test_without_a_curve_the_figure_says_so() -> None:
    assert [note.text for note in net_benefit([], 0.95).layout.annotations] == ["The net benefit was not computed."]
