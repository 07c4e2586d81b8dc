from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import mlflow
import pytest

from mentallam.classifier.checkpoint import TrainedFold
from mentallam.config_loading import TRACKING_URI
from mentallam.serving import command_line, project_models
from tests.samples import PROJECT


@pytest.fixture
def kedro(monkeypatch: pytest.MonkeyPatch, experiment: str, trained: TrainedFold) -> dict[str, Any]:
    """Replace Kedro's configuration and session, which takes seconds to start; return what they were asked for."""
    asked: dict[str, Any] = {"sessions": 0}
    parameters = {
        "tracking_experiment": experiment,
        "hydra_configs": str(PROJECT / "hydra_configs"),
        "profile": "tiny",
        "base_models": str(Path(trained.base.folder).parent),
        "registry": {"model": "never registered", "use": "best_fold"},
        "model": "latest",
        "notice": "us",
        TRACKING_URI: mlflow.get_tracking_uri(),
    }

    def load(project: Path, env: str | None) -> dict[str, Any]:
        asked.update(project=project, env=env)
        return parameters

    @contextmanager
    def connected(env: str | None) -> Iterator[None]:
        asked["sessions"] += 1
        yield

    monkeypatch.setattr(command_line, "load_parameters", load)
    for module in (command_line, project_models):
        monkeypatch.setattr(module, "connected", connected)
    return asked
