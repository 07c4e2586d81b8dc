"""Nodes of inference: they call the serving wing."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd

from mentallam import config, registry
from mentallam.serving import inputs
from mentallam.serving.predictor import Predictor


def read_posts(path: str | None, columns: dict[str, str | None]) -> pd.DataFrame:
    """Return the posts to predict on; `columns` holds headings that are not the usual ones."""
    return inputs.read_posts(path, columns)


def compose_inference_config(hydra_configs: str, profile: str, overrides: str | None) -> dict[str, Any]:
    """Return the `inference` group of the Hydra configuration; the rest is the checkpoint's own."""
    return asdict(config.compose_inference(Path(hydra_configs), profile, overrides))


def select_checkpoints(experiment: str, checkpoint_run: str | None, registered_model: str) -> list[str]:
    """Return the folders of the checkpoints that are used; fetched first where they lie on a server."""
    return [str(folder) for folder in registry.find_checkpoints(experiment, checkpoint_run, registered_model)]


def predict(
    posts: pd.DataFrame, inference_config: dict[str, Any], checkpoints: list[str], base_models: str
) -> pd.DataFrame:
    """Return one row per post and criterion: ids, answer, probability; never the text."""
    folders = [Path(folder) for folder in checkpoints]
    predictor = Predictor.load(folders, Path(base_models), config.InferenceConfig(**inference_config))
    return predictor.predict(posts, progress="predict")
