"""Training that starts from another corpus's checkpoint, in place of fresh adapters.

A checkpoint records hashes of the posts that it learnt from. If a post of the new corpus is among them, the training is
refused: the fold that holds the post out would be scored on what the model has learnt.
"""

import hashlib
import logging
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd
from peft import PeftModel
from peft.utils import get_peft_model_state_dict, set_peft_model_state_dict
from safetensors.torch import load_file

from mentallam.classifier.checkpoint import LEARNT, read_facts
from mentallam.classifier.weights import BaseModel
from mentallam.config import Config
from mentallam.errors import MentallamError

logger = logging.getLogger(__name__)

_WEIGHTS = "adapter_model.safetensors"
_HASH_DIGITS = 16
_NAMED = 5


def learnt_posts(config: Config, posts: pd.DataFrame, post_ids: Iterable[str]) -> list[str]:
    """Return the hashes of all posts that a training has learnt from, those of its start among them.

    Args:
        config: The configuration.
        posts: Columns post_id, text.
        post_ids: The posts that it trains on or chooses by.
    """
    hashes = {_hash(text) for text in posts.loc[posts["post_id"].isin(set(post_ids)), "text"]}
    if config.training.start_from:
        hashes |= set(_facts_of_start(config)[LEARNT])
    return sorted(hashes)


def check_start(config: Config, base: BaseModel, posts: pd.DataFrame) -> None:
    """Refuse a start that doesn't fit, or that has learnt from a post of this corpus, before any fold is trained.

    Args:
        config: The configuration; nothing is checked without `training.start_from`.
        base: The base model on disk.
        posts: Columns post_id, text; each is held out by one fold.

    Raises:
        MentallamError: It is no checkpoint, has another base or other adapters, or knows some of the posts.
    """
    if not config.training.start_from:
        return
    facts = _facts_of_start(config)
    fingerprint = facts["base_model"]["fingerprint"]
    if fingerprint != base.fingerprint:
        raise MentallamError(
            f"training.start_from: {config.training.start_from} was trained on the base {facts['base_model']['name']} "
            f"({fingerprint:.8}), not on {base.name} ({base.fingerprint:.8}): choose the same base"
        )
    saved_adapter = facts["config"]["adapter"]
    for key, now in asdict(config.adapter).items():
        saved = saved_adapter.get(key)
        if saved == now:
            continue
        raise MentallamError(
            f"training.start_from: {config.training.start_from} has adapter.{key}={saved}, this training {now}: "
            f"write overrides=adapter.{key}={saved}"
        )
    hashes = posts["text"].map(_hash)
    again = posts["post_id"][hashes.isin(facts[LEARNT])].tolist()
    if again:
        named = ", ".join(again[:_NAMED]) + (", ..." if len(again) > _NAMED else "")
        raise MentallamError(
            f"training.start_from: {config.training.start_from} has learnt from {len(again)} posts of this corpus "
            f"({named}), whose scores would not be those of unseen posts: start from a checkpoint of another corpus"
        )


def start_adapters(model: PeftModel, config: Config, criteria: Mapping[str, str]) -> None:
    """Give fresh adapters the weights of `training.start_from`, and the head if the criteria are the same.

    Args:
        model: The classifier, before its training; changed in place. Nothing happens without `training.start_from`.
        config: The configuration, after `check_start`.
        criteria: The wording of each criterion of this corpus.
    """
    if not config.training.start_from:
        return
    folder = Path(config.training.start_from)
    facts = _facts_of_start(config)
    weights = load_file(folder / _WEIGHTS)
    same_criteria = facts["criteria"] == dict(criteria)
    if not same_criteria:
        fresh = get_peft_model_state_dict(model, save_embedding_layers=False)  # otherwise PEFT asks the hub
        weights = {name: fresh[name] if ".score." in name else weight for name, weight in weights.items()}
    set_peft_model_state_dict(model, weights)
    logger.info(
        "the adapters%s start from %s, trained on %s",
        " and the head" if same_criteria else "",
        folder,
        facts["origin"]["corpus"],
    )


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:_HASH_DIGITS]


def _facts_of_start(config: Config) -> dict[str, Any]:
    folder = Path(str(config.training.start_from))
    if not folder.is_dir():
        raise MentallamError(
            f"training.start_from: there is no folder {folder}; give the id of a fold's MLflow run, or the folder of a "
            f"checkpoint, such as data/06_models/fold_0"
        )
    facts = read_facts(folder)
    if LEARNT not in facts:
        raise MentallamError(
            f"training.start_from: {folder} does not record which posts it has learnt from, as exported models and "
            f"older checkpoints do not: train it again, or start from the checkpoint itself"
        )
    return facts
