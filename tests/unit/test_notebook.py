import logging
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from mentallam import project
from mentallam.errors import MentallamError
from mentallam.notebook import open_project
from mentallam.project import Session
from tests.samples import PROJECT

OPENING = """
import sys
from mentallam.notebook import open_project
opened = open_project("test")
criteria = opened.catalog.load("corpus").criteria
slow = {"kedro.framework", "mlflow", "torch"} & set(sys.modules)
assert (opened.path.name, len(criteria), slow) == (sys.argv[1], 9, set())
"""


@pytest.fixture(autouse=True)
def in_the_project(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(project, "_session", Session(PROJECT, None, {}, "conf", PROJECT))
    monkeypatch.setenv("KEDRO_LOGGING_CONFIG", "set by an earlier session")
    monkeypatch.delenv("KEDRO_ENV", raising=False)
    yield
    logging.disable(logging.NOTSET)
    logging.captureWarnings(False)


def test_a_project_opens_from_a_folder_below_it_without_a_word_and_without_slow_imports() -> None:
    done = subprocess.run(
        [sys.executable, "-c", OPENING, PROJECT.name], cwd=PROJECT / "notebooks", capture_output=True, text=True
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_the_environment_is_the_named_one_else_the_one_that_jupyter_was_started_with(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def profile_and_folder(env: str | None = None) -> tuple[str, str]:
        opened = open_project(env)
        return opened.parameters["profile"], Path(opened.catalog["posts"]._describe()["filepath"]).parts[-3]

    assert profile_and_folder() == ("smollm2", "data")
    assert profile_and_folder("test") == ("tiny", "test")
    monkeypatch.setenv("KEDRO_ENV", "test")
    assert profile_and_folder() == ("tiny", "test")
    assert profile_and_folder("pairs") == ("smollm2", "pairs")
    with pytest.raises(MentallamError, match="there is no folder nowhere in conf"):
        open_project("nowhere")


def test_a_missing_result_names_the_command_that_makes_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("conf", "hydra_configs"):
        (tmp_path / name).symlink_to(PROJECT / name)
    monkeypatch.setattr(project, "_session", Session(tmp_path, None, {}, "conf", tmp_path))
    folder = tmp_path / "data" / "test"
    with pytest.raises(MentallamError, match=rf"^{folder} holds no cv_summary yet: run `kedro run --env test` first$"):
        open_project("test", needs="cv_summary")
    (folder / "08_reporting").mkdir(parents=True)
    (folder / "08_reporting" / "cv_summary.json").write_text("{}", encoding="utf-8")
    assert open_project("test", needs="cv_summary").catalog.load("cv_summary") == {}


def test_a_printed_project_shows_no_parameter() -> None:
    assert repr(open_project("test")) == f"OpenedProject(path={PROJECT!r}, env='test')"
