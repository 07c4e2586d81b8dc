from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import mlflow
import pytest
import torch

from mentallam.classifier.checkpoint import TrainedFold
from mentallam.classifier.weights import BaseModel
from mentallam.config import Config
from mentallam.evaluation.calibration import Calibration
from mentallam.evaluation.decision import Decision, Thresholds
from tests.unit.classifier.conftest import make_classifier

ORIGIN = {
    "run_id": "fold-run",
    "cv_run_id": "cv-run",
    "fold": 1,
    "seed": 43,
    "corpus": "synthetic sample",
    "synthetic": True,
    "data_hash": "ab" * 32,
    "mask": False,
}


DECISION = Decision(Calibration(0.9, -0.1), Thresholds(0.37))


def with_threshold(trained: TrainedFold, threshold: float) -> TrainedFold:
    """The same, but for the threshold of all criteria."""
    return replace(trained, decision=replace(trained.decision, thresholds=Thresholds(threshold)))


def make_trained(base: BaseModel, config: Config) -> TrainedFold:
    """What training would leave: adapters and a head that are not as they start."""
    model, prompter = make_classifier(base, config)
    head = model.base_model.model.score.modules_to_save["default"].weight
    torch.nn.init.normal_(head, std=0.3)
    return TrainedFold(model, prompter, config, base, DECISION, ORIGIN)


@pytest.fixture
def trained(tiny_base: BaseModel, tiny_config: Config) -> TrainedFold:
    return make_trained(tiny_base, tiny_config)


@pytest.fixture(scope="session")
def tracking_database(tmp_path_factory: pytest.TempPathFactory) -> str:
    """An MLflow database on SQLite; it takes seconds to make, so all tests share it."""
    uri = f"sqlite:///{tmp_path_factory.mktemp('tracking')}/mlflow.db"
    mlflow.MlflowClient(uri).search_experiments()
    return uri


@pytest.fixture
def experiment(tracking_database: str, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[str]:
    """The name of a new MLflow experiment, MLflow set up to find it."""
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(tracking_database)
    name = request.node.nodeid
    mlflow.create_experiment(name, artifact_location=str(tmp_path / "mlruns"))
    yield name
    while mlflow.active_run():
        mlflow.end_run()
    mlflow.set_tracking_uri(before)
