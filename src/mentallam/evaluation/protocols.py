"""Three ways to choose the threshold that turns the same probabilities into predictions."""

import numpy as np
import pandas as pd

from mentallam.config import DecisionConfig
from mentallam.evaluation.arrays import Labels
from mentallam.evaluation.decision import choose_thresholds


def protocol_predictions(oof: pd.DataFrame, options: DecisionConfig) -> dict[str, Labels]:
    """Predict every out-of-fold pair under each protocol; all three choose by the same rule.

    With another rule in one of them, the difference between protocols would be mostly the difference between rules.

    Args:
        oof: Columns fold, criterion_id, label, probability, prediction; one row per held-out pair, two folds or more.
        options: How the thresholds of the table were chosen.

    Returns:
        Protocol to int8 predictions in the table's order, shape (n,):
            dev_split: As in the table, whose thresholds come from the dev splits.
            cross_fitted: Each fold at the thresholds that the other folds' out-of-fold pairs choose.
            same_fold: Each fold at the thresholds that the same pairs choose, whose labels they have then seen.

    Raises:
        MentallamError: No pair, or a value out of range.
    """
    fold = oof["fold"].to_numpy()
    predictions = {"dev_split": oof["prediction"].to_numpy(np.int8)}
    for protocol in ("cross_fitted", "same_fold"):
        predicted = np.zeros(len(oof), np.int8)
        for number in np.unique(fold):
            held_out = fold == number
            chosen_on = oof[held_out if protocol == "same_fold" else ~held_out]
            thresholds = choose_thresholds(
                chosen_on["criterion_id"], chosen_on["label"], chosen_on["probability"], options
            )
            predicted[held_out] = thresholds.predict(oof[held_out])
        predictions[protocol] = predicted
    return predictions
