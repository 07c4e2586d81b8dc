"""The node of refit: train, save and log one model of all posts, beside the folds of its cross-validation."""

import logging
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd
from torch import Tensor

from mentallam import tracking
from mentallam.classifier.checkpoint import origin_of, save_checkpoint
from mentallam.classifier.fold import CorpusTables
from mentallam.classifier.refit import FOLD, fit_refit, refit_decision
from mentallam.classifier.weights import BaseModel
from mentallam.config import Config
from mentallam.errors import MentallamError
from mentallam.evaluation.aggregate import median_epoch
from mentallam.evaluation.decision import Decision
from mentallam.evaluation.oof import out_of_fold_table
from mentallam.resumption import begin, clear, fingerprint
from mentallam.seeds import training_seed

logger = logging.getLogger(__name__)


def train_on_all_posts(
    cv_run: dict[str, str],
    training_config: Config,
    base_model: dict[str, str],
    data_manifest: dict[str, Any],
    frozen_states: dict[str, Tensor],
    cv_outcome: dict[str, Any],
    system_metrics_interval: float,
    fresh: bool,
    attempts: Path,
    posts: pd.DataFrame,
    criteria: pd.DataFrame,
    pairs: pd.DataFrame,
    groups: pd.DataFrame,
    *of_folds: Any,
) -> tuple[Path, dict[str, Any]]:
    """Train one model on all posts, for the median of the folds' best epochs; its run is a child of the folds' parent.

    A refit that is finished is kept, and one that was interrupted goes on, as long as all that decides its result is
    the same.

    Args:
        cv_run: The parent run.
        training_config: The configuration.
        base_model: The base model on disk.
        data_manifest: The record of the data.
        frozen_states: As cv_training saved them.
        cv_outcome: The outcome of the cross-validation.
        system_metrics_interval: Seconds between two looks at the machine.
        fresh: Train anew in any case.
        attempts: The folder that records what the refit was begun with, and holds its training states.
        posts: As in `CorpusTables`, like the next three.
        criteria: See posts.
        pairs: See posts.
        groups: See posts.
        *of_folds: The splits of all folds, then their held-out predictions.

    Returns:
        The folder of the checkpoint, and how it was trained.

    Raises:
        MentallamError: The outcome is of another cross-validation than the parent run, or of one that has searched a
            configuration in each fold.
    """
    if cv_outcome["cv_run_id"] != cv_run["run_id"]:
        raise MentallamError(
            f"the results of the folds belong to the run {cv_outcome['cv_run_id']}, not to {cv_run['run_id']} in "
            f"cv_run.json: run `kedro run --pipeline cv_training` to its end first"
        )
    results = cv_outcome["folds"]
    if any(result.get("search") for result in results):
        raise MentallamError(
            "each fold of this cross-validation has found a configuration of its own, so there is none for a model of "
            "all posts: confirm the best of one search by a cross-validation, and refit that one (docs/sweep.md)"
        )
    splits, predictions = of_folds[: len(results)], of_folds[len(results) :]
    oof, epochs = out_of_fold_table(*predictions), median_epoch(results)
    decisions = [Decision.from_dict(result["decision"]) for result in results]
    decision = refit_decision(training_config.decision.calibration, oof, decisions)
    plan = {"epochs": epochs, "decision": decision.to_dict(), "cv_run_id": cv_run["run_id"]}
    attempt = begin(attempts, fingerprint(training_config, base_model, data_manifest, refit=plan), fresh)
    run_id = tracking.open_refit_run(cv_run, attempt.token)
    if tracking.is_complete(run_id):
        logger.info("the refit is finished: it is kept; --params fresh=true trains again")
        result = tracking.load_result(run_id)
        return tracking.download_checkpoint(run_id, attempts), result
    seed = training_config.training.seed
    # No fold has this number, so no fold shares its seed.
    seeds = {"seed": training_seed(seed, len(results)), "training_seed": seed, "folds_seed": splits[0]["seed"]}
    origin = origin_of(run_id, cv_run["run_id"], FOLD, seeds, data_manifest)
    with tracking.failing(run_id) as run:
        run.log_params({"fold": FOLD, "epochs": epochs, "seed": origin["seed"]})
        with tracking.system_metrics(run_id, system_metrics_interval):
            trained, outcome = fit_refit(
                training_config,
                BaseModel(**base_model),
                splits,
                CorpusTables(posts, criteria, pairs, groups),
                frozen_states,
                oof,
                decision,
                epochs,
                origin,
                run.log_step,
                attempts,
            )
        checkpoint = attempts / tracking.CHECKPOINT
        save_checkpoint(trained, checkpoint)
        run.log_folder(checkpoint, tracking.CHECKPOINT)
        training = {name: value for name, value in asdict(outcome).items() if name != "history"}
        result = {"run_id": run_id, **plan, **training}
        run.log_dict(result, tracking.RESULT)
        run.log_metrics({name: result[name] for name in ("epochs", "steps", "seconds")})
        run.finish()
    clear(attempts)
    logger.info("registry.use=refit serves it: `kedro run --pipeline reporting --params registry.use=refit`")
    return tracking.download_checkpoint(run_id, attempts), result
