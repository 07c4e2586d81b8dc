import numpy as np
import pandas as pd
import pytest

from mentallam.evaluation.metrics import pair_metrics
from mentallam.evaluation.trivial import prior_only, trivial_tables


def test_trivial_classifiers_have_the_published_figures() -> None:
    number = np.arange(13_356)  # ReDSM5's pairs, of which 1,292 are positive
    oof = pd.DataFrame({"criterion_id": "a", "fold": number % 5, "label": (number < 1_292).astype(int)})
    figures = {
        name: pair_metrics(table["label"], table["probability"], table["prediction"])
        for name, table in trivial_tables(oof).items()
    }
    assert figures["all_negative"]["accuracy"] == pytest.approx(0.903, abs=5e-4)
    assert figures["all_negative"]["f1"] == 0.0
    assert figures["all_positive"]["f1"] == pytest.approx(0.176, abs=5e-4)
    assert figures["all_positive"]["roc_auc"] == 0.5


def test_trivial_tables_read_nothing(oof: pd.DataFrame) -> None:
    tables = {name: table for name, table in trivial_tables(oof).items() if name != "prior_only"}
    assert {name: set(table["prediction"]) for name, table in tables.items()} == {
        "all_negative": {0},
        "all_positive": {1},
    }
    assert {name: set(table["probability"]) for name, table in tables.items()} == {
        "all_negative": {0},
        "all_positive": {1},
    }
    assert oof["prediction"].nunique() == 2


def test_prior_only_knows_the_rates_of_the_other_folds_and_nothing_else() -> None:
    oof = pd.DataFrame(
        {"fold": [0] * 4 + [1] * 4, "criterion_id": ["a", "a", "b", "b"] * 2, "label": [1, 1, 0, 0, 1, 0, 0, 0]}
    )
    table = prior_only(oof)
    # Fold 0 gets the rates of fold 1, 0.5 and 0; fold 1 gets those of fold 0, 1 and 0. Both predict a and not b.
    assert table["probability"].tolist() == [0.5, 0.5, 0, 0, 1, 1, 0, 0]
    assert table["prediction"].tolist() == [1, 1, 0, 0, 1, 1, 0, 0]
    blind = prior_only(oof.assign(label=oof["label"].where(oof["fold"] == 1, [0, 0, 1, 1] * 2)))
    columns = ["probability", "threshold", "prediction"]
    pd.testing.assert_frame_equal(blind.loc[blind["fold"] == 0, columns], table.loc[table["fold"] == 0, columns])


def test_a_criterion_that_only_one_fold_has_gets_the_rate_of_all() -> None:
    oof = pd.DataFrame({"fold": [0, 1, 1, 1, 1], "criterion_id": ["new", "a", "a", "a", "a"], "label": [1, 1, 0, 0, 0]})
    assert prior_only(oof)["probability"].tolist()[0] == 0.25
