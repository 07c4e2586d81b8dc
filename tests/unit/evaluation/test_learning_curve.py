from typing import Any

import pandas as pd
import pytest

from mentallam.evaluation.learning_curve import CURVE_METRICS, learning_curve
from mentallam.evaluation.metrics import table_metrics
from mentallam.evaluation.resampling import UncertaintyOptions
from mentallam.evaluation.uncertainty import compare_tables
from tests.unit.predictions import worse

SIZES = (25, 50, 75, 100)


def splits(n_folds: int) -> list[dict[str, Any]]:
    return [
        {"fold": fold, "size": size, "train": ["p"] * (size + fold), "train_pairs": size, "train_positive": fold}
        for size in SIZES
        for fold in range(n_folds)
    ]


@pytest.fixture
def predictions(oof: pd.DataFrame) -> pd.DataFrame:
    """Return a model that is better with all posts, and a baseline that is always as bad as the small model."""
    poor = worse(oof)
    tables = [(oof if size == 100 else poor).assign(model="model", size=size) for size in SIZES]
    return pd.concat([*tables, *(poor.assign(model="tfidf", size=size) for size in SIZES)], ignore_index=True)


def test_points_are_the_metrics_of_the_pooled_pairs(
    predictions: pd.DataFrame, data_statistics: dict[str, Any], options: UncertaintyOptions
) -> None:
    curve = learning_curve(predictions, splits(2), data_statistics, options)
    assert list(curve["curves"]) == ["model", "tfidf"]
    for model, rows in curve["curves"].items():
        assert [row["size"] for row in rows] == list(SIZES)
        for row in rows:
            pairs = predictions[(predictions["model"] == model) & (predictions["size"] == row["size"])]
            expected = table_metrics(pairs)
            for name in ("f1", "average_precision"):
                assert row[name]["estimate"] == pytest.approx(expected[name])
                assert row[name]["low"] <= row[name]["estimate"] <= row[name]["high"]
    assert curve["sizes"][0] == {"size": 25, "posts": 25.5, "pairs": 25, "positive": 0.5}
    assert (curve["folds"], curve["n_pairs"], curve["synthetic"]) == ([0, 1], 540, True)


def test_the_last_doubling_and_the_lead_are_paired_differences(
    predictions: pd.DataFrame, oof: pd.DataFrame, data_statistics: dict[str, Any], options: UncertaintyOptions
) -> None:
    curve = learning_curve(predictions, splits(1), data_statistics, options)
    expected = compare_tables(oof, worse(oof), options)["difference"]
    doubling = curve["last_doubling"]
    assert (doubling["of"], doubling["to"]) == (50, 100)
    for name in CURVE_METRICS:
        assert doubling["difference"]["model"][name] == expected[name]
        assert doubling["difference"]["tfidf"][name]["estimate"] == 0
    assert [(row["size"], row["than"]) for row in curve["ahead"]] == [(size, "tfidf") for size in SIZES]
    assert curve["ahead"][0]["f1"]["estimate"] == 0
    assert curve["ahead"][-1]["f1"] == expected["f1"]


def test_without_a_half_the_smallest_size_is_compared(
    predictions: pd.DataFrame, data_statistics: dict[str, Any], options: UncertaintyOptions
) -> None:
    large = predictions[predictions["size"] >= 75]
    assert learning_curve(large, splits(1), data_statistics, options)["last_doubling"]["of"] == 75
