"""How well an ensemble of folds is calibrated, in simulated cross-validations whose truth is known.

python studies/ensemble_calibration.py

Five models score posts by nine criteria. What they score wrongly they share in part: all have read most of the same
posts. Each is Platt-scaled on a dev split, as a fold is. The calibration of the ensemble sees only what a
cross-validation has: held-out and dev predictions. Then all models score 5,000 fresh posts, which a real study does
not have, so the expected calibration error there is the ensemble's own. Two worlds: scores are normal within each
label, as the calibration assumes; or labels follow a logistic curve and errors have heavy tails.
"""

import argparse
import json
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import expit

from mentallam.config import DecisionConfig
from mentallam.evaluation.calibration import Calibration, expected_calibration_error
from mentallam.evaluation.decision import Decision, fit_decision
from mentallam.evaluation.ensemble import calibrate_ensemble
from mentallam.evaluation.thresholds import predict_labels

Array = NDArray[np.float64]

N_FOLDS, N_CRITERIA, N_FRESH = 5, 9, 5_000
RESULTS = Path(__file__).with_name("results") / "ensemble_calibration.json"
WAYS = ("members", "mean_probability", "mean_log_odds", "calibrated")


@dataclass(frozen=True)
class World:
    """Where posts come from.

    Attributes:
        shared: Share of the variance of a model's error that all models have in common.
        normal: Whether scores are normal within each label.
    """

    shared: float
    normal: bool

    def draw(self, rng: np.random.Generator, n_posts: int) -> tuple[NDArray[np.int8], Array]:
        """Draw labels, (posts, criteria), and the models' scores, (models, posts, criteria)."""
        shape = (n_posts, N_CRITERIA)
        post = rng.normal(size=(n_posts, 1))
        if self.normal:
            labels = rng.random(shape) < 0.1
            signal, spread = 2.0 * labels, 1.0
        else:
            signal = (post + rng.normal(size=shape)) / np.sqrt(2)
            labels = rng.random(shape) < expit(3 * signal - 4)
            spread = 0.7
        common = np.sqrt(self.shared / 2) * (post * (1 if self.normal else -1) + rng.normal(size=shape))
        own = np.sqrt(1 - self.shared) * (
            rng.normal(size=(N_FOLDS, *shape))
            if self.normal
            else rng.standard_t(5, size=(N_FOLDS, *shape)) / np.sqrt(5 / 3)
        )
        return labels.astype(np.int8), signal + spread * (common + own)


def table(labels: NDArray[np.int8], scores: Array, posts: NDArray[np.intp]) -> pd.DataFrame:
    """Return predictions of some posts."""
    return pd.DataFrame(
        {
            "post_id": np.repeat(posts.astype(str), N_CRITERIA),
            "criterion_id": np.tile([f"C.{number}" for number in range(N_CRITERIA)], len(posts)),
            "group": np.repeat(posts.astype(str), N_CRITERIA),
            "label": labels[posts].ravel(),
            "logit": scores[posts].ravel(),
        }
    )


def study(world: World, n_posts: int, seed: int) -> dict[str, dict[str, float]]:
    """Simulate one cross-validation; return expected calibration error and F1 on fresh posts by way.

    `members` is the mean over the models alone; `ece_of_two` is what the study itself reports of two folds together.
    """
    rng = np.random.default_rng(seed)
    labels, scores = world.draw(rng, n_posts)
    # Models that were trained apart differ in scale and shift.
    scale, shift = rng.lognormal(0, 0.2, (N_FOLDS, 1, 1)), rng.normal(0, 0.3, (N_FOLDS, 1, 1))
    fold_of_post = rng.permutation(n_posts) % N_FOLDS
    held_out, dev, results, decisions = [], [], [], []
    for fold in range(N_FOLDS):
        logits = scale[fold] * scores[fold] + shift[fold]
        inside = rng.permutation(np.flatnonzero(fold_of_post != fold))[: (n_posts - n_posts // N_FOLDS) // 5]
        held_out.append(table(labels, logits, np.flatnonzero(fold_of_post == fold)))
        dev.append(table(labels, logits, inside))
        decisions.append(fit_decision(dev[-1], DecisionConfig()))
        results.append({"cv_run_id": "simulated", "decision": decisions[-1].to_dict()})
    fitted = calibrate_ensemble("platt", held_out, dev, results)
    fresh_labels, fresh = world.draw(rng, N_FRESH)
    return {
        **_fresh_scores(fresh_labels.ravel(), scale * fresh + shift, decisions, Calibration.from_dict(fitted)),
        "fitted": {"slope": fitted["slope"], "correlation": fitted["correlation"]},
        "ece_of_two": {way: fitted["two_folds"][way]["ece"] for way in ("members", "mean_probability", "calibrated")},
    }


def _fresh_scores(
    labels: NDArray[np.int8], logits: Array, decisions: list[Decision], calibration: Calibration
) -> dict[str, dict[str, float]]:
    log_odds = np.array(
        [decision.calibration.log_odds(scores.ravel()) for decision, scores in zip(decisions, logits, strict=True)]
    )
    thresholds = np.array([decision.thresholds.common for decision in decisions])
    mean = log_odds.mean(axis=0)
    together = {
        "mean_probability": expit(log_odds).mean(axis=0),
        "mean_log_odds": expit(mean),
        "calibrated": calibration.probabilities(mean),
    }
    alone = [_scores(labels, expit(scores), at) for scores, at in zip(log_odds, thresholds, strict=True)]
    members = {name: float(np.mean([scores[name] for scores in alone])) for name in alone[0]}
    return {"members": members} | {
        way: _scores(labels, probability, thresholds.mean()) for way, probability in together.items()
    }


def _scores(labels: NDArray[np.int8], probability: Array, threshold: float) -> dict[str, float]:
    predicted = predict_labels(probability, threshold)
    return {
        "ece": expected_calibration_error(labels, probability),
        "f1": float(2 * (labels & predicted).sum() / max(labels.sum() + predicted.sum(), 1)),
        "log_loss": float(-np.log(np.where(labels == 1, probability, 1 - probability)).mean()),
    }


def simulate(
    world: World, n_posts: int, repeats: int, told: Callable[[str], None] = lambda _: None
) -> dict[str, dict[str, float]]:
    """Average several studies; `better` is the share of studies in which the way's F1 is above the members' mean."""
    studies = [study(world, n_posts, seed) for seed in range(repeats)]
    told(f"{world}, {n_posts} posts")
    summary = {
        way: {
            **{name: float(np.mean([found[way][name] for found in studies])) for name in ("ece", "f1", "log_loss")},
            "better": float(np.mean([found[way]["f1"] > found["members"]["f1"] for found in studies])),
        }
        for way in WAYS
    }
    for part in ("fitted", "ece_of_two"):
        summary[part] = {name: float(np.mean([found[part][name] for found in studies])) for name in studies[0][part]}
    return summary


def main() -> None:
    """Run all worlds and sizes, and save the means."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=40, help="studies of each kind (default: %(default)s)")
    parser.add_argument("--posts", type=int, nargs="+", default=[60, 300], help="sizes (default: %(default)s)")
    options = parser.parse_args()
    repeats = options.repeats
    logging.disable(logging.WARNING)
    found = [
        {
            "world": "normal" if normal else "logistic, heavy tails",
            "shared": shared,
            "posts": n_posts,
            **simulate(World(shared, normal), n_posts, repeats, print),
        }
        for normal in (True, False)
        for shared in (0.3, 0.6, 0.9)
        for n_posts in options.posts
    ]
    RESULTS.write_text(json.dumps({"repeats": repeats, "studies": found}, indent=2) + "\n", encoding="utf-8")
    print("world, shared, posts: " + ", ".join(f"{way} ECE / F1" for way in WAYS))
    for row in found:
        figures = ", ".join(f"{row[way]['ece']:.4f} / {row[way]['f1']:.3f}" for way in WAYS)
        print(f"{row['world']}, {row['shared']}, {row['posts']}: {figures}")


if __name__ == "__main__":
    main()
