"""Nodes of sweep: train each trial, a child of one MLflow run, score it on dev posts, and report the search."""

from pathlib import Path
from typing import Any

import pandas as pd

from mentallam import tracking
from mentallam.classifier.fold import CorpusTables
from mentallam.classifier.model import prepare_base
from mentallam.classifier.weights import BaseModel
from mentallam.config import compose_for_corpus
from mentallam.reports.report_page import render_report_page
from mentallam.reports.sweep_report import sweep_figures
from mentallam.resumption import begin, fingerprint, hash_of
from mentallam.search import Search, check_search
from mentallam.sweep_space import read_sweep


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
    options = read_sweep(Path(hydra_configs), sweep)
    n_posts = data_manifest["counts"]["posts"]
    composed = compose_for_corpus(Path(hydra_configs), profile, overrides, n_posts, corpus_training_from)
    config = tracking.with_local_start(composed)
    check_search(options, config)
    base_model = prepare_base(config, base_models)
    chosen = splits[: options.folds]
    plan = {"sweep": options.model_dump(), "overrides": overrides, "splits": [hash_of(split) for split in chosen]}
    attempt = begin(attempts, fingerprint(config, base_model, data_manifest, **plan), fresh)
    name = f"sweep of {base_model['name']} on {data_manifest['corpus']}"
    parent = tracking.open_cv_run(name, experiment, attempt.token)
    corpus = CorpusTables(posts, criteria, pairs, groups)
    with tracking.failing(parent["run_id"]) as run:
        run.set_tags({"mentallam.sweep": sweep})
        outcome = Search(options, config, BaseModel(**base_model), chosen, corpus, parent, attempts).find()
        best = outcome["best"]
        found = {
            "run_id": parent["run_id"],
            "sweep": sweep,
            "options": options.model_dump(),
            "folds_seed": splits[0]["seed"],
            **{name: data_manifest[name] for name in ("corpus", "data_hash", "synthetic")},
            **outcome,
            "best": {**best, "overrides": f"{overrides or ''} {best['overrides']}".strip()},
        }
        run.log_metrics({"best_score": best["score"], "trials": len(found["trials"])})
        run.describe(f"Best dev average precision **{best['score']:.3f}**: `{found['best']['overrides']}`")
        run.finish()
    return parent, found


def write_page(report: str, sweep: dict[str, Any]) -> str:
    """Write the report with its figures as one HTML page."""
    return render_report_page(report, sweep_figures(sweep), sweep["synthetic"])


def attach(run: dict[str, str], sweep: dict[str, Any], report: str, page: str) -> None:
    """Attach the search to its parent run."""
    parent = tracking.Run(run["run_id"])
    parent.log_dict(sweep, tracking.SEARCH)
    parent.log_text(report, "sweep/sweep.md")
    parent.log_text(page, "sweep/sweep.html")
