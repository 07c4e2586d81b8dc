"""Label audit: pairs whose label confident learning doubts, for an annotator to review.

Each criterion is a separate yes-no question, so each is audited separately (Northcutt et al. 2021, JAIR 70,
arXiv 1911.00068; the library is cleanlab). A doubt may be the model's error, so no label is changed.
"""

import logging

import numpy as np
import pandas as pd
from cleanlab.filter import find_label_issues
from cleanlab.rank import get_label_quality_scores

logger = logging.getLogger(__name__)

AUDIT_COLUMNS = ["post_id", "criterion_id", "fold", "label", "probability", "quality", "looks", "speaks_against"]


def audit_labels(oof: pd.DataFrame) -> pd.DataFrame:
    """List the pairs whose label looks wrong, the most suspicious first.

    Args:
        oof: Columns post_id, criterion_id, fold, label, explicit_negative, probability; the probability comes from a
            model that never saw the pair.

    Returns:
        One row per suspicious pair, with ids only: post_id, criterion_id, fold, label, probability, quality, looks
        (matched or unmatched), speaks_against (the model where an annotator judged that the post does not match, often
        a near miss; else the label). quality is the probability of the label, from 0 (probably wrong) to 1, adjusted by
        the model's mean probability of that label in the criterion, so that rare labels don't all look wrong. A
        criterion with fewer than two pairs of a label can't be audited and is named in a warning.
    """
    found, too_few = [], []
    for criterion_id, rows in oof.groupby("criterion_id"):
        labels, probability = rows["label"].to_numpy(dtype=int), rows["probability"].to_numpy()
        if np.bincount(labels, minlength=2).min() < 2:  # cleanlab never doubts the only pair of a label
            too_few.append(str(criterion_id))
            continue
        probabilities = np.column_stack([1 - probability, probability])
        quality = get_label_quality_scores(labels, probabilities, adjust_pred_probs=True)
        suspicious = find_label_issues(labels, probabilities, n_jobs=1)
        found.append(rows.assign(quality=quality)[suspicious])
    if too_few:
        logger.warning("labels of %s can't be audited: fewer than two pairs have one of the labels", ", ".join(too_few))
    table = pd.concat(found) if found else oof.iloc[:0].assign(quality=np.empty(0))
    table = table.assign(
        looks=np.where(table["label"] == 1, "unmatched", "matched"),
        speaks_against=np.where(table["explicit_negative"].astype(bool), "model", "label"),
    )
    return table[AUDIT_COLUMNS].sort_values(["quality", "post_id", "criterion_id"], ignore_index=True)
