from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
import pytest

from mentallam.classifier.checkpoint import TrainedFold
from mentallam.classifier.weights import BaseModel
from mentallam.config import Config
from mentallam.evaluation.aggregate import summarise
from mentallam.evaluation.checks import make_checks
from mentallam.evaluation.findings import CheckedRun
from mentallam.evaluation.resampling import UncertaintyOptions
from tests.unit.predictions import DATA_STATISTICS, DECISION, OPTIONS, Folds, Once, outcome_of
from tests.unit.trained_folds import make_trained


@pytest.fixture
def trained(tiny_base: BaseModel, tiny_config: Config) -> TrainedFold:
    return make_trained(tiny_base, tiny_config)


@pytest.fixture(scope="session")
def tracking_database(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Create an MLflow database on SQLite, shared by all tests since this takes seconds."""
    uri = f"sqlite:///{tmp_path_factory.mktemp('tracking')}/mlflow.db"
    mlflow.MlflowClient(uri).search_experiments()
    return uri


@pytest.fixture
def experiment(tracking_database: str, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[str]:
    """Create an MLflow experiment, set MLflow up to find it, and yield its name."""
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(tracking_database)
    name = request.node.nodeid
    mlflow.create_experiment(name, artifact_location=str(tmp_path / "mlruns"))
    yield name
    while mlflow.active_run():
        mlflow.end_run()
    mlflow.set_tracking_uri(before)


def _scope(fixture_name: str, config: pytest.Config) -> str:
    """Return the scope: per test where mutants are tried, since mutmut runs the tests that call the mutant."""
    return "function" if config.getoption("--hypothesis-profile") == "mutation" else "session"


@pytest.fixture(scope=_scope)  # type: ignore[arg-type]
def once() -> Once:
    """Made once; the fixtures below return copies."""
    return Once()


@pytest.fixture
def criteria(once: Once) -> pd.DataFrame:
    return deepcopy(once.criteria)


@pytest.fixture
def folds(once: Once) -> Folds:
    """Five folds of twelve posts with nine criteria each, predicted well but not perfectly."""
    return deepcopy(once.folds)


@pytest.fixture
def oof(once: Once) -> pd.DataFrame:
    return deepcopy(once.oof)


@pytest.fixture
def baseline(once: Once) -> pd.DataFrame:
    """Return the pairs of `oof`, scored worse."""
    return deepcopy(once.baseline)


@pytest.fixture
def options() -> UncertaintyOptions:
    return OPTIONS


@pytest.fixture
def uncertainty(once: Once) -> dict[str, Any]:
    """Return the uncertainty of `oof` and of its difference to `baseline`."""
    return deepcopy(once.uncertainty)


@pytest.fixture
def baselines(once: Once) -> pd.DataFrame:
    """Two baselines on the pairs of `oof`, the second worse than the first."""
    return deepcopy(once.baselines)


@pytest.fixture
def cv_outcome(once: Once) -> dict[str, Any]:
    """Return the outcome that cv_training saves for `folds`."""
    return deepcopy(once.cv_outcome)


@pytest.fixture
def summary(once: Once) -> dict[str, Any]:
    return deepcopy(once.summary)


@pytest.fixture
def checks(
    summary: dict[str, Any], uncertainty: dict[str, Any], data_statistics: dict[str, Any], training_config: Config
) -> dict[str, Any]:
    """Return the checks of the fixtures."""
    return make_checks(CheckedRun(summary, uncertainty, data_statistics, training_config))


@pytest.fixture
def summarised(once: Once) -> Callable[[Folds], dict[str, Any]]:
    """Summarises other folds, with the outcome that belongs to them."""
    return lambda folds: summarise(pd.concat(folds), outcome_of(folds), DATA_STATISTICS, once.criteria, DECISION)


@pytest.fixture
def data_statistics() -> dict[str, Any]:
    return deepcopy(DATA_STATISTICS)


@pytest.fixture
def training_config(tiny_config: Config) -> Config:
    return replace(
        tiny_config,
        model=replace(tiny_config.model, max_length=96),
        training=replace(tiny_config.training, learning_rate=0.001, select_by="average_precision"),
    )
