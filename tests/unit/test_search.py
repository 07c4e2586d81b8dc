"""A search on the dev posts of some folds; the training itself is replaced by scores that are known."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from mentallam import search as searching
from mentallam import tracking
from mentallam.classifier.fold import CorpusTables
from mentallam.classifier.weights import BaseModel
from mentallam.config import Config, with_values
from mentallam.errors import MentallamError
from mentallam.search import Search, check_confirmation, check_search
from mentallam.sweep_space import SweepOptions

BASE = BaseModel("tiny", "random", "", "")
SPLITS = [
    {"fold": 0, "seed": 42, "train": ["a", "b"], "dev": ["c", "d"]},
    {"fold": 1, "seed": 42, "train": ["c", "d"], "dev": ["a", "b"]},
]
POSTS = ["a", "b", "c", "d", "held out"]
EPOCHS = 4
SPACE = {"training.learning_rate": {"low": 1e-4, "high": 1e-2, "log": True}}


def tables() -> CorpusTables:
    posts = pd.DataFrame({"post_id": POSTS, "text": "t"})
    pairs = pd.DataFrame({"post_id": POSTS, "criterion_id": "A.1", "label": [0, 1, 0, 1, 1]})
    return CorpusTables(posts, pd.DataFrame({"criterion_id": ["A.1"]}), pairs, posts[["post_id"]].assign(group="g"))


class Trainings:
    """Trainings in place of real ones: the lower the learning rate, the better an average precision in each epoch."""

    def __init__(self) -> None:
        self.trained: list[tuple[float, int, int]] = []  # learning rate, fold, epochs
        self.seen: set[str] = set()
        self.dies_after = -1  # that many epochs, after the pruner has been asked

    def fit(self, config: Config, base: Any, split: Any, corpus: CorpusTables, *rest: Any) -> Any:
        rate, ends = config.training.learning_rate, rest[-1]
        for table in (corpus.posts, corpus.pairs, corpus.groups):
            self.seen |= {*table["post_id"]}
        epochs = 0
        for epoch in range(1, EPOCHS + 1):
            epochs, score = epoch, (1 - 50 * rate) * epoch / EPOCHS
            ended = ends(epoch, {"average_precision": score})
            self.dies_after -= 1
            if self.dies_after == 0:
                raise OSError("the machine is gone")
            if ended:
                break
        self.trained.append((rate, split["fold"], epochs))
        good = rate < 1e-3
        return None, None, pd.DataFrame({"label": [0, 1], "logit": [-1.0, 1.0] if good else [1.0, -1.0]})


@pytest.fixture
def trainings(monkeypatch: pytest.MonkeyPatch) -> Trainings:
    trainings = Trainings()
    monkeypatch.setattr(searching, "fit_fold", trainings.fit)
    monkeypatch.setattr(searching, "states_of_folds", lambda *_: {})
    return trainings


@pytest.fixture
def search(experiment: str, tiny_config: Config, tmp_path: Path) -> Callable[..., Search]:
    def make(**changes: Any) -> Search:
        given = {"trials": 16, "sampler": "random", "pruner": "halving", "prune_after": "epoch", "space": SPACE}
        options = SweepOptions.model_validate({**given, **changes})
        config = with_values(tiny_config, {"training.max_epochs": EPOCHS})
        run = tracking.open_cv_run("a search", experiment, str(tmp_path))
        return Search(options, config, BASE, SPLITS, tables(), run, tmp_path / "search")

    return make


@pytest.mark.parametrize("pruner", ["median", "halving"])
def test_a_bad_trial_ends_after_an_epoch_and_never_wins(search: Any, trainings: Trainings, pruner: str) -> None:
    found = search(pruner=pruner).find()
    pruned = [trial for trial in found["trials"] if trial["pruned"]]
    whole = [trial for trial in found["trials"] if not trial["pruned"]]
    assert pruned
    assert whole
    assert len(found["trials"]) == 16
    assert any(epochs < EPOCHS for _, _, epochs in trainings.trained)  # within a fold
    assert {trial["folds"] for trial in whole} == {len(SPLITS)}
    assert found["best"]["score"] == max(trial["score"] for trial in whole)
    rate = {trial["number"]: trial["values"]["training.learning_rate"] for trial in found["trials"]}
    # A trial that came to its end was trained in whole, so its score is that without any pruner.
    for trial in whole:
        own = [epochs for at, _, epochs in trainings.trained if at == rate[trial["number"]]]
        assert own == [EPOCHS, EPOCHS]


def test_between_folds_no_training_is_ended(search: Any, trainings: Trainings) -> None:
    found = search(pruner="median", prune_after="fold").find()
    assert any(trial["pruned"] and trial["folds"] == 1 for trial in found["trials"])
    assert {epochs for _, _, epochs in trainings.trained} == {EPOCHS}


@pytest.mark.parametrize("epochs_until", [30, 31, 32, 33, 34])
def test_a_killed_search_ends_as_one_that_was_not(
    search: Any, trainings: Trainings, tmp_path: Path, epochs_until: int
) -> None:
    """Also where the process dies between the pruner's decision and the end of the training."""
    whole = search(sampler="random").find()
    killed = replace(search(), folder=tmp_path / "killed", run=search().run)
    trainings.dies_after = epochs_until
    with pytest.raises(OSError, match="gone"):
        killed.find()
    again = killed.find()
    assert len(again["trials"]) == len(whole["trials"])
    until = len([trial for trial in again["trials"] if trial["number"] < epochs_until // (2 * EPOCHS)])
    facts = ("values", "score", "folds", "pruned")
    for one, other in zip(whole["trials"][:until], again["trials"][:until], strict=True):
        assert {name: one[name] for name in facts} == {name: other[name] for name in facts}
    for trial in again["trials"]:
        assert trial["pruned"] or trial["folds"] == len(SPLITS)


def test_a_decision_to_prune_outlives_the_process(search: Any, trainings: Trainings) -> None:
    """The trial that goes on is not asked for the same epoch again, and keeps the answer."""
    bad_first = search()
    decided: list[int] = []
    report = searching._Trial._report

    def watched(self: Any, step: int, scores: Any, asks: bool = True) -> None:
        before = self._pruned()
        report(self, step, scores, asks)
        if self._pruned() and not before:
            decided.append(self._trial.number)
            if len(decided) == 1:
                raise OSError("the machine is gone")

    searching._Trial._report = watched  # type: ignore[method-assign]
    try:
        with pytest.raises(OSError, match="gone"):
            bad_first.find()
        before = len(trainings.trained)
        found = bad_first.find()
    finally:
        searching._Trial._report = report  # type: ignore[method-assign]
    gone_on = next(trial for trial in found["trials"] if trial["number"] > decided[0])
    assert gone_on["pruned"]
    assert trainings.trained[before][2] == 1  # the same epoch, and no other


def test_no_row_of_a_post_outside_the_training_and_dev_posts_is_given(search: Any, trainings: Trainings) -> None:
    search(trials=2).find()
    assert trainings.seen == {"a", "b", "c", "d"}


def test_dev_pairs_of_one_label_are_refused(search: Any, trainings: Trainings, monkeypatch: pytest.MonkeyPatch) -> None:
    dev = pd.DataFrame({"label": [0, 0], "logit": [0.0, 1.0]})
    monkeypatch.setattr(searching, "fit_fold", lambda *_: (None, None, dev))
    with pytest.raises(MentallamError, match="dev pairs of fold 0 have one label only"):
        search().find()


def test_a_key_that_the_configuration_lacks_is_refused_before_any_training(tiny_config: Config) -> None:
    options = SweepOptions.model_validate({"trials": 2, "space": {"training.learning": {"low": 1, "high": 2}}})
    with pytest.raises(MentallamError, match="training.learning=1 is no change of the configuration"):
        check_search(options, tiny_config)


def test_only_the_best_configuration_of_a_search_of_the_same_data_confirms_it(
    experiment: str, tiny_config: Config
) -> None:
    run = tracking.open_cv_run("a search", experiment, experiment)
    with pytest.raises(MentallamError, match="is not the run of a finished search"):
        check_confirmation(run["run_id"], tiny_config, "ab")
    best = {"values": {"training.learning_rate": 0.0015}}
    tracking.Run(run["run_id"]).log_dict({"best": best, "data_hash": "ab"}, tracking.SEARCH)
    with pytest.raises(MentallamError, match=r"training\.learning_rate is .* here and 0\.0015 in the best"):
        check_confirmation(run["run_id"], tiny_config, "ab")
    chosen = with_values(tiny_config, best["values"])
    check_confirmation(run["run_id"], chosen, "ab")
    with pytest.raises(MentallamError, match="made on other data"):
        check_confirmation(run["run_id"], chosen, "cd")
