"""The search of a configuration: trials that are scored on dev posts, each a child of one MLflow run.

The sweep pipeline searches on some folds; a nested cross-validation searches in each fold anew. Held-out posts take no
part: a search is given the training and dev posts alone. Optuna is imported late, since it is an extra.
"""

import json
import logging
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from sklearn.metrics import average_precision_score

from mentallam import tracking
from mentallam.classifier.fold import CorpusTables, fit_fold, states_of_folds
from mentallam.classifier.weights import BaseModel
from mentallam.config import Config, as_words, deciding, with_values
from mentallam.errors import MentallamError
from mentallam.files import replacing_file
from mentallam.resumption import first_difference, hash_of
from mentallam.sweep_space import Range, SweepOptions, as_written, first_values

if TYPE_CHECKING:
    from optuna import Study, Trial
    from optuna.pruners import BasePruner
    from optuna.trial import FrozenTrial

logger = logging.getLogger(__name__)

_FEWEST_FOR_IMPORTANCE = 4
# User attributes of a trial: its mean score, how many of its folds are trained, whether it was ended early, and the
# number of the interrupted trial that it goes on with.
_SCORE, _FOLDS, _PRUNED, _GOES_ON_WITH = "score", "folds", "pruned", "goes_on_with"


@dataclass(frozen=True)
class Search:
    """A search, with all that its trials need.

    Attributes:
        options: What is tried.
        config: The configuration that a trial changes.
        base: The base model on disk.
        splits: The folds whose dev posts score a trial: number, seed, and post ids under train and dev.
        corpus: The tables; what they say of other posts is left out.
        run: The run whose children the trials are, as `tracking.open_fold_run` takes it.
        folder: Holds the trials and their training states; whether these still fit is the caller's to know.
    """

    options: SweepOptions
    config: Config
    base: BaseModel
    splits: Sequence[Mapping[str, Any]]
    corpus: CorpusTables
    run: Mapping[str, str]
    folder: Path

    def find(self) -> dict[str, Any]:
        """Try configurations, and return what was found; a search that was interrupted goes on.

        Finished trials and folds are kept, and the training that was under way goes on from its last state.

        Returns:
            Plain values: `trials` (number, values, score, folds, pruned, seconds), `best` (the trial with the best
            score of those that came to their end, with its `overrides`) and `importances` (key to the share of the
            scores' variance; empty where too few trials tell).

        Raises:
            MentallamError: Optuna is missing, the space can't be tried, or dev posts have one label only.
        """
        check_search(self.options, self.config)
        self.folder.mkdir(parents=True, exist_ok=True)
        seen = _without_others(self.corpus, self.splits)
        study = _open_study(self.folder / "trials.db", self.options)
        left = self.options.trials - len(_ended(study))
        if left > 0:
            study.optimize(lambda trial: _Trial(self, seen, trial, study).score(), n_trials=left)
        return _found(study)


def check_search(options: SweepOptions, config: Config) -> None:
    """Refuse a search before anything is trained.

    Raises:
        MentallamError: Optuna is missing, or the space has a key that the configuration lacks.
    """
    if find_spec("optuna") is None:
        raise MentallamError("a search needs Optuna: pip install -e '.[sweep]'")
    with_values(config, first_values(options))


def check_confirmation(run_id: str, config: Config, data_hash: str) -> None:
    """Refuse to confirm a search by another configuration than its best, or on other data.

    Args:
        run_id: The run of the search.
        config: The configuration of the cross-validation.
        data_hash: The hash of its data.

    Raises:
        MentallamError: They differ, or there is no such search.
    """
    found = tracking.load_search(run_id)
    best = with_values(config, found["best"]["values"])
    if difference := first_difference(deciding(config), deciding(best)):
        key, here, there = difference
        raise MentallamError(
            f"confirms={run_id}: {key} is {here!r} here and {there!r} in the best configuration of that search: give "
            f"its overrides, which its report has"
        )
    if found["data_hash"] != data_hash:
        raise MentallamError(
            f"confirms={run_id}: that search was made on other data: leave confirms out, or search again"
        )


def _without_others(corpus: CorpusTables, splits: Sequence[Mapping[str, Any]]) -> CorpusTables:
    """Return the tables without posts that no fold of the search learns or chooses from."""
    seen = {*chain.from_iterable(split[part] for split in splits for part in ("train", "dev"))}
    posts, pairs, groups = (table[table["post_id"].isin(seen)] for table in (corpus.posts, corpus.pairs, corpus.groups))
    return CorpusTables(posts, corpus.criteria, pairs, groups)


class _Trial:
    """A trial of a search: its folds are trained one after the other, and scored on their dev posts.

    A step of Optuna is an epoch or the end of a fold, so the same step of two trials has seen the same folds and
    epochs. Its value is the mean over these folds.
    """

    def __init__(self, search: Search, corpus: CorpusTables, trial: "Trial", study: "Study") -> None:
        self._search, self._corpus, self._trial = search, corpus, trial
        self._reported = {*study.trials[trial.number].intermediate_values}  # by the trial that this one goes on with
        self._values = as_written({key: _suggested(trial, key, each) for key, each in search.options.space.items()})
        self._config = with_values(search.config, self._values)
        by_epoch = search.options.prune_after == "epoch"
        self._steps_per_fold = _most_epochs(search) + 1 if by_epoch else 1
        self._scores: list[float] = []

    def score(self) -> float:
        """Return the mean of the folds' average precision on their dev posts.

        Raises:
            TrialPruned: The trial was ended early.
        """
        from optuna import TrialPruned

        search, words = self._search, as_words(self._values)
        token = hash_of({"overrides": words})
        folder = search.folder / token[:16]
        folder.mkdir(exist_ok=True)
        number = self._trial.number
        child = tracking.open_fold_run(search.run, number, f"{search.run['run_id']}-{token}", f"trial_{number}")
        with tracking.failing(child["run_id"]) as run:
            run.log_params(self._values)
            for split in search.splits:
                self._scores.append(self._fold(split, folder, run))
                self._trial.set_user_attr(_FOLDS, len(self._scores))
                if self._pruned():
                    break
                last = len(self._scores) == len(search.splits)
                self._report(len(self._scores) * self._steps_per_fold, self._scores, asks=not last)
                if self._pruned():
                    break
            score, pruned = float(np.mean(self._scores)), self._pruned()
            run.log_metrics({"score": score})
            run.set_tags({"mentallam.pruned": pruned})
            run.finish()
        logger.info(
            "trial %s: dev average precision %.3f%s, %s", number, score, " so far, pruned" if pruned else "", words
        )
        self._trial.set_user_attr(_SCORE, score)
        if pruned:
            raise TrialPruned
        return score

    def _pruned(self) -> bool:
        return bool(self._trial.user_attrs.get(_PRUNED))

    def _report(self, step: int, scores: Sequence[float], asks: bool = True) -> None:
        """Report a score, and note if the pruner wants to end the trial: the note outlives the process."""
        if step in self._reported:
            return
        self._trial.report(float(np.mean(scores)), step)
        if asks and self._trial.should_prune():
            self._trial.set_user_attr(_PRUNED, True)

    def _ends_after(self, epoch: int, scores: Mapping[str, float]) -> bool:
        if self._search.options.prune_after == "epoch" and "average_precision" in scores:
            step = len(self._scores) * self._steps_per_fold + epoch
            self._report(step, [*self._scores, scores["average_precision"]], epoch < self._config.training.max_epochs)
        return self._pruned()

    def _fold(self, split: Mapping[str, Any], folder: Path, run: tracking.Run) -> float:
        kept = folder / f"fold_{split['fold']}.json"
        if kept.is_file():
            return float(json.loads(kept.read_text(encoding="utf-8")))
        config, base, corpus = self._config, self._search.base, self._corpus
        states = folder / "training"
        states.mkdir(exist_ok=True)
        frozen = states_of_folds(config, base.to_dict(), corpus.posts, corpus.criteria, corpus.pairs, [split])
        origin = {"run_id": run.run_id, "cv_run_id": self._search.run["run_id"], "fold": split["fold"]}
        _, _, dev = fit_fold(config, base, split, corpus, frozen, origin, run.log_step, states, self._ends_after)
        score = _dev_score(dev, split["fold"])
        with replacing_file(kept) as unfinished:
            unfinished.write_text(json.dumps(score), encoding="utf-8")
        shutil.rmtree(states)
        return score


def _dev_score(dev: pd.DataFrame, fold: int) -> float:
    if dev["label"].nunique() < 2:
        raise MentallamError(
            f"the dev pairs of fold {fold} have one label only, so no trial can be scored on them: choose another "
            f"folds.seed, or a lower folds.dev_splits"
        )
    return float(average_precision_score(dev["label"], dev["logit"]))


def _most_epochs(search: Search) -> int:
    """Return how many epochs a trial has at most, so that a step means the same in all of them."""
    each = search.options.space.get("training.max_epochs")
    if each is None:
        return search.config.training.max_epochs
    return int(each.high if isinstance(each, Range) else max(map(int, each.choices)))


def _suggested(trial: "Trial", key: str, each: Any) -> Any:
    if not isinstance(each, Range):
        return trial.suggest_categorical(key, each.choices)
    if isinstance(each.low, int) and isinstance(each.high, int):
        return trial.suggest_int(key, each.low, each.high, log=each.log)
    return trial.suggest_float(key, each.low, each.high, log=each.log)


def _open_study(file: Path, options: SweepOptions) -> "Study":
    """Open the search in a file; a trial that a killed process had under way is queued again, with what it reported."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)  # errors of a trial are raised
    study = optuna.create_study(
        storage=f"sqlite:///{file}",
        study_name="sweep",
        load_if_exists=True,
        direction="maximize",
        pruner=_pruner(options),
    )
    samplers = {"tpe": optuna.samplers.TPESampler, "random": optuna.samplers.RandomSampler}
    # A search that goes on draws other points than those that it began with.
    study.sampler = samplers[options.sampler](seed=options.seed + len(study.trials))
    for trial in study.get_trials(states=(optuna.trial.TrialState.RUNNING,)):
        study.tell(trial.number, state=optuna.trial.TrialState.FAIL)
    queued = {trial.user_attrs.get(_GOES_ON_WITH) for trial in study.trials}
    for trial in study.get_trials(states=(optuna.trial.TrialState.FAIL,)):
        if trial.params and trial.number not in queued:
            study.add_trial(
                optuna.create_trial(
                    state=optuna.trial.TrialState.WAITING,
                    params=trial.params,
                    distributions=trial.distributions,
                    user_attrs={**trial.user_attrs, _GOES_ON_WITH: trial.number},
                    system_attrs=trial.system_attrs,
                    intermediate_values=trial.intermediate_values,
                )
            )
    return study


def _pruner(options: SweepOptions) -> "BasePruner":
    from optuna import pruners

    if options.pruner == "halving":
        return pruners.SuccessiveHalvingPruner(min_resource=1)
    return pruners.MedianPruner() if options.pruner == "median" else pruners.NopPruner()


def _ended(study: "Study") -> "list[FrozenTrial]":
    """Return the trials that have a score, also those that were ended early."""
    from optuna.trial import TrialState

    return study.get_trials(states=(TrialState.COMPLETE, TrialState.PRUNED))


def _found(study: "Study") -> dict[str, Any]:
    """Return the trials, the best one, and what explains their scores, as plain values."""
    from optuna.importance import get_param_importances

    trials: list[dict[str, Any]] = [
        {
            "number": trial.number,
            "values": as_written(trial.params),
            "score": trial.user_attrs[_SCORE],
            "folds": trial.user_attrs[_FOLDS],
            "pruned": trial.user_attrs.get(_PRUNED, False),
            "seconds": trial.duration.total_seconds() if trial.duration else None,
        }
        for trial in _ended(study)
    ]
    complete = [trial for trial in trials if not trial["pruned"]]
    best = max(complete, key=lambda trial: float(trial["score"]))
    tells = len(complete) >= _FEWEST_FOR_IMPORTANCE and len({trial["score"] for trial in complete}) > 1
    importances = dict(get_param_importances(study)) if tells else {}
    return {"trials": trials, "best": {**best, "overrides": as_words(best["values"])}, "importances": importances}
