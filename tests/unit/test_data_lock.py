import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from filelock import FileLock

from mentallam import data_lock
from mentallam.data_lock import DataLock
from mentallam.errors import MentallamError


@pytest.fixture(autouse=True)
def _without_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data_lock, "_START_S", 0.0)


def test_folds_that_start_at_the_same_moment_wait_for_each_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(data_lock, "_START_S", 30.0)
    one, starting = DataLock(tmp_path), FileLock(tmp_path / ".locks" / "study.lock", thread_local=False)
    DataLock(tmp_path).take("other")  # makes the folder
    starting.acquire()
    threading.Timer(0.2, starting.release).start()
    one.take("study", [1], shared=True)


def test_a_second_run_is_refused_with_who_works_there(tmp_path: Path) -> None:
    first, second = DataLock(tmp_path), DataLock(tmp_path)
    first.take("study", range(5))
    with pytest.raises(MentallamError) as refused:
        second.take("study", range(5))
    assert str(tmp_path) in refused.value.message
    assert f"process {os.getpid()} on " in refused.value.message
    assert "`--params data_dir=...`" in refused.value.message
    second.take("inference")  # other work is not in its way
    DataLock(tmp_path / "elsewhere").take("study", range(5))
    first.release()
    second.take("study", range(5))


def test_folds_in_processes_of_their_own_share_the_study(tmp_path: Path) -> None:
    one, two, same, whole = (DataLock(tmp_path) for _ in range(4))
    one.take("study", [1], shared=True)
    two.take("study", [2], shared=True)
    for lock, folds, shared in ((same, [1], True), (whole, range(5), False)):
        with pytest.raises(MentallamError, match="another run works in"):
            lock.take("study", folds, shared)
    one.release()
    same.take("study", [1], shared=True)
    same.release()
    two.release()
    whole.take("study", range(5))
    with pytest.raises(MentallamError, match="another run works in"):
        one.take("study", [1], shared=True)


def test_a_refused_run_leaves_no_lock_behind(tmp_path: Path) -> None:
    fold, whole, other = DataLock(tmp_path), DataLock(tmp_path), DataLock(tmp_path)
    fold.take("study", [3], shared=True)
    with pytest.raises(MentallamError):
        whole.take("study", range(5))
    other.take("study", [0, 4], shared=True)


def test_a_crash_does_not_block_the_next_run(tmp_path: Path) -> None:
    code = f"""
import os, pathlib, time
from mentallam.data_lock import DataLock
lock = DataLock(pathlib.Path({str(tmp_path)!r})); lock.take("study", range(5))
print("taken", flush=True); time.sleep(60)
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "taken\n"
        with pytest.raises(MentallamError, match=f"process {process.pid} on"):
            DataLock(tmp_path).take("study", range(5))
        process.send_signal(signal.SIGKILL)
    DataLock(tmp_path).take("study", range(5))


def test_a_folder_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("a file")
    with pytest.raises(MentallamError, match="can't be written"):
        DataLock(tmp_path / "data").take("study")


def test_workers_lock_the_folds_of_a_run_that_keeps_other_runs_out(tmp_path: Path) -> None:
    driver, worker, other = (DataLock(tmp_path) for _ in range(3))
    driver.take("study", range(3))
    with DataLock.shared_with_workers():
        worker.take("study", [1], shared=True)
        with pytest.raises(MentallamError, match=f"process {os.getpid()} on "):
            other.take("study", range(3))
        with pytest.raises(MentallamError, match="another run works in"):
            other.take("study", [1], shared=True)
        worker.release()
    with pytest.raises(MentallamError, match="another run works in"):
        worker.take("study", [1], shared=True)
    driver.release()
    other.take("study", range(3))
    other.release()


def test_without_a_run_there_is_nothing_to_share(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(DataLock, "_latest", None)
    with DataLock.shared_with_workers():
        pass


def test_what_an_earlier_run_left_is_ended_behind_the_lock_of_the_whole_and_before_those_of_folds(
    tmp_path: Path,
) -> None:
    left, first, second = DataLock(tmp_path), DataLock(tmp_path), DataLock(tmp_path)
    left.take("study", [1], shared=True)
    first.take("study", range(5), free_folds=left.release)
    with pytest.raises(MentallamError, match="another run works in"):
        second.take("study", range(5), free_folds=lambda: pytest.fail("the first run lives"))
