"""The figure of the learning curves."""

import pandas as pd
import pytest

from mentallam.reports.figures_training import SMOOTHING_SPAN, learning_curves


@pytest.fixture
def history() -> pd.DataFrame:
    rows = [(fold, step, "loss", 1 / step + fold) for fold in (0, 1) for step in range(1, 21)]
    rows += [(fold, 20, "learning_rate", 0.1) for fold in (0, 1)]
    rows += [(fold, step, name, step / 100) for fold in (0, 1) for step in (20, 10) for name in ("dev_loss", "dev_f1")]
    return pd.DataFrame(rows, columns=["fold", "step", "metric", "value"])


def test_losses_and_dev_f1_of_every_fold(history: pd.DataFrame) -> None:
    figure = learning_curves(history)
    assert [(trace.name, trace.showlegend) for trace in figure.data] == [
        *[("fold 0", True), ("fold 0", False), ("fold 0", False)],
        *[("fold 1", True), ("fold 1", False), ("fold 1", False)],
    ]
    loss, dev_loss, dev_f1 = figure.data[3:]
    assert (dev_loss.x, dev_loss.y, dev_f1.y) == ((10, 20), (0.1, 0.2), (0.1, 0.2))
    assert loss.x == tuple(range(1, 21))
    assert loss.y[0] == 2 and loss.y[-1] > 1 / 20 + 1


def test_the_smoothed_loss_is_a_weighted_mean_of_the_steps(history: pd.DataFrame) -> None:
    decay = 1 - 2 / (SMOOTHING_SPAN + 1)
    weights = [decay**age for age in range(20)]
    expected = sum(w / step for w, step in zip(weights, range(20, 0, -1), strict=True)) / sum(weights)
    assert learning_curves(history).data[0].y[-1] == pytest.approx(expected)


def test_a_fold_that_was_never_evaluated_has_only_its_loss(history: pd.DataFrame) -> None:
    history = history[(history["fold"] == 0) | (history["metric"] == "loss")]
    assert [trace.name for trace in learning_curves(history).data].count("fold 1") == 1


@pytest.mark.parametrize("metrics", [[], ["learning_rate"], None])
def test_without_a_history_it_says_so(history: pd.DataFrame, metrics: list[str] | None) -> None:
    kept = None if metrics is None else history[history["metric"].isin(metrics)]
    figure = learning_curves(kept)
    assert not figure.data
    assert figure.layout.annotations[0].text == "No history of the training was kept."
