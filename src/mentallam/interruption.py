"""Signals that end a run: Ctrl-C, and what a scheduler, a closed terminal or a preempted machine sends.

A signal stops the run at once, except while work is in hand that must come to a safe point first: there it is noted,
and the work looks for it. A second signal stops at once wherever it arrives, unless it is an echo of the first: a
scheduler may send one to the script and, through it, to the run.
"""

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from mentallam.errors import MentallamError, causes

# SIGUSR1 is what SLURM sends ahead of the time limit with `--signal=B:USR1@120`; Windows has neither it nor SIGHUP.
_NAMES = ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1")
_SIGNALS = tuple(getattr(signal, name) for name in _NAMES if hasattr(signal, name))


class RunStoppedError(MentallamError):
    """A signal has stopped the run.

    Args:
        number: The signal; the process exits with 128 + number, as shells report it.
    """

    def __init__(self, number: int) -> None:
        self.number = number
        self.exit_code = 128 + number  # type: ignore[misc]  # click declares it per class
        super().__init__(f"stopped by {signal.Signals(number).name}: run the same command again to go on")

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.number,)


_ECHO_S = 1.0  # the same signal within this time is the same request


class _State:
    noted: int | None = None
    noted_at = 0.0  # of the monotonic clock
    deferring = 0
    handlers: dict[int, Any] | None = None


def watch() -> None:
    """Handle the signals from now on; in another thread than the main one, which gets no signals, nothing changes."""
    _State.noted, _State.deferring = None, 0
    if _State.handlers is None and threading.current_thread() is threading.main_thread():
        _State.handlers = {number: signal.signal(number, _note) for number in _SIGNALS}


def unwatch() -> None:
    """Give the signals back to their earlier handlers."""
    if _State.handlers and threading.current_thread() is threading.main_thread():
        for number, handler in _State.handlers.items():
            signal.signal(number, handler)
        _State.handlers = None


def leave_to_parent() -> None:
    """Ignore the signals from now on, in a process that another one of the run tells when to end."""
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def requested() -> bool:
    """Return whether a signal has asked the run to stop."""
    return _State.noted is not None


def noted() -> int | None:
    """Return the signal that has asked the run to stop, or None."""
    return _State.noted


def has_stopped(error: BaseException) -> bool:
    """Return whether an error comes of a signal, whatever a library has made of it.

    MLflow, for example, raises an error of its own for each that arises in a call to a database.
    """
    return requested() or any(isinstance(cause, RunStoppedError) for cause in causes(error))


def stop_if_requested() -> None:
    """Stop here if a signal has asked for it.

    Raises:
        RunStoppedError: It has.
    """
    if _State.noted is not None:
        raise RunStoppedError(_State.noted)


@contextmanager
def deferred() -> Iterator[None]:
    """Let the body come to a safe point: a first signal is only noted until the body ends or asks for it."""
    _State.deferring += 1
    try:
        yield
    finally:
        _State.deferring -= 1
    if not _State.deferring:
        stop_if_requested()


def _note(number: int, frame: Any) -> None:
    now = time.monotonic()
    if number == _State.noted and now - _State.noted_at < _ECHO_S:
        return
    again, _State.noted, _State.noted_at = _State.noted is not None, number, now
    if number != signal.SIGINT:  # a terminal sends that to every process by itself
        for process in multiprocessing.active_children():
            with suppress(OSError, TypeError):  # it has just ended
                os.kill(process.pid, number)  # type: ignore[arg-type]
    if again or not _State.deferring:
        raise RunStoppedError(number)
