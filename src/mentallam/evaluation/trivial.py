"""Classifiers that read nothing, which every other classifier has to beat."""

import numpy as np
import pandas as pd

from mentallam.evaluation.thresholds import best_threshold, predict_labels


def trivial_tables(oof: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Predict the same pairs by `all_negative`, `all_positive` and `prior_only`.

    Args:
        oof: The out-of-fold table.

    Returns:
        Name to the table with another probability, threshold and prediction.
    """
    return {"all_negative": always(oof, 0), "all_positive": always(oof, 1), "prior_only": prior_only(oof)}


def always(oof: pd.DataFrame, answer: int) -> pd.DataFrame:
    """Predict the same label for every pair.

    Args:
        oof: The out-of-fold table.
        answer: 0 or 1.
    """
    return oof.assign(probability=float(answer), threshold=0.5, prediction=np.int8(answer))


def prior_only(oof: pd.DataFrame) -> pd.DataFrame:
    """Predict each pair from the rate at which its criterion matches in the other folds.

    Args:
        oof: The whole out-of-fold table: the other folds' labels are those that a fold's model was trained on.

    Returns:
        The table with those rates as probabilities; a fold's threshold is the best one of the other folds.

    Raises:
        MentallamError: A label that is not 0 or 1.
    """
    decided = []
    for fold, held_out in oof.groupby("fold"):
        others = oof[oof["fold"] != fold]
        rates = others.groupby("criterion_id")["label"].mean()
        threshold = best_threshold(others["label"], others["criterion_id"].map(rates)).threshold
        # A criterion that only this fold has gets the rate over all criteria.
        rate = held_out["criterion_id"].map(rates).fillna(others["label"].mean())
        decided.append(
            held_out.assign(probability=rate, threshold=threshold, prediction=predict_labels(rate, threshold))
        )
    return pd.concat(decided)
