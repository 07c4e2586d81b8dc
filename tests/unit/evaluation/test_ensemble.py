import sys
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import logit

from mentallam.evaluation.calibration import Calibration
from mentallam.evaluation.decision import Decision, Thresholds
from mentallam.evaluation.ensemble import (
    calibrate_ensemble,
    fit_mean,
    unseen_by_two,
    within_label_correlation,
)
from tests.samples import PROJECT

N_FOLDS, N_POSTS, N_CRITERIA = 3, 45, 4
SHARED = 0.5

Study = tuple[list[pd.DataFrame], list[pd.DataFrame], list[dict[str, Any]]]


def draw(seed: int = 0) -> Study:
    """Simulate a cross-validation: held-out and dev predictions of each fold, and the folds' results."""
    rng = np.random.default_rng(seed)
    labels = rng.random((N_POSTS, N_CRITERIA)) < 0.3
    common = np.sqrt(SHARED) * rng.normal(size=labels.shape)
    fold_of_post, held_out, dev, results = np.arange(N_POSTS) % N_FOLDS, [], [], []
    for fold in range(N_FOLDS):
        scores = 2 * labels + common + np.sqrt(1 - SHARED) * rng.normal(size=labels.shape)
        outside = rng.permutation(np.flatnonzero(fold_of_post != fold))[:20]
        for tables, posts in ((held_out, np.flatnonzero(fold_of_post == fold)), (dev, outside)):
            tables.append(
                pd.DataFrame(
                    {
                        "post_id": np.repeat(posts.astype(str), N_CRITERIA),
                        "criterion_id": np.tile(list("abcd"), len(posts)),
                        "group": np.repeat(posts.astype(str), N_CRITERIA),
                        "label": labels[posts].astype(np.int8).ravel(),
                        "logit": scores[posts].ravel(),
                    }
                )
            )
        decision = Decision(Calibration(1.0, 0.1 * fold), Thresholds(0.3 + 0.1 * fold, {"d": 0.9}))
        results.append({"cv_run_id": "run", "decision": decision.to_dict()})
    return held_out, dev, results


def alone_of(study: Study) -> pd.DataFrame:
    held_out, _, results = study
    return pd.concat(
        [
            table.assign(
                fold=fold,
                log_odds=table["logit"] + result["decision"]["intercept"],
                threshold=result["decision"]["threshold"],
            )
            for fold, (table, result) in enumerate(zip(held_out, results, strict=True))
        ],
        ignore_index=True,
    )


def both_of(study: Study) -> pd.DataFrame:
    _, dev, results = study
    decisions = [Decision.from_dict(result["decision"]) for result in results]
    return unseen_by_two("platt", alone_of(study), dev, decisions)


def test_each_pair_of_a_dev_split_is_scored_by_the_fold_that_holds_it_out_and_by_the_one_of_the_split() -> None:
    study = draw()
    held_out, dev, _ = study
    both = both_of(study)
    assert len(both) == sum(map(len, dev))
    for row in both.itertuples():
        assert row.post_id in set(held_out[row.fold]["post_id"])
        assert row.post_id not in set(dev[row.fold]["post_id"])


def test_no_pair_is_calibrated_with_its_own_label() -> None:
    """Both calibrations of a pair stay as they are, whatever labels the posts of its held-out fold have."""
    held_out, dev, results = draw()
    posts = set(held_out[1]["post_id"])

    def flipped(table: pd.DataFrame) -> pd.DataFrame:
        return table.assign(label=table["label"].where(~table["post_id"].isin(posts), 1 - table["label"]))

    def probabilities(study: Study) -> pd.DataFrame:
        found = both_of(study)
        return found.loc[found["fold"] == 1, ["post_id", "log_odds", "log_odds_other"]].reset_index(drop=True)

    others = [flipped(table) for table in dev]
    again = ([flipped(table) for table in held_out], others, results)
    pd.testing.assert_frame_equal(probabilities((held_out, dev, results)), probabilities(again))
    assert not others[0]["label"].equals(dev[0]["label"])


@given(seed=st.integers(0, 1000), scale=st.floats(0.1, 10), shift=st.floats(-5, 5))
def test_the_correlation_ignores_labels_scale_and_shift(seed: int, scale: float, shift: float) -> None:
    rng = np.random.default_rng(seed)
    label = np.arange(200) % 2
    common = rng.normal(size=200)
    both = pd.DataFrame(
        {
            "label": label,
            "log_odds": 3 * label + common + rng.normal(size=200),
            "log_odds_other": 3 * label + common + rng.normal(size=200),
        }
    )
    found = within_label_correlation(both)
    assert 0.25 < found < 0.75
    columns = ["log_odds", "log_odds_other"]
    changed = both.assign(**(scale * both[columns] + shift + 7 * label[:, None]).to_dict("series"))
    assert within_label_correlation(changed) == pytest.approx(found, abs=1e-6)
    turned = both.rename(columns=dict(zip(columns, columns[::-1], strict=True)))
    assert within_label_correlation(turned) == pytest.approx(found)


def test_folds_that_always_agree_are_not_stretched_and_those_that_share_nothing_by_their_number() -> None:
    alone = alone_of(draw())
    base_rate = logit((alone["label"].sum() + 1) / (len(alone) + 2))
    one = fit_mean("platt", alone, None, 5)
    assert fit_mean("platt", alone, 1.0, 5) == one
    apart = fit_mean("platt", alone, 0.0, 5)
    assert apart.slope == pytest.approx(5 * one.slope)
    for calibration in (one, apart):  # a mean score that says no more than the base rate is left there
        at = (base_rate - one.intercept) / one.slope
        assert calibration.log_odds([at])[0] == pytest.approx(base_rate)


def test_without_calibration_nothing_is_fitted() -> None:
    held_out, dev, results = draw()
    found = calibrate_ensemble("none", held_out, dev, results)
    assert Calibration.from_dict(found) == Calibration()
    assert found["two_folds"]["calibrated"].keys() == found["two_folds"]["mean_probability"].keys()


def test_one_label_everywhere_leaves_the_mean_as_it_is() -> None:
    held_out, dev, results = draw()
    tables = [[table.assign(label=np.int8(0)) for table in part] for part in (held_out, dev)]
    found = calibrate_ensemble("platt", *tables, results)
    assert Calibration.from_dict(found) == Calibration()
    assert (found["correlation"], found["two_folds"]) == (None, None)


def test_what_is_saved_is_what_was_fitted() -> None:
    study = draw()
    found = calibrate_ensemble("platt", *study)
    alone, both = alone_of(study), both_of(study)
    assert found["correlation"] == within_label_correlation(both)
    assert Calibration.from_dict(found) == fit_mean("platt", alone, found["correlation"], N_FOLDS)
    assert (found["cv_run_id"], found["n_folds"], found["two_folds"]["n_pairs"]) == ("run", N_FOLDS, len(both))


@pytest.mark.parametrize("normal", [True, False])
def test_the_calibrated_mean_is_better_calibrated_than_the_mean_and_the_members(
    monkeypatch: pytest.MonkeyPatch, normal: bool
) -> None:
    """The short form of studies/ensemble_calibration.py: expected calibration error and F1 on posts unseen by all."""
    monkeypatch.syspath_prepend(str(PROJECT / "studies"))
    sys.modules.pop("ensemble_calibration", None)
    from ensemble_calibration import World, simulate

    found = simulate(World(0.5, normal), 200, 2)
    assert found["calibrated"]["ece"] < 0.7 * found["mean_probability"]["ece"]
    assert found["calibrated"]["ece"] < found["members"]["ece"]
    assert found["calibrated"]["log_loss"] < found["mean_probability"]["log_loss"] < found["members"]["log_loss"]
    assert found["calibrated"]["better"] == found["mean_probability"]["better"] == 1.0
