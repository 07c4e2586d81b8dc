"""Nodes of inference that put two steps together; the other nodes are functions of `serving` and `registry`."""

from pathlib import Path

import pandas as pd

from mentallam.config import InferenceConfig, compose_inference
from mentallam.serving.predictor import Predictor


def compose_inference_config(hydra_configs: str, profile: str, overrides: str | None) -> InferenceConfig:
    """Return the `inference` group of the Hydra configuration; everything else comes from the checkpoint."""
    return compose_inference(Path(hydra_configs), profile, overrides)


def predict(
    posts: pd.DataFrame, inference_config: InferenceConfig, checkpoints: list[Path], base_models: str
) -> pd.DataFrame:
    """Return one row per post and criterion, with the columns of `serving.output_fields`; never the text."""
    predictor = Predictor.load(checkpoints, Path(base_models), inference_config)
    return predictor.predict(posts, progress="predict")
