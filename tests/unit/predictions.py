"""Generated predictions of a cross-validation, and the other inputs of the reporting pipeline."""

from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from mentallam.config import DecisionConfig
from mentallam.evaluation.aggregate import summarise
from mentallam.evaluation.baseline_scores import summarise_baselines
from mentallam.evaluation.calibration import Calibration
from mentallam.evaluation.decision import Decision, Thresholds
from mentallam.evaluation.metrics import held_out_metrics
from mentallam.evaluation.resampling import UncertaintyOptions
from mentallam.evaluation.thresholds import predict_labels
from mentallam.evaluation.uncertainty import estimate_uncertainty

SYMPTOMS = (
    "DEPRESSED_MOOD",
    "ANHEDONIA",
    "APPETITE_CHANGE",
    "SLEEP_ISSUES",
    "PSYCHOMOTOR",
    "FATIGUE",
    "WORTHLESSNESS",
    "COGNITIVE_ISSUES",
    "SUICIDAL_THOUGHTS",
)
OPTIONS = UncertaintyOptions(resamples=200, confidence=0.95, seed=42)
ALONE = {
    "n": 1,
    "f1": {},
    "this": {"begun": "2026-12-01 08:30 UTC", "commit": "feed" * 10, "dirty": True, "confirms": None},
}
"""The only cross-validation of its data."""

DECISION = DecisionConfig()
THRESHOLDS = (0.4, 0.43, 0.46, 0.49, 0.52)

DATA_STATISTICS: dict[str, Any] = {
    "corpus": "the sample",
    "synthetic": True,
    "data_hash": "ab" * 32,
    "n_posts": 60,
    "n_pairs": 540,
    "n_without_symptom": 14,
    "words_per_post": {"mean": 43.6, "min": 14, "q25": 30.0, "q50": 41.5, "q75": 57.0, "max": 97},
    "n_authors": 45,
    "n_authors_straddling_folds": 9,
    "duplicates": {
        "handling": "group",
        "threshold": 0.8,
        "containment_threshold": 0.75,
        "sets": 0,
        "posts": 0,
        "sets_straddling_folds": 0,
    },
    "folds": {
        "group_by": "post_id",
        "seed": 42,
        "balance": {"fold": 0, "posts": 12, "share": 0.2, "equal_share": 0.2, "uneven": False},
        "without_positives": {"train": [], "dev": [], "held_out": []},
        "without_negatives": {"train": [], "dev": [], "held_out": []},
    },
    "counts": {"expected": {"posts": 60, "criteria": 9, "pairs": 540}, "override_reason": None},
}

DESCRIPTIONS = {"tfidf": "a regression on counted words", "embedding": "a regression on hidden states"}

Folds = list[pd.DataFrame]


class Once:
    """The unchanged tables and what is computed from them, each made when a test first needs it."""

    @cached_property
    def criteria(self) -> pd.DataFrame:
        ids = [f"A.{number}" for number in range(1, 10)]
        wording = [f"wording of {criterion_id}" for criterion_id in ids]
        return pd.DataFrame({"criterion_id": ids, "symptom": SYMPTOMS, "criterion": wording})

    @cached_property
    def folds(self) -> Folds:
        return [_fold(fold, self.criteria, np.random.default_rng(fold)) for fold in range(5)]

    @cached_property
    def oof(self) -> pd.DataFrame:
        return pd.concat(self.folds, ignore_index=True)

    @cached_property
    def baseline(self) -> pd.DataFrame:
        return worse(self.oof)

    @cached_property
    def baselines(self) -> pd.DataFrame:
        return pd.concat([_baseline(self.oof, name, seed) for seed, name in enumerate(("tfidf", "embedding"))])

    @cached_property
    def cv_outcome(self) -> dict[str, Any]:
        return outcome_of(self.folds)

    @cached_property
    def summary(self) -> dict[str, Any]:
        summary = summarise(self.oof, self.cv_outcome, DATA_STATISTICS, self.criteria, DECISION)
        learned = summarise_baselines(self.baselines, self.oof, self.criteria, DESCRIPTIONS)
        return {**summary, "learned_baselines": learned}

    @cached_property
    def uncertainty(self) -> dict[str, Any]:
        return {**estimate_uncertainty(self.oof, {"tfidf": self.baseline}, OPTIONS, DECISION), "seeds": None}


def worse(oof: pd.DataFrame) -> pd.DataFrame:
    """Return the same pairs in another order, with noise in the scores."""
    logit = oof["logit"] + np.random.default_rng(7).normal(scale=2, size=len(oof))
    frame = oof.assign(logit=logit, probability=1 / (1 + np.exp(-logit)))
    frame["prediction"] = predict_labels(frame["probability"], frame["threshold"])
    return frame.sample(frac=1, random_state=0)


def _fold(fold: int, criteria: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    post_ids = [f"s_{fold}_{number}" for number in range(12)]
    pairs = pd.MultiIndex.from_product([post_ids, criteria["criterion_id"]], names=["post_id", "criterion_id"])
    label = (rng.random(len(pairs)) < 0.15).astype("int8")
    logit = rng.normal(scale=1.5, size=len(pairs)) + 2.5 * label - 1.5
    frame = pairs.to_frame(index=False).assign(
        group=pairs.get_level_values("post_id"),
        cluster=pairs.get_level_values("post_id"),
        author_seen=pd.array([pd.NA] * len(pairs), dtype="boolean"),
        fold=fold,
        label=label,
        explicit_negative=False,
        logit=logit,
        probability=1 / (1 + np.exp(-logit)),
        threshold=THRESHOLDS[fold],
        truncated=False,
        post_tokens=20 + 7 * pairs.get_level_values("post_id").str[4:].astype(int),
    )
    return frame.assign(prediction=predict_labels(frame["probability"], frame["threshold"]))


def _baseline(oof: pd.DataFrame, name: str, seed: int) -> pd.DataFrame:
    """Return the model's predictions with noise, the rows in another order."""
    logit = oof["logit"] + np.random.default_rng(seed).normal(scale=1 + seed, size=len(oof))
    probability = 1 / (1 + np.exp(-logit))
    prediction = predict_labels(probability, oof["threshold"])
    noisy = oof.assign(model=name, post_tokens=100, logit=logit, probability=probability, prediction=prediction)
    return noisy.sample(frac=1, random_state=seed)


def outcome_of(folds: Folds) -> dict[str, Any]:
    """Return what cv_training saves; fold 3 has the best dev F1, but not the best held-out F1."""
    results = [
        {
            "fold": fold,
            "cv_run_id": "parent",
            "run_id": f"child{fold}",
            "checkpoint": f"data/06_models/fold_{fold}",
            "decision": Decision(Calibration(), Thresholds(THRESHOLDS[fold])).to_dict(),
            "dev_f1": (0.5, 0.6, 0.4, 0.7, 0.7)[fold],
            "dev_positive": (14, 13, 12, 16, 15)[fold],
            "best_epoch": 3,
            "epochs": 4,
            "selected_by": "average_precision",
            "seconds": 61.2,
            "metrics": dict(held_out_metrics(frame, DECISION)),
            "n_pairs": len(frame),
        }
        for fold, frame in enumerate(folds)
    ]
    return {
        "cv_run_id": "parent",
        "experiment_id": "1",
        "n_folds": len(folds),
        "best_fold": 3,
        "best_run_id": "child3",
        "folds": results,
    }
