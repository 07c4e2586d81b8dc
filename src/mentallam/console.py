"""What a run shows: this project's own lines on the screen, and the full log in a file.

Kedro names every node three times. These lines go to `run.log` in the data folder, and to the screen with `--verbose`
of `kedro run`. A line on the screen is never wrapped, so that a log that is kept can be searched.
"""

import logging
import os
import time
from collections import Counter
from collections.abc import Mapping
from logging.handlers import RotatingFileHandler
from pathlib import Path

logger = logging.getLogger(__name__)

LOG_FILE = "run.log"
"""The full log, in the data folder; the runs in one folder follow one another in it."""

_LARGEST_LOG = 10 * 2**20  # bytes, then it becomes run.log.1
_FILE_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"
_QUIET = ("kedro", "py.warnings", "bitsandbytes")  # loggers whose records stay off the screen (conf/logging.yml)


class _ScreenFormatter(logging.Formatter):
    """Show the message alone, with a word in front of it from a warning on."""

    def format(self, record: logging.LogRecord) -> str:
        line = super().format(record)
        return line if record.levelno < logging.WARNING else f"{record.levelname.lower()}: {line}"


def capture_warnings() -> None:
    """Keep warnings of libraries to programmers off the screen; a run writes them to its log file."""
    logging.captureWarnings(True)
    kernels = logging.getLogger("bitsandbytes")  # it warns when it is imported, which may be before any configuration
    kernels.addHandler(logging.NullHandler())
    kernels.propagate = False


def set_up_notebook(logging_config: Path) -> None:
    """Keep lines of log below a warning, and libraries' warnings to programmers, out of the cells of a notebook.

    Args:
        logging_config: The project's file. Kedro finds it by itself only in the project's folder, and a notebook works
            in a folder below.
    """
    capture_warnings()
    os.environ.setdefault("KEDRO_LOGGING_CONFIG", str(logging_config))
    logging.disable(logging.INFO)  # Kedro sets the levels of loggers when a session is started later


_verbose = False


def is_verbose() -> bool:
    """Return whether the screen shows Kedro's lines."""
    return _verbose


def set_up_screen(verbose: bool) -> None:
    """Format what the root logger shows; with `verbose`, show Kedro's lines and libraries' warnings, too."""
    global _verbose
    _verbose = verbose
    capture_warnings()
    for handler in logging.root.handlers:
        if type(handler) is logging.StreamHandler:
            handler.setFormatter(_ScreenFormatter())
            for name in _QUIET if verbose else ():
                logging.getLogger(name).addHandler(handler)  # once, however often


class _Handler(RotatingFileHandler):
    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802  # its name in the standard library
        """Give up at the first error, such as a full disk: a log must not fill the screen with tracebacks."""
        self.setLevel(logging.CRITICAL + 1)


class LogFile:
    """The file of the full log, while it is open."""

    def __init__(self) -> None:
        self._handler: logging.Handler | None = None

    def open(self, folder: Path) -> None:
        """Append to the log in a folder from now on; where it can't be written, a warning takes its place."""
        self.close()
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._handler = _Handler(folder / LOG_FILE, maxBytes=_LARGEST_LOG, backupCount=1, encoding="utf-8")
        except OSError as error:
            logger.warning("the log %s can't be written (%s)", folder / LOG_FILE, error.strerror)
            return
        self._handler.setFormatter(logging.Formatter(_FILE_FORMAT))
        for name in ("", *_QUIET):
            logging.getLogger(name).addHandler(self._handler)

    def close(self) -> None:
        """Close it."""
        if self._handler is not None:
            for name in ("", *_QUIET):
                logging.getLogger(name).removeHandler(self._handler)
            self._handler.close()
            self._handler = None


class Phases:
    """The phases of a run: a line as each ends.

    Args:
        phase_of: The phase of each node of the run, by the node's name.
    """

    def __init__(self, phase_of: Mapping[str, str]) -> None:
        self._begun = time.monotonic()
        self._phase_of = phase_of
        self._left = Counter(phase_of.values())

    def finished(self, node: str) -> None:
        """Note that a node has ended."""
        phase = self._phase_of.get(node, "")
        self._left[phase] -= 1
        if phase and not self._left[phase]:
            logger.info("%s: done after %s", phase, self.elapsed())

    def elapsed(self) -> str:
        """Return the time since the run began, in words."""
        return in_words(time.monotonic() - self._begun)


def in_words(seconds: float) -> str:
    """Return a duration in words, such as `12 s` or `5 min 8 s`."""
    minutes, seconds = divmod(round(seconds), 60)
    return f"{minutes} min {seconds} s" if minutes else f"{seconds} s"
