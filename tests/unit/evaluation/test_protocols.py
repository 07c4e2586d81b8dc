import numpy as np
import pandas as pd

from mentallam.evaluation.protocols import protocol_predictions
from mentallam.evaluation.thresholds import best_threshold


def test_each_protocol_chooses_its_threshold_where_it_says(oof: pd.DataFrame) -> None:
    oof = oof.sample(frac=1, random_state=0)
    predictions = protocol_predictions(oof)
    assert list(predictions) == ["honest", "cross_fitted", "same_fold"]
    assert predictions["honest"].tolist() == oof["prediction"].tolist()
    for fold in range(5):
        held_out = (oof["fold"] == fold).to_numpy()
        for protocol, rows in {"cross_fitted": ~held_out, "same_fold": held_out}.items():
            threshold = best_threshold(oof.loc[rows, "label"], oof.loc[rows, "probability"]).threshold
            expected = oof.loc[held_out, "probability"] >= threshold
            assert predictions[protocol][held_out].tolist() == expected.tolist()


def test_a_folds_labels_change_its_predictions_under_same_fold_only(oof: pd.DataFrame) -> None:
    before = protocol_predictions(oof)
    fold = (oof["fold"] == 2).to_numpy()
    oof.loc[fold, "label"] = 1 - oof.loc[fold, "label"]
    after = protocol_predictions(oof)
    for protocol in ("honest", "cross_fitted"):
        assert np.array_equal(before[protocol][fold], after[protocol][fold])
    assert not np.array_equal(before["same_fold"][fold], after["same_fold"][fold])
