import os
import sys
from functools import cache
from pathlib import Path

# No test may reach a network; a hub is a local server. This must be set before transformers is imported.
os.environ.setdefault("HF_HUB_OFFLINE", "1")
# The tiny model's products are too small for a second thread. This must be set before torch is imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# The suite must give the same results everywhere, so it uses no GPU; `make test-gpu` does.
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")

from tests.temporary import folder_in_memory

# Tests commit to SQLite thousands of times, and a commit waits for the disk. pytest reads this when it makes a folder.
if "PYTEST_DEBUG_TEMPROOT" not in os.environ and (_memory := folder_in_memory()):
    os.environ["PYTEST_DEBUG_TEMPROOT"] = _memory

import pytest
from hypothesis import HealthCheck, Phase, settings
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

from mentallam.classifier.weights import BaseModel, prepare_base_model
from mentallam.config import Config, compose_config
from tests.samples import PROJECT

# A busy machine must not make a test fail.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")
# Any example catches a mutant, so shrinking it would only cost time.
settings.register_profile("mutation", settings.get_profile("untimed"), phases=[Phase.explicit, Phase.generate])


# Where the tests that take long are. They come first, so that at the end no worker waits for another one for long.
LONG = (
    "tests/integration/",
    "tests/faults/",
    "tests/unit/classifier/",
    "tests/unit/serving/",
    "tests/unit/test_tracking",
)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> LoadScopeScheduling:
    config.option.loadscopereorder = False  # xdist's order, by the number of tests, says little about the time
    return _ByFile(config, log)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if hasattr(config, "workerinput"):  # in a worker of xdist
        items.sort(key=lambda item: _turn(item.nodeid))


class _ByFile(LoadScopeScheduling):
    """A scheduler that runs the tests file by file, but in one worker all files that share a cross-validation.

    xdist 3.8's `--dist loadgroup` groups nothing under pytest 9.2, which keeps a test's id in another place.
    """

    def _split_scope(self, nodeid: str) -> str:
        return _scope(nodeid)


def _scope(nodeid: str) -> str:
    file = nodeid.split("::")[0]
    return "tests/integration" if _shares(file) else file


@cache
def _shares(file: str) -> bool:
    """Return whether tests of a file take the fixture `trained` of tests/integration/conftest.py."""
    return file.startswith("tests/integration/") and "trained: Workspace" in (PROJECT / file).read_text("utf-8")


def _turn(nodeid: str) -> int:
    """Return the place of a test's scope in the order: the shared cross-validation, the other long ones, the rest."""
    if _scope(nodeid) == "tests/integration":
        return -1
    return next((turn for turn, start in enumerate(LONG) if nodeid.startswith(start)), len(LONG))


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
