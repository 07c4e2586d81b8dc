import os
import sys
from pathlib import Path

# No test may reach a network; a hub is a local server. Set before transformers is imported.
os.environ.setdefault("HF_HUB_OFFLINE", "1")
# The tiny model's products are too small to share: a second thread would only wait. Set before torch is imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# The suite shows the same everywhere, so it leaves a GPU alone; `make test-gpu` names one.
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")

import pytest
from hypothesis import HealthCheck, Phase, settings
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

from mentallam.classifier.weights import BaseModel, prepare_base_model
from mentallam.config import Config, compose_config
from tests.samples import PROJECT

# How busy the machine is decides no test.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")
# A mutant is caught by any example, not only by the smallest.
settings.register_profile("mutation", settings.get_profile("untimed"), phases=[Phase.explicit, Phase.generate])


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> LoadScopeScheduling:
    return _ByFolder(config, log)


class _ByFolder(LoadScopeScheduling):
    """One worker runs all integration tests, which share a cross-validation; the others go file by file.

    Of xdist 3.8's own, `--dist loadgroup` groups nothing under pytest 9.2, which keeps a test's id in another place.
    """

    def _split_scope(self, nodeid: str) -> str:
        return "tests/integration" if nodeid.startswith("tests/integration/") else nodeid.split("::")[0]


@pytest.fixture(scope="session")
def project() -> Path:
    return PROJECT


@pytest.fixture(scope="session")
def tiny_config() -> Config:
    return compose_config(PROJECT / "hydra_configs", "tiny")


@pytest.fixture(scope="session")
def tiny_base(tiny_config: Config, tmp_path_factory: pytest.TempPathFactory) -> BaseModel:
    return prepare_base_model(tiny_config.model, tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="session")
def python() -> str:
    return sys.executable
