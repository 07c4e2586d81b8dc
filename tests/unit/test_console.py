import logging
import logging.config
import os
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from mentallam.console import LOG_FILE, LogFile, Phases, in_words, set_up_notebook, set_up_screen
from tests.samples import PROJECT

NODE, OWN, LIBRARY, KERNEL = "Running node: a", "fold 0: F1 0.5", "[removed] (2)", "no kernel"


@pytest.fixture
def logging_of_a_run() -> Iterator[None]:
    """Configure logging as Kedro does, and restore the test's logging."""
    names = ("", "kedro", "mentallam", "py.warnings", "bitsandbytes")
    before = {n: (logging.getLogger(n).level, logging.getLogger(n).propagate) for n in names}
    handlers = {n: logging.getLogger(n).handlers[:] for n in names}
    logging.config.dictConfig(yaml.safe_load((PROJECT / "conf/logging.yml").read_text(encoding="utf-8")))
    yield
    for name in names:
        logger = logging.getLogger(name)
        logger.level, logger.propagate = before[name]
        logger.handlers[:] = handlers[name]
    logging.captureWarnings(False)
    logging.disable(logging.NOTSET)


def speak() -> None:
    logging.getLogger("kedro.pipeline.node").info(NODE)
    logging.getLogger("mentallam.pipelines").info(OWN)
    logging.getLogger("some.library").warning(LIBRARY)
    logging.getLogger("bitsandbytes.backends.cpu.ops").warning(KERNEL)


def shown(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return capsys.readouterr().out.splitlines()


def test_the_screen_shows_the_projects_lines_whole(logging_of_a_run: None, capsys: pytest.CaptureFixture[str]) -> None:
    point_screen_at_capture()
    set_up_screen(verbose=False)
    speak()
    assert shown(capsys) == [OWN, f"warning: {LIBRARY}"]


def test_verbose_brings_kedros_lines_back(logging_of_a_run: None, capsys: pytest.CaptureFixture[str]) -> None:
    point_screen_at_capture()
    for _ in range(2):
        set_up_screen(verbose=True)
    speak()
    assert shown(capsys) == [NODE, OWN, f"warning: {LIBRARY}", f"warning: {KERNEL}"]


def point_screen_at_capture() -> None:
    [handler] = [handler for handler in logging.root.handlers if type(handler) is logging.StreamHandler]
    handler.setStream(sys.stdout)


def test_a_command_shows_no_warning_of_a_plugins_import() -> None:
    """kedro-mlflow defines a model that MLflow warns of, before any configuration is read."""
    done = subprocess.run([sys.executable, "-m", "kedro", "--help"], cwd=PROJECT, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_warning_of_an_import_waits_for_no_configuration() -> None:
    """bitsandbytes warns of a kernel when it is imported, which is before Kedro configures logging."""
    program = f"""
import logging
from mentallam.console import capture_warnings
capture_warnings()
logging.getLogger("bitsandbytes.backends.cpu.ops").warning("{KERNEL}")
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=PROJECT, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_file_has_everything_until_it_is_closed(logging_of_a_run: None, tmp_path: Path) -> None:
    log = LogFile()
    for _ in range(2):  # a session that was stopped has left it open
        log.open(tmp_path / "data")
    speak()
    log.close()
    speak()
    lines = (tmp_path / "data" / LOG_FILE).read_text(encoding="utf-8").splitlines()
    assert [line.partition(": ")[2] for line in lines] == [NODE, OWN, LIBRARY, KERNEL]
    assert [line.split()[2] for line in lines] == ["INFO", "INFO", "WARNING", "WARNING"]


def test_a_log_that_can_not_be_written_stops_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / LOG_FILE).mkdir()
    log = LogFile()
    log.open(tmp_path)
    log.close()
    assert "run.log can't be written (Is a directory)" in caplog.text


def test_a_disk_that_is_full_shows_no_traceback(
    logging_of_a_run: None, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    log = LogFile()
    log.open(tmp_path)
    monkeypatch.setattr(logging.FileHandler, "emit", refused)
    speak()
    log.close()
    assert "Traceback" not in capsys.readouterr().err


def refused(handler: logging.Handler, record: logging.LogRecord) -> None:
    try:
        raise OSError(28, "No space left on device")
    except OSError:
        handler.handleError(record)


def test_a_phase_ends_with_its_last_node(caplog: pytest.LogCaptureFixture) -> None:
    phases = Phases({"read": "data processing", "fold": "cross-validation", "clean": "data processing"})
    with caplog.at_level(logging.INFO):
        for node, expected in (("read", 0), ("fold", 1), ("clean", 2)):
            phases.finished(node)
            assert len(caplog.messages) == expected
    assert caplog.messages == ["cross-validation: done after 0 s", "data processing: done after 0 s"]


@pytest.mark.parametrize(("seconds", "words"), [(0.4, "0 s"), (59.6, "1 min 0 s"), (308, "5 min 8 s")])
def test_durations(seconds: float, words: str) -> None:
    assert in_words(seconds) == words


def test_a_notebook_shows_warnings_that_are_for_its_reader(
    logging_of_a_run: None, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("KEDRO_LOGGING_CONFIG", raising=False)
    set_up_notebook(PROJECT / "conf" / "logging.yml")
    logging.config.dictConfig(yaml.safe_load((PROJECT / "conf/logging.yml").read_text(encoding="utf-8")))
    point_screen_at_capture()
    speak()
    warnings.warn("deprecated", DeprecationWarning, stacklevel=1)
    assert shown(capsys) == [LIBRARY]
    assert os.environ["KEDRO_LOGGING_CONFIG"] == str(PROJECT / "conf" / "logging.yml")
    set_up_notebook(Path("elsewhere"))
    assert os.environ["KEDRO_LOGGING_CONFIG"] == str(PROJECT / "conf" / "logging.yml")
