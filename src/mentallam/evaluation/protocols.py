"""Three ways to choose the threshold that turns the same probabilities into predictions."""

import numpy as np
import pandas as pd

from mentallam.evaluation.arrays import Labels
from mentallam.evaluation.thresholds import best_threshold, predict_labels


def protocol_predictions(oof: pd.DataFrame) -> dict[str, Labels]:
    """Predict every out-of-fold pair under each protocol.

    Args:
        oof: Columns fold, label, probability, prediction; one row per held-out pair, two folds or more.

    Returns:
        Protocol to int8 predictions in the table's order, shape (n,):
            honest: As in the table, whose thresholds come from the dev splits.
            cross_fitted: Each fold at the F1-optimal threshold of the other folds' out-of-fold pairs.
            same_fold: Each fold at the F1-optimal threshold of the same pairs, whose labels it has then seen.

    Raises:
        MentallamError: No pair, or a value out of range.
    """
    fold = oof["fold"].to_numpy()
    predictions = {"honest": oof["prediction"].to_numpy(np.int8)}
    for protocol in ("cross_fitted", "same_fold"):
        predicted = np.zeros(len(oof), np.int8)
        for number in np.unique(fold):
            held_out = fold == number
            chosen_on = oof[held_out if protocol == "same_fold" else ~held_out]
            threshold = best_threshold(chosen_on["label"], chosen_on["probability"]).threshold
            predicted[held_out] = predict_labels(oof.loc[held_out, "probability"], threshold)
        predictions[protocol] = predicted
    return predictions
