"""Noise in the synthetic twin's labels, and the highest score that it allows any reader of the posts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from math import fsum
from random import Random
from typing import Any

TRUTH_COLUMNS = ("post_id", "symptom", "shown", "label")


def plant_noise(labelled: Sequence[Sequence[str]], share: float, rng: Random) -> list[list[str]]:
    """Return the symptoms that each post's text shows, given its labels.

    For each symptom a `share` of its positives is invented (labelled, not shown), and as many posts are missed (shown,
    not labelled). The posts are drawn at random, so nothing in a text reveals an error in its label.
    """
    shown = [list(symptoms) for symptoms in labelled]
    counts = Counter(symptom for symptoms in labelled for symptom in symptoms)
    for symptom, count in counts.items():
        n_wrong = round(share * count)
        positive = [number for number, symptoms in enumerate(labelled) if symptom in symptoms]
        negative = [number for number, symptoms in enumerate(labelled) if symptom not in symptoms]
        for number in rng.sample(positive, n_wrong):
            shown[number].remove(symptom)
        for number in rng.sample(negative, n_wrong):
            shown[number].append(symptom)
    return shown


def ceiling(counts: Mapping[tuple[str, int, int], int]) -> dict[str, Any]:
    """Return the scores, against the labels, of a perfect reader, who predicts `shown`.

    Args:
        counts: Number of pairs by symptom, shown and label.

    Returns:
        `micro` (all pairs) and `symptoms` (each symptom), each with positive (labels), missed, invented, precision,
        recall and f1; and `macro_f1`, the mean f1 of the symptoms with a positive label.
    """
    per_symptom = {
        symptom: (counts.get((symptom, 1, 1), 0), counts.get((symptom, 1, 0), 0), counts.get((symptom, 0, 1), 0))
        for symptom in dict.fromkeys(symptom for symptom, _, _ in counts)
    }
    symptoms = {symptom: _scores(*found) for symptom, found in per_symptom.items()}
    counted = [scores["f1"] for scores in symptoms.values() if scores["positive"]]
    return {
        "micro": _scores(*map(sum, zip(*per_symptom.values(), strict=True))),
        # sum() gives different digits in different versions of Python.
        "macro_f1": fsum(counted) / len(counted) if counted else None,
        "symptoms": symptoms,
    }


def _scores(right: int, missed: int, invented: int) -> dict[str, Any]:
    """Return the scores of a reader whose false positives were missed, and whose false negatives were invented."""

    def share(part: int, whole: int) -> float:
        return part / whole if whole else 0.0

    return {
        "positive": right + invented,
        "missed": missed,
        "invented": invented,
        "precision": share(right, right + missed),
        "recall": share(right, right + invented),
        "f1": share(2 * right, 2 * right + missed + invented),
    }
