"""Trained folds as one MLflow model: `mlflow.pyfunc.load_model("models:/NAME@champion").predict(frame)`.

MLflow keeps a copy of this file and of the package next to the checkpoints, and runs the copy to get the model ("models
from code"): nothing is pickled. The model does not hold the base model; it finds it by name and fingerprint.
"""

import importlib.metadata
import logging
import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from threading import Lock
from typing import Any

import mlflow
import pandas as pd
from mlflow.models import Model, ModelSignature, set_model
from mlflow.pyfunc.model import PythonModel, PythonModelContext
from mlflow.types import ColSpec, Schema
from packaging.version import Version

from mentallam.config import InferenceConfig
from mentallam.errors import MentallamError
from mentallam.serving.live_metrics import LiveMetrics
from mentallam.serving.output_fields import OUTPUT_FIELDS, Answers
from mentallam.serving.posts import FIELDS, Post, RowError, join_rows, read_post
from mentallam.serving.predictor import Predictor, Question
from mentallam.serving.scoring_server import answer_errors_in_a_sentence, is_scoring_server
from mentallam.variables import BASE_MODELS, METRICS

_SERVED = [field for field in OUTPUT_FIELDS if field.served]
SIGNATURE = ModelSignature(
    # All inputs are strings, since MLflow's CSV reader would turn the id 0012 into 12.0. None is required, since
    # MLflow's message about a missing column names the others, and one of these may be a text; `predict` refuses it.
    inputs=Schema([ColSpec("string", name, required=False) for name in FIELDS]),
    outputs=Schema([ColSpec(field.type, field.name) for field in _SERVED]),
)
# Where an input does not fit the schema, MLflow's error would show the input, and with it the text.
os.environ.setdefault("MLFLOW_DISABLE_SCHEMA_DETAILS", "true")
# MLflow warns of unknown columns by name; in a CSV file without a header, the first post is such a name.
logging.getLogger("mlflow.models.utils").setLevel(logging.ERROR)

INPUT_EXAMPLE = pd.DataFrame(  # an invented post
    {"post_id": ["example_1"], "text": ["I have been awake until four every night this month, and I am so tired."]}
)

# What the copied package imports when it predicts; pinned to the versions that are installed.
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
    "filelock",
    "pyyaml",
    "tenacity",
    "pyarrow",
    "fsspec",
    "universal-pathlib",
    "pydantic",
    "ftfy",
    "linkify-it-py",
    "phonenumbers",
    "psutil",
    "tqdm",
    "click",
    "packaging",
    "prometheus-client",
)


class ScreeningModel(PythonModel):
    """One fold's classifier, or the mean of several, behind MLflow's interface."""

    _predictor: Predictor

    def __init__(self) -> None:
        # One request at a time: a pass uses all cores or the GPU, and the passes of several would add up in memory.
        self._one_at_a_time = Lock()
        self._metrics = LiveMetrics()

    def load_context(self, context: PythonModelContext) -> None:
        """Load the checkpoints on their base model.

        The caller of `load_model` may replace any key of `model_config`: base_models (a folder), and the fields of
        `InferenceConfig`.

        Raises:
            MentallamError: The base model can't be loaded, or a checkpoint is not complete.
        """
        config = dict(context.model_config)
        base_models = _find_base_models(config.pop("base_models"))
        folders = [Path(folder) for _, folder in sorted(context.artifacts.items())]
        self._predictor = Predictor.load(folders, base_models, InferenceConfig(**config))
        if is_scoring_server():
            answer_errors_in_a_sentence()
            if address := os.environ.get(METRICS):
                self._metrics.serve(address)

    def predict(
        self, context: PythonModelContext, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> pd.DataFrame:
        """Compare each post with its criteria; log and return nothing of the text.

        Args:
            context: Unused; MLflow passes it.
            model_input: Strings. Column text; optional columns post_id (default: the row's number, from 1), and
                criterion_id or criterion (an id or a wording; default: all criteria).
            params: Unused; MLflow passes it.

        Returns:
            The served columns of `output_fields.OUTPUT_FIELDS`. If each row names its criterion there is an answer per
            row, in the order of the rows, as functions of Spark must have it; otherwise an answer per pair, post by
            post.

        Raises:
            MentallamError: There is no text or an empty one, a value is not a string, only some posts have a post_id,
                a post_id has two texts, or a criterion is unknown.
        """
        with self._metrics.request():
            answers = self._answer(model_input)
        return pd.DataFrame({field.name: answers[field.name] for field in _SERVED})

    def _answer(self, model_input: pd.DataFrame) -> Answers:
        if "text" not in model_input:
            raise MentallamError("the input has no column text; it needs text, and may have post_id and criterion_id")
        filled = model_input.astype(object).where(model_input.notna(), None)
        rows = [dict(zip(map(str, filled), values, strict=True)) for values in filled.to_numpy().tolist()]
        if not rows:
            raise MentallamError("the input holds no post; it needs at least one row")
        posts = _posts(rows)
        with self._one_at_a_time:
            questions = self._questions(posts)
            answers = self._predictor.answer(questions)
        self._metrics.add(self._predictor, questions, answers)
        if any(post.criteria is None for post in posts.values()):
            return answers
        place = {pair: at for at, pair in enumerate(zip(answers["post_id"], answers["criterion_id"], strict=True))}
        asked = [self._predictor.choice.resolve(post) for post in posts.values()]
        order = [place[post.post_id, criterion] for post in asked for criterion in post.criteria or ()]
        return {name: [values[at] for at in order] for name, values in answers.items()}

    def _questions(self, posts: dict[int, Post]) -> list[Question]:
        joined, refused = join_rows(posts)
        for row, error in refused.items():
            raise _refusal(row, error)
        rows_of = {post.post_id: row for row, post in reversed(posts.items())}
        questions: list[Question] = []
        for post in joined:
            try:
                questions += self._predictor.prepare(post)
            except RowError as error:
                raise _refusal(rows_of[post.post_id], error) from None
        return questions


def _posts(rows: Sequence[Mapping[str, Any]]) -> dict[int, Post]:
    """Return the post of each row, by the row's number."""
    posts: dict[int, Post] = {}
    for row, values in enumerate(rows, 1):
        try:
            # MLflow's CSV reader takes NA, null and the like as missing; a number would replace such an id.
            if "post_id" in values and values["post_id"] is None:
                raise RowError(
                    "post_id is missing; give all posts one, or leave the column out; as JSON, ids such as NA arrive "
                    "as they are"
                )
            posts[row] = read_post(values, str(row))
        except RowError as error:
            raise _refusal(row, error) from None
    return posts


def _refusal(row: int, error: RowError) -> MentallamError:
    return MentallamError(f"the input, row {row}: {error.reason}")


def save_pyfunc(
    folder: Path,
    checkpoints: Mapping[int, Path],
    base_models: Path,
    inference: InferenceConfig,
    model_id: str | None = None,
    ensemble: Path | None = None,
) -> None:
    """Write an MLflow model without loading weights.

    Args:
        folder: The model's folder; new or empty.
        checkpoints: Checkpoint folder by fold, of the folds that take part.
        base_models: Folder of the base weights that were converted or made on this machine; the model looks there
            first.
        inference: How the model predicts unless it is loaded with another `model_config`.
        model_id: MLflow's id of the model, if it has one.
        ensemble: The file with the calibration of folds that answer together.
    """
    with tempfile.TemporaryDirectory() as temporary:
        code = Path(temporary) / "mentallam"
        # The generator of synthetic posts plays no part in predictions.
        shutil.copytree(Path(__file__).parents[1], code, ignore=shutil.ignore_patterns("__pycache__", "synthetic*"))
        artifacts = {f"fold_{fold}": str(checkpoint) for fold, checkpoint in sorted(checkpoints.items())}
        mlflow.pyfunc.save_model(
            folder,
            python_model=__file__,
            artifacts=artifacts | ({"ensemble": str(ensemble)} if ensemble else {}),
            code_paths=[str(code)],
            signature=SIGNATURE,
            input_example=INPUT_EXAMPLE,
            pip_requirements=requirements(),
            # The folder of base models may be read-only where the model is served.
            model_config={"base_models": str(base_models.resolve()), **asdict(inference), "keep_merged": False},
            mlflow_model=Model(model_id=model_id),
        )


def requirements() -> list[str]:
    """Return the packages that the model needs, pinned to the installed versions without a local part (`+cpu`)."""
    return [f"{name}=={Version(importlib.metadata.version(name)).public}" for name in _REQUIREMENTS]


def _find_base_models(recorded: str) -> Path:
    """Return the folder of base weights: the recorded one, or the variable's where that is not on this machine."""
    for folder in (recorded, os.environ.get(BASE_MODELS)):
        if folder and Path(folder).is_dir():
            return Path(folder)
    raise MentallamError(
        f"the folder of base models {recorded} is not on this machine: name another in the environment variable "
        f"{BASE_MODELS}, or as load_model(..., model_config={{'base_models': ...}}); an empty one is filled where the "
        f"base model comes from a hub or a wheel"
    )


set_model(ScreeningModel())
