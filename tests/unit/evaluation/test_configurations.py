from typing import Any

import pandas as pd
import pytest

from mentallam.evaluation.configurations import compare_configurations
from mentallam.evaluation.metrics import table_metrics
from mentallam.evaluation.resampling import UncertaintyOptions


def better(oof: pd.DataFrame) -> pd.DataFrame:
    """Return a table without an error."""
    return oof.assign(prediction=oof["label"], probability=oof["label"].astype(float))


def test_differences_are_to_the_first_configuration_within_a_seed(
    oof: pd.DataFrame, options: UncertaintyOptions
) -> None:
    other = oof.assign(prediction=1)
    first, second, same = compare_configurations(
        {"a": {"1": oof, "2": other}, "b": {"1": better(oof), "2": better(oof)}, "c": {"1": oof, "2": other}}, options
    )
    f1 = [table_metrics(table)["f1"] for table in (oof, other)]
    assert first["f1"]["mean"] == pytest.approx(sum(value or 0 for value in f1) / 2)
    assert first["difference"] is None
    found: dict[str, Any] = second["difference"]["f1"]
    assert found["mean"] == pytest.approx(1 - first["f1"]["mean"])
    assert list(found["estimates"].values()) == pytest.approx([1 - (value or 0) for value in f1])
    assert found["low"] <= found["mean"] <= found["high"]
    # Paired: what is equal in every seed differs in no resample.
    assert [same["difference"]["f1"][name] for name in ("low", "mean", "high")] == [0, 0, 0]
