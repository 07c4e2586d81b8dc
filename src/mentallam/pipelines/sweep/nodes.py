"""Nodes of sweep: train each trial, a child of one MLflow run, score it on dev posts, and report the search."""

import json
import logging
import shutil
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from sklearn.metrics import average_precision_score

from mentallam import tracking
from mentallam.classifier.fold import CorpusTables, fit_fold, states_of_folds
from mentallam.classifier.model import prepare_base
from mentallam.classifier.weights import BaseModel
from mentallam.config import Config, compose_for_corpus
from mentallam.errors import MentallamError
from mentallam.files import replacing_file
from mentallam.reports.report_page import render_report_page
from mentallam.reports.sweep_report import sweep_figures
from mentallam.resumption import begin, fingerprint, hash_of
from mentallam.sweep_space import Range, SweepOptions, as_overrides, first_overrides, read_sweep

if TYPE_CHECKING:
    from optuna import Study, Trial
    from optuna.trial import FrozenTrial

logger = logging.getLogger(__name__)

_FEWEST_FOR_IMPORTANCE = 4


def search(
    hydra_configs: str,
    profile: str,
    overrides: str | None,
    corpus_training_from: int | None,
    sweep: str,
    base_models: str,
    experiment: str,
    fresh: bool,
    attempts: Path,
    data_manifest: dict[str, Any],
    posts: pd.DataFrame,
    criteria: pd.DataFrame,
    pairs: pd.DataFrame,
    groups: pd.DataFrame,
    *splits: dict[str, Any],
) -> tuple[dict[str, str], dict[str, Any]]:
    """Try configurations, each on the dev posts of some folds; the held-out posts are not looked at.

    A search that was interrupted goes on: finished trials are kept, and the one that was under way is trained on from
    its last state.

    Args:
        hydra_configs: The folder of the Hydra configuration.
        profile: Its profile.
        overrides: Overrides of every trial.
        corpus_training_from: As in cv_training.
        sweep: The file of hydra_configs/sweep.
        base_models: Folder of base weights that were converted or made on this machine.
        experiment: The MLflow experiment.
        fresh: Search anew in any case.
        attempts: The folder that records the trials and holds the training states.
        data_manifest: The record of the data.
        posts: As in `CorpusTables`, like the next three.
        criteria: See posts.
        pairs: See posts.
        groups: See posts.
        *splits: The folds.

    Returns:
        The parent run, and what was found.

    Raises:
        MentallamError: The space can't be tried, or Optuna is missing.
    """
    if find_spec("optuna") is None:
        raise MentallamError("the pipeline sweep needs Optuna: pip install -e '.[sweep]'")
    options = read_sweep(Path(hydra_configs), sweep)

    def composed(more: str) -> Config:
        words = f"{overrides or ''} {more}".strip()
        n_posts = data_manifest["counts"]["posts"]
        config = compose_for_corpus(Path(hydra_configs), profile, words, n_posts, corpus_training_from)
        return tracking.with_local_start(config)

    config = composed(first_overrides(options))
    base_model = prepare_base(config, base_models)
    chosen = splits[: options.folds]
    plan = {"sweep": options.model_dump(), "overrides": overrides, "splits": [hash_of(split) for split in chosen]}
    attempt = begin(attempts, fingerprint(config, base_model, data_manifest, **plan), fresh)
    name = f"sweep of {base_model['name']} on {data_manifest['corpus']}"
    parent = tracking.open_cv_run(name, experiment, attempt.token)
    trials = _Trials(
        composed, BaseModel(**base_model), chosen, CorpusTables(posts, criteria, pairs, groups), parent, attempts
    )
    with tracking.failing(parent["run_id"]) as run:
        run.set_tags({"mentallam.sweep": sweep})
        study = _open_study(attempts / "trials.db", options)
        left = options.trials - len(_ended(study))
        if left > 0:
            study.optimize(lambda trial: trials.score(trial, options), n_trials=left)
        found = {
            "sweep": sweep,
            "options": options.model_dump(),
            "folds_seed": splits[0]["seed"],
            **{name: data_manifest[name] for name in ("corpus", "data_hash", "synthetic")},
            **_found(study, overrides),
        }
        run.log_metrics({"best_score": found["best"]["score"], "trials": len(found["trials"])})
        run.describe(f"Best dev average precision **{found['best']['score']:.3f}**: `{found['best']['overrides']}`")
        run.finish()
    return parent, found


class _Trials:
    """Trains the trials of a search, and scores them on dev posts."""

    def __init__(
        self,
        composed: Callable[[str], Config],
        base: BaseModel,
        splits: tuple[dict[str, Any], ...],
        corpus: CorpusTables,
        parent: dict[str, str],
        attempts: Path,
    ) -> None:
        self._composed, self._base, self._splits = composed, base, splits
        self._corpus, self._parent, self._attempts = corpus, parent, attempts

    def score(self, trial: "Trial", options: SweepOptions) -> float:
        """Return the mean of the folds' average precision on their dev posts.

        Raises:
            TrialPruned: The trial is not worth another fold.
        """
        from optuna import TrialPruned

        values = {key: _suggested(trial, key, each) for key, each in options.space.items()}
        words = as_overrides(values)
        config, token = self._composed(words), hash_of({"overrides": words})
        folder = self._attempts / token[:16]
        folder.mkdir(exist_ok=True)
        child = tracking.open_fold_run(
            self._parent, trial.number, f"{self._parent['run_id']}-{token}", f"trial_{trial.number}"
        )
        scores: list[float] = []
        with tracking.failing(child["run_id"]) as run:
            run.log_params(values)
            for split in self._splits:
                scores.append(self._fold(config, split, folder, run))
                trial.report(float(np.mean(scores)), step=len(scores))
                if len(scores) < len(self._splits) and trial.should_prune():
                    break
            pruned = len(scores) < len(self._splits)
            run.log_metrics({"score": float(np.mean(scores))})
            run.set_tags({"mentallam.pruned": pruned})
            run.finish()
        logger.info(
            "trial %s: dev average precision %.3f%s, %s",
            trial.number,
            np.mean(scores),
            " so far, pruned" if pruned else "",
            as_overrides(values),
        )
        if pruned:
            raise TrialPruned
        return float(np.mean(scores))

    def _fold(self, config: Config, split: dict[str, Any], folder: Path, run: tracking.Run) -> float:
        kept = folder / f"fold_{split['fold']}.json"
        if kept.is_file():
            return float(json.loads(kept.read_text(encoding="utf-8")))
        states, corpus = folder / "training", self._corpus
        states.mkdir(exist_ok=True)
        frozen = states_of_folds(config, self._base.to_dict(), corpus.posts, corpus.criteria, corpus.pairs, [split])
        origin = {"run_id": run.run_id, "cv_run_id": self._parent["run_id"], "fold": split["fold"]}
        _, _, dev = fit_fold(config, self._base, split, corpus, frozen, origin, run.log_step, states)
        if dev["label"].nunique() < 2:
            raise MentallamError(
                f"the dev pairs of fold {split['fold']} have one label only, so no trial can be scored on them: choose "
                f"another folds.seed, or a lower folds.dev_splits"
            )
        score = float(average_precision_score(dev["label"], dev["logit"]))
        with replacing_file(kept) as unfinished:
            unfinished.write_text(json.dumps(score), encoding="utf-8")
        shutil.rmtree(states)
        return score


def _suggested(trial: "Trial", key: str, each: Any) -> Any:
    if not isinstance(each, Range):
        return trial.suggest_categorical(key, each.choices)
    if isinstance(each.low, int) and isinstance(each.high, int):
        return trial.suggest_int(key, each.low, each.high, log=each.log)
    return trial.suggest_float(key, each.low, each.high, log=each.log)


def _open_study(file: Path, options: SweepOptions) -> "Study":
    """Open the search in a file; a trial that a killed process had under way is queued again."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)  # errors of a trial are raised
    study = optuna.create_study(
        storage=f"sqlite:///{file}",
        study_name="sweep",
        load_if_exists=True,
        direction="maximize",
        pruner=optuna.pruners.MedianPruner() if options.pruner == "median" else optuna.pruners.NopPruner(),
    )
    samplers = {"tpe": optuna.samplers.TPESampler, "random": optuna.samplers.RandomSampler}
    # A search that goes on draws other points than those that it began with.
    study.sampler = samplers[options.sampler](seed=options.seed + len(study.trials))
    for trial in study.get_trials(states=(optuna.trial.TrialState.RUNNING,)):
        study.tell(trial.number, state=optuna.trial.TrialState.FAIL)
    for trial in study.get_trials(states=(optuna.trial.TrialState.FAIL,)):
        again = f"queued_again_{trial.number}"
        if trial.params and again not in study.user_attrs:
            study.enqueue_trial(trial.params)
            study.set_user_attr(again, True)
    return study


def _ended(study: "Study") -> "list[FrozenTrial]":
    """Return the trials that have a score, also those that were ended early."""
    from optuna.trial import TrialState

    return study.get_trials(states=(TrialState.COMPLETE, TrialState.PRUNED))


def _found(study: "Study", overrides: str | None) -> dict[str, Any]:
    """Return the trials, the best one, and what explains their scores, as plain values."""
    from optuna.importance import get_param_importances
    from optuna.trial import TrialState

    trials: list[dict[str, Any]] = [
        {
            "number": trial.number,
            "values": trial.params,
            "score": trial.intermediate_values[max(trial.intermediate_values)],
            "folds": len(trial.intermediate_values),
            "pruned": trial.state == TrialState.PRUNED,
            "seconds": trial.duration.total_seconds() if trial.duration else None,
        }
        for trial in _ended(study)
    ]
    complete = [trial for trial in trials if not trial["pruned"]]
    best = max(complete, key=lambda trial: float(trial["score"]))
    words = f"{overrides or ''} {as_overrides(best['values'])}".strip()
    tells = len(complete) >= _FEWEST_FOR_IMPORTANCE and len({trial["score"] for trial in complete}) > 1
    importances = dict(get_param_importances(study)) if tells else {}
    return {"trials": trials, "best": {**best, "overrides": words}, "importances": importances}


def write_page(report: str, sweep: dict[str, Any]) -> str:
    """Write the report with its figures as one HTML page."""
    return render_report_page(report, sweep_figures(sweep), sweep["synthetic"])


def attach(run: dict[str, str], sweep: dict[str, Any], report: str, page: str) -> None:
    """Attach the search to its parent run."""
    parent = tracking.Run(run["run_id"])
    parent.log_dict(sweep, "sweep/sweep.json")
    parent.log_text(report, "sweep/sweep.md")
    parent.log_text(page, "sweep/sweep.html")
