"""Trained folds as one MLflow model: `mlflow.pyfunc.load_model("models:/NAME@champion").predict(frame)`.

MLflow keeps a copy of this file and of the package beside the checkpoints, and runs the copy to get the model ("models
from code"): nothing is pickled. The base model is not in it; it is found by its name and fingerprint.
"""

import importlib.metadata
import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
from mlflow.models import Model, ModelSignature, set_model
from mlflow.pyfunc.model import PythonModel, PythonModelContext
from mlflow.types import ColSpec, Schema
from packaging.version import Version

from mentallam.config import InferenceConfig
from mentallam.corpus.refusals import refuse_rows
from mentallam.errors import MentallamError
from mentallam.serving.inputs import check_posts
from mentallam.serving.predictor import Predictor

BASE_MODELS = "MENTALLAM_BASE_MODELS"

# All strings, or MLflow's CSV reader would make 12.0 of the id 0012. None is required, since MLflow's sentence about a
# missing column names the others, one of which may be a text; `predict` refuses it.
_INPUTS = ("text", "post_id", "criterion_id")
_OUTPUTS = {
    "post_id": "string",
    "criterion_id": "string",
    "label": "string",
    "probability": "double",
    "threshold": "double",
}
SIGNATURE = ModelSignature(
    inputs=Schema([ColSpec("string", name, required=False) for name in _INPUTS]),
    outputs=Schema([ColSpec(type_, name) for name, type_ in _OUTPUTS.items()]),
)
# Where an input breaks its schema, MLflow's error would show the input, and with it the text.
os.environ.setdefault("MLFLOW_DISABLE_SCHEMA_DETAILS", "true")

INPUT_EXAMPLE = pd.DataFrame(  # an invented post
    {"post_id": ["example_1"], "text": ["I have been awake until four every night this month, and I am so tired."]}
)

# What the copied package imports when it predicts; in the versions that are installed now.
_REQUIREMENTS = (
    "mlflow",
    "torch",
    "transformers",
    "peft",
    "accelerate",
    "tokenizers",
    "safetensors",
    "gguf",
    "huggingface-hub",
    "hydra-core",
    "omegaconf",
    "scikit-learn",
    "scipy",
    "numpy",
    "pandas",
    "pandera",
    "pyarrow",
    "pydantic",
    "ftfy",
    "linkify-it-py",
    "phonenumbers",
    "psutil",
    "tqdm",
    "click",
    "packaging",
)


class ScreeningModel(PythonModel):
    """One fold's classifier, or the mean of several, behind MLflow's interface."""

    _predictor: Predictor

    def load_context(self, context: PythonModelContext) -> None:
        """Loads the checkpoints on their base model.

        `model_config` may be replaced when the model is loaded: base_models (a folder), tokens_per_pass, dtype,
        merge_adapter, threshold.

        Raises:
            MentallamError: The base model can't be had, or a checkpoint is not complete.
        """
        config = dict(context.model_config)
        base_models = _find_base_models(config.pop("base_models"))
        folders = [Path(folder) for _, folder in sorted(context.artifacts.items())]
        self._predictor = Predictor.load(folders, base_models, InferenceConfig(**config))

    def predict(
        self, context: PythonModelContext, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> pd.DataFrame:
        """Asks each post its criteria; nothing of the text is logged or returned.

        Args:
            context: Unused; MLflow passes it.
            model_input: Columns text, and as you like post_id (else the row's number, from 1) and criterion_id (else
                all criteria); strings.
            params: Unused; MLflow passes it.

        Returns:
            Columns post_id, criterion_id, label (yes or no), probability, threshold.

        Raises:
            MentallamError: No text, an empty one, a value that is no string, some posts without post_id, one post_id
                with two texts, or an unknown criterion.
        """
        rows = model_input.astype(object).assign(row=range(1, len(model_input) + 1))
        if "text" not in rows:
            raise MentallamError("the input has no column text; it needs text, and may have post_id and criterion_id")
        # MLflow's CSV reader takes NA, null and the like for missing; numbering such a post would lose its id.
        if "post_id" in rows:
            way_out = "give all posts one, or leave the column out; as JSON, ids such as NA arrive as they are"
            refuse_rows(rows.set_index("row")["post_id"].isna(), f"post_id is missing; {way_out}", "the input")
        return self._predictor.predict(check_posts(rows, "the input"))[list(_OUTPUTS)]


def save_pyfunc(
    folder: Path,
    checkpoints: Mapping[int, Path],
    base_models: Path,
    inference: InferenceConfig,
    model_id: str | None = None,
) -> None:
    """Writes an MLflow model; it loads no weights.

    Args:
        folder: Where to; made anew.
        checkpoints: The folder of each fold that takes part.
        base_models: Where base weights made on this machine lie; recorded as the first place to look.
        inference: How predictions are made unless the model is loaded with another `model_config`.
        model_id: MLflow's id for it, if it has one.
    """
    with tempfile.TemporaryDirectory() as temporary:
        code = Path(temporary) / "mentallam"
        # Who predicts invents no posts.
        shutil.copytree(Path(__file__).parents[1], code, ignore=shutil.ignore_patterns("__pycache__", "synthetic*"))
        mlflow.pyfunc.save_model(
            folder,
            python_model=__file__,
            artifacts={f"fold_{fold}": str(checkpoint) for fold, checkpoint in sorted(checkpoints.items())},
            code_paths=[str(code)],
            signature=SIGNATURE,
            input_example=INPUT_EXAMPLE,
            pip_requirements=requirements(),
            model_config={"base_models": str(base_models.resolve()), **asdict(inference)},
            mlflow_model=Model(model_id=model_id),
        )


def requirements() -> list[str]:
    """Packages that the model needs, in the versions installed here, without the build's local part (`+cpu`)."""
    return [f"{name}=={Version(importlib.metadata.version(name)).public}" for name in _REQUIREMENTS]


def _find_base_models(recorded: str) -> Path:
    """The folder of base weights: the model's own setting, or where that is not on this machine, the environment's."""
    for folder in (recorded, os.environ.get(BASE_MODELS)):
        if folder and Path(folder).is_dir():
            return Path(folder)
    raise MentallamError(
        f"the folder of base models {recorded} is not on this machine: name another in the environment variable "
        f"{BASE_MODELS}, or as load_model(..., model_config={{'base_models': ...}}); an empty one is filled where the "
        f"base model comes from a hub or a wheel"
    )


set_model(ScreeningModel())
