import os
import pickle
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress

import pytest

from mentallam import interruption
from mentallam.interruption import RunStoppedError


@pytest.fixture(autouse=True)
def _watched() -> Iterator[None]:
    before = signal.getsignal(signal.SIGTERM)
    interruption.watch()
    yield
    interruption.unwatch()
    assert signal.getsignal(signal.SIGTERM) == before


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129), (signal.SIGUSR1, 138)]
)
def test_a_signal_stops_at_once_and_says_how_to_go_on(number: signal.Signals, code: int) -> None:
    with pytest.raises(RunStoppedError, match=f"stopped by {number.name}: run the same command again") as stopped:
        os.kill(os.getpid(), number)
    assert stopped.value.exit_code == pickle.loads(pickle.dumps(stopped.value)).exit_code == code


def test_work_in_hand_comes_to_a_safe_point_first() -> None:
    done = False
    with pytest.raises(RunStoppedError), interruption.deferred(), interruption.deferred():
        os.kill(os.getpid(), signal.SIGTERM)
        assert interruption.requested()
        done = True
    assert done


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_does_not_wait(monkeypatch: pytest.MonkeyPatch, number: signal.Signals) -> None:
    with interruption.deferred():
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGTERM)  # an echo
        monkeypatch.setattr(interruption, "_ECHO_S", 0.0)
        with pytest.raises(RunStoppedError):
            os.kill(os.getpid(), number)
        interruption.watch()  # a new run


def test_a_stop_that_a_library_has_swallowed_comes_again() -> None:
    with suppress(Exception):
        os.kill(os.getpid(), signal.SIGTERM)
    with pytest.raises(RunStoppedError):
        interruption.stop_if_requested()
    interruption.watch()
    interruption.stop_if_requested()


def test_processes_that_work_for_this_one_are_told() -> None:
    code = """
import multiprocessing, os, signal, time
from mentallam import interruption
def work(ready):
    try:
        ready.set(); time.sleep(60)
    except interruption.RunStoppedError:
        print("worker stopped", flush=True)
interruption.watch()
context = multiprocessing.get_context("fork")
ready = context.Event()
worker = context.Process(target=work, args=(ready,)); worker.start(); ready.wait()
try:
    os.kill(os.getpid(), signal.SIGTERM)
except interruption.RunStoppedError:
    worker.join(30); print("stopped", worker.exitcode)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout.split("\n")[:2] == ["worker stopped", "stopped 0"], done.stderr


def test_a_thread_changes_no_handler() -> None:
    interruption.unwatch()
    before = signal.getsignal(signal.SIGTERM)
    thread = threading.Thread(target=interruption.watch)
    thread.start()
    thread.join()
    assert signal.getsignal(signal.SIGTERM) == before
