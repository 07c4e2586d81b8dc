"""Nodes of learning_curve: train at each size, each training a child of one MLflow run, and log the curve."""

import logging
import shutil
from collections.abc import Sequence
from dataclasses import replace
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any

import pandas as pd
from plotly.graph_objects import Figure
from torch import Tensor

from mentallam import tracking
from mentallam.classifier import learned_baselines
from mentallam.classifier.fold import CorpusTables, fit_fold, score_fold
from mentallam.classifier.weights import BaseModel
from mentallam.config import Config, compose_for_corpus, to_dict
from mentallam.errors import MentallamError
from mentallam.evaluation.learning_curve import MODEL
from mentallam.evaluation.metrics import held_out_metrics
from mentallam.files import replacing_file
from mentallam.reports.report_page import render_report_page
from mentallam.resumption import begin, fingerprint, hash_of

logger = logging.getLogger(__name__)

BASELINE = "tfidf"
"""The baseline of the curve: it reads words, and takes seconds at each size."""


def compose_config_of_curve(
    hydra_configs: str,
    profile: str,
    overrides: str | None,
    data_manifest: dict[str, Any],
    corpus_training_from: int | None,
) -> Config:
    """Compose the Hydra configuration; of the baselines, the curve has `BASELINE` alone.

    Raises:
        MentallamError: It is refused, or asks for a sample of the training posts, which the curve itself takes.
    """
    n_posts = data_manifest["counts"]["posts"]
    composed = compose_for_corpus(Path(hydra_configs), profile, overrides, n_posts, corpus_training_from)
    if composed.training.sample_fraction < 1:
        raise MentallamError(
            f"training.sample_fraction is {composed.training.sample_fraction}, but learning_curve chooses the training "
            "posts by learning_curve.sizes: leave it out"
        )
    composed = tracking.with_local_start(composed)
    return replace(composed, baselines=replace(composed.baselines, models=[BASELINE]))


def train_by_size(
    config: Config,
    base_model: dict[str, str],
    data_manifest: dict[str, Any],
    frozen_states: dict[str, Tensor],
    splits: list[dict[str, Any]],
    experiment: str,
    system_metrics_interval: float,
    fresh: bool,
    attempts: Path,
    *tables: pd.DataFrame,
) -> tuple[dict[str, str], pd.DataFrame]:
    """Train and score the model and the baseline at each size and fold.

    A size that is finished is kept, and one that was interrupted goes on, as long as all that decides its result is the
    same.

    Args:
        config: The configuration.
        base_model: The base model on disk.
        data_manifest: The record of the data.
        frozen_states: As `fold.states_of_folds` returns them.
        splits: As `corpus.subsets.sized_splits` returns them.
        experiment: The MLflow experiment.
        system_metrics_interval: Seconds between two looks at the machine.
        fresh: Train anew in any case.
        attempts: The folder that records what each training was begun with, and holds its results.
        *tables: posts, criteria, pairs and groups, as in `CorpusTables`.

    Returns:
        The parent run, and the columns of the out-of-fold table with `model` and `size`.
    """
    corpus, base = CorpusTables(*tables), BaseModel(**base_model)
    scored = {f"{split['fold']}_{split['size']}": hash_of(split) for split in splits}
    begun = begin(attempts, fingerprint(config, base_model, data_manifest, splits=scored), fresh)
    name = f"learning curve of {base_model['name']} on {data_manifest['corpus']}"
    parent = tracking.open_cv_run(name, experiment, begun.token)
    with tracking.failing(parent["run_id"]) as run:
        if not begun.goes_on:
            run.log_params({**to_dict(config), "base_model": {**base_model, "folder": None}})
            run.set_tags({"mentallam.learning_curve": True})
        found = []
        for split in splits:
            folder = attempts / f"fold_{split['fold']}_size_{split['size']}"
            decided_by = fingerprint(config, base_model, data_manifest, split=hash_of(split))
            attempt = begin(folder, decided_by)
            kept = folder / "predictions.parquet"
            if kept.is_file():
                logger.info("fold %s at %s %% is finished: its predictions are kept", split["fold"], split["size"])
            else:
                name = f"fold_{split['fold']}_size_{split['size']}"
                child = tracking.open_fold_run(parent, split["fold"], attempt.token, name)
                predictions = _train(
                    child, parent, config, base, split, corpus, frozen_states, system_metrics_interval, folder
                )
                with replacing_file(kept) as unfinished:
                    predictions.to_parquet(unfinished, index=False)
            found.append(pd.read_parquet(kept).assign(model=MODEL, size=split["size"]))
        run.finish()
    return parent, pd.concat([*found, *_baseline(config, base, splits, corpus)], ignore_index=True)


def _train(
    child: dict[str, str],
    parent: dict[str, str],
    config: Config,
    base: BaseModel,
    split: dict[str, Any],
    corpus: CorpusTables,
    frozen_states: dict[str, Tensor],
    system_metrics_interval: float,
    folder: Path,
) -> pd.DataFrame:
    """Train at one size in one fold, score its held-out pairs, and finish its run."""
    logger.info("fold %s: training on %s %%, %s posts", split["fold"], split["size"], len(split["train"]))
    origin = {"run_id": child["run_id"], "cv_run_id": parent["run_id"], "fold": split["fold"]}
    states = folder / "training"
    states.mkdir(exist_ok=True)
    with tracking.failing(child["run_id"]) as run:
        run.log_params({"size": split["size"], "fold": split["fold"], "training_posts": len(split["train"])})
        with tracking.system_metrics(run.run_id, system_metrics_interval):
            trained, outcome, _ = fit_fold(config, base, split, corpus, frozen_states, origin, run.log_step, states)
        predictions = score_fold(trained, split, corpus)
        run.log_metrics({**held_out_metrics(predictions, config.decision), "seconds": outcome.seconds})
        run.finish()
    shutil.rmtree(states)
    return predictions


def _baseline(
    config: Config, base: BaseModel, splits: Sequence[dict[str, Any]], corpus: CorpusTables
) -> list[pd.DataFrame]:
    """Fit the baseline at each size."""
    tables = (corpus.posts, corpus.criteria, corpus.pairs, corpus.groups)
    return [
        learned_baselines.fit_baselines(config, base, list(of_size), *tables).assign(size=size)
        for size, of_size in groupby(splits, key=itemgetter("size"))
    ]


def write_curve_page(report: str, figure: Figure, curve: dict[str, Any]) -> str:
    """Write the report with its figure as one HTML page."""
    return render_report_page(report, {"learning_curve": figure}, curve["synthetic"])


def attach_curve(run: dict[str, str], curve: dict[str, Any], report: str, page: str, *table_texts: str) -> None:
    """Attach the curve to its parent run."""
    parent = tracking.Run(run["run_id"])
    parent.log_dict(curve, "learning_curve/learning_curve.json")
    parent.log_text(report, "learning_curve/learning_curve.md")
    parent.log_text(page, "learning_curve/learning_curve.html")
    for ending, text in zip(("csv", "tex", "md"), table_texts, strict=True):
        parent.log_text(text, f"learning_curve/tables/learning_curve.{ending}")
