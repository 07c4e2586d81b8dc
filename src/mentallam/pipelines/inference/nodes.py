"""Nodes of inference that put two steps together; the other nodes are functions of `serving` and `registry`."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd

from mentallam import config
from mentallam.serving.predictor import Predictor


def compose_inference_config(hydra_configs: str, profile: str, overrides: str | None) -> dict[str, Any]:
    """Return the `inference` group of the Hydra configuration; everything else comes from the checkpoint."""
    return asdict(config.compose_inference(Path(hydra_configs), profile, overrides))


def predict(
    posts: pd.DataFrame, inference_config: dict[str, Any], checkpoints: list[Path], base_models: str
) -> pd.DataFrame:
    """Return one row per post and criterion, with the columns of `serving.output_fields`; never the text."""
    predictor = Predictor.load(checkpoints, Path(base_models), config.InferenceConfig(**inference_config))
    return predictor.predict(posts, progress="predict")
