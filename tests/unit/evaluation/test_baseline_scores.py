import json

import pandas as pd
import pytest
from sklearn import metrics as sk

from mentallam.errors import MentallamError
from mentallam.evaluation.baseline_scores import (
    BASELINE_SCHEMA,
    baseline_fold_metrics,
    no_baselines,
    summarise_baselines,
)
from mentallam.evaluation.metrics import criterion_metrics
from tests.unit.predictions import DESCRIPTIONS


def test_figures_equal_a_direct_computation(baselines: pd.DataFrame, oof: pd.DataFrame, criteria: pd.DataFrame) -> None:
    summary = summarise_baselines(baselines, oof, criteria, DESCRIPTIONS)
    assert list(summary) == ["tfidf", "embedding"]
    for name, figures in summary.items():
        assert figures["description"] == DESCRIPTIONS[name]
        table = baselines[baselines["model"] == name]
        f1 = [sk.f1_score(fold["label"], fold["prediction"]) for _, fold in table.groupby("fold")]
        assert figures["metrics"]["f1"] == {
            "mean": pytest.approx(pd.Series(f1).mean()),
            "std": pytest.approx(pd.Series(f1).std()),
            "n": 5,
        }
        assert figures["pooled"]["f1"] == sk.f1_score(table["label"], table["prediction"])
        assert figures["pooled"]["roc_auc"] == pytest.approx(sk.roc_auc_score(table["label"], table["probability"]))
        assert figures["per_criterion"] == criterion_metrics(table, criteria)
    assert summary["tfidf"]["pooled"]["roc_auc"] > summary["embedding"]["pooled"]["roc_auc"]
    assert json.loads(json.dumps(summary, allow_nan=False)) == summary


def test_a_copy_of_the_model_has_the_models_figures(oof: pd.DataFrame, criteria: pd.DataFrame) -> None:
    twin = oof.assign(model="twin", post_tokens=1)
    found = summarise_baselines(twin, oof, criteria, {})["twin"]
    assert found["description"] is None  # a baseline of an older version
    assert found["metrics"] == baseline_fold_metrics(twin)["twin"]
    assert found["pooled"]["f1"] == sk.f1_score(oof["label"], oof["prediction"])


def test_a_table_without_baselines_gives_an_empty_summary_also_when_saved(
    tmp_path_factory: pytest.TempPathFactory, oof: pd.DataFrame, criteria: pd.DataFrame
) -> None:
    file = tmp_path_factory.mktemp("saved") / "none.parquet"
    no_baselines().to_parquet(file, index=False)
    for table in (no_baselines(), pd.read_parquet(file)):
        BASELINE_SCHEMA.validate(table)
        assert summarise_baselines(table, oof, criteria, DESCRIPTIONS) == {} == baseline_fold_metrics(table)


@pytest.mark.parametrize("spoilt", ["a pair less", "another label", "another fold"])
def test_a_baseline_of_other_data_is_an_error(
    baselines: pd.DataFrame, oof: pd.DataFrame, criteria: pd.DataFrame, spoilt: str
) -> None:
    table = baselines.reset_index(drop=True)
    if spoilt == "a pair less":
        table = table[:-1]
    elif spoilt == "another label":
        table.loc[len(table) - 1, "label"] = 1 - table["label"].iloc[-1]
    else:
        table.loc[len(table) - 1, "fold"] = (table["fold"].iloc[-1] + 1) % 5
    with pytest.raises(MentallamError, match="the baseline 'embedding' are of other pairs or folds than the model's"):
        summarise_baselines(table, oof, criteria, DESCRIPTIONS)


def test_a_prediction_that_contradicts_its_threshold_is_an_error(
    baselines: pd.DataFrame, oof: pd.DataFrame, criteria: pd.DataFrame
) -> None:
    baselines["prediction"] = 1 - baselines["prediction"]
    with pytest.raises(MentallamError, match="'tfidf' contradict their threshold"):
        summarise_baselines(baselines, oof, criteria, DESCRIPTIONS)


@pytest.mark.parametrize(
    ("column", "value", "where"), [("text", "a post", "text"), ("probability", 1.5, "probability")]
)
def test_a_table_that_breaks_the_schema_is_an_error(
    baselines: pd.DataFrame, oof: pd.DataFrame, criteria: pd.DataFrame, column: str, value: object, where: str
) -> None:
    with pytest.raises(MentallamError, match=f"break the rule .* at column '{where}'"):
        summarise_baselines(baselines.assign(**{column: value}), oof, criteria, DESCRIPTIONS)
