"""Units on an engine that is a table of what happens to them: no process is started."""

import signal
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mentallam import interruption
from mentallam.errors import MentallamError
from mentallam.interruption import RunStoppedError
from mentallam.project import Session
from mentallam.runner import placement
from mentallam.runner.engines import LostWorkerError
from mentallam.runner.placement import Placement, trained
from mentallam.runner.unit import Outcome, Unit

DONE = Outcome("here", 1.0)
PREEMPTED = Outcome("here", 1.0, signal=signal.SIGUSR1)
REFUSED = Outcome("here", 1.0, sentence="the disk is full: make space")
BROKEN = Outcome("here", 1.0, traceback="Traceback ...\nKeyError: 'x'")
LOST = "lost"


@pytest.fixture(autouse=True)
def _without_waiting(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(placement, "_POLL_S", 0.0)
    yield
    interruption._State.noted = None


def unit(fold: str) -> Unit:
    return Unit(fold, Session(Path(), None, {}, "conf", Path()), {}, {}, False)


@dataclass
class Job:
    ended: Outcome | str
    looks: int
    stops: list[int] = field(default_factory=list)

    def done(self) -> bool:
        self.looks -= 1
        return self.looks < 0 or bool(self.stops)

    def outcome(self) -> Outcome:
        if self.stops:
            return Outcome("here", 0.5, signal=self.stops[0])
        if isinstance(self.ended, str):
            raise LostWorkerError
        return self.ended

    def stop(self, number: int) -> None:
        self.stops.append(number)


class Engine:
    """Ends the tries of a fold as it is told, then well, each after some looks at it."""

    def __init__(self, slots: int, tries: dict[str, list[Outcome | str]], looks: int = 1) -> None:
        self.slots, self._looks = slots, looks
        self._tries = {fold: deque(outcomes) for fold, outcomes in tries.items()}
        self.submitted: list[str] = []
        self.running: list[tuple[str, Job]] = []
        self.most = 0

    def submit(self, unit: Unit) -> Job:
        tries = self._tries.get(unit.fold)
        job = Job(tries.popleft() if tries else DONE, self._looks)
        self.submitted.append(unit.fold)
        self.running = [each for each in self.running if each[1].looks >= 0]
        assert unit.fold not in dict(self.running), "the fold runs twice at a time"
        self.running.append((unit.fold, job))
        self.most = max(self.most, len(self.running))
        return job

    def stop(self, jobs: list[Job], number: int) -> None:
        for job in jobs:
            job.stop(number)

    def close(self) -> None:
        pass


def run(engine: Engine, folds: int, retries: int = 3) -> list[str]:
    units = (unit(f"fold_{fold}") for fold in range(folds))
    return [done.fold for done in Placement(engine, units, retries).finished()]


@settings(deadline=None)
@given(
    st.integers(1, 4),
    st.lists(st.lists(st.sampled_from([LOST, PREEMPTED]), max_size=3), min_size=1, max_size=6),
    st.integers(0, 3),
)
def test_every_fold_ends_once_whatever_happens_to_its_processes(
    slots: int, tries: list[list[Outcome | str]], looks: int
) -> None:
    engine = Engine(slots, {f"fold_{fold}": list(each) for fold, each in enumerate(tries)}, looks)
    done = run(engine, len(tries))
    assert sorted(done) == sorted(f"fold_{fold}" for fold in range(len(tries)))
    assert len(engine.submitted) == len(tries) + sum(map(len, tries))
    assert engine.most <= slots


def test_a_fold_that_is_lost_too_often_ends_the_run_with_a_way_out() -> None:
    engine = Engine(2, {"fold_1": [LOST] * 4})
    with pytest.raises(MentallamError, match=r"^fold_1 was lost 3 times .*the same command again.*cluster\.workers"):
        run(engine, 2, retries=2)
    assert engine.submitted.count("fold_1") == 3


@pytest.mark.parametrize(("outcome", "kind"), [(REFUSED, MentallamError), (BROKEN, RuntimeError)])
def test_after_an_error_the_folds_that_run_are_finished_and_no_other_begins(
    outcome: Outcome, kind: type[Exception]
) -> None:
    engine = Engine(2, {"fold_0": [outcome]})
    done = []
    with pytest.raises(kind, match="fold_0"):
        for ended in Placement(engine, (unit(f"fold_{fold}") for fold in range(5)), 3).finished():
            done.append(ended.fold)
    assert engine.submitted == ["fold_0", "fold_1"]
    assert done == ["fold_1"]


def test_folds_of_one_number_in_two_runs_are_counted_apart(caplog: pytest.LogCaptureFixture) -> None:
    engine = Engine(1, {"fold_0": [LOST, LOST]})
    units = [replace(unit("fold_0"), run=f"seed {seed}") for seed in (1, 2)]
    done = list(Placement(engine, units, retries=1).finished())  # one loss each, since the queue takes turns
    assert {each.title for each in done} == {"seed 1 fold_0", "seed 2 fold_0"}
    assert "seed 1 fold_0: its process is gone" in caplog.text


def test_a_signal_reaches_every_fold_that_runs_and_none_is_placed_again() -> None:
    engine = Engine(2, {}, looks=5)
    interruption._State.noted = None
    placed = Placement(engine, (unit(f"fold_{fold}") for fold in range(5)), 3).finished()
    assert next(placed).fold == "fold_0"
    interruption._State.noted = signal.SIGTERM
    with pytest.raises(RunStoppedError) as stopped:
        list(placed)
    assert stopped.value.exit_code == 143
    assert all(job.stops in ([], [signal.SIGTERM]) for _, job in engine.running)
    assert len(engine.submitted) <= 3


@dataclass(frozen=True)
class Storage:
    """Notes what is asked of a fold's place at an address."""

    address: str
    asked: list[str] = field(compare=False)

    def collect(self, data: Path) -> None:
        self.asked.append(f"collect into {data}")

    def remove_all(self) -> None:
        self.asked.append(f"remove {self.address}")


def test_results_at_an_address_are_got_before_a_unit_counts_and_removed_once_per_run_at_the_end() -> None:
    asked: list[str] = []

    class Closed(Engine):
        def close(self) -> None:
            asked.append("close")

    def stored(run: str, fold: str) -> Unit:
        session = Session(Path(), None, {}, "conf", Path(run))
        return Unit(fold, session, {}, {}, False, run, Storage(f"bucket/{run}", asked))  # type: ignore[arg-type]

    units = [stored("a", "fold_0"), stored("a", "fold_1"), stored("b", "fold_0"), unit("fold_0")]
    for done in trained(Closed(1, {}), units, 0):
        asked.append(f"{done.title} done")
    assert asked == [
        *("collect into a", "a fold_0 done", "collect into a", "a fold_1 done", "collect into b", "b fold_0 done"),
        *("fold_0 done", "close", "remove bucket/a", "remove bucket/b"),
    ]


def test_what_lies_at_an_address_stays_for_the_next_run_if_a_unit_fails() -> None:
    asked: list[str] = []

    class Closed(Engine):
        def close(self) -> None:
            asked.append("close")

    failing = replace(unit("fold_0"), storage=Storage("bucket", asked))  # type: ignore[arg-type]
    with pytest.raises(MentallamError, match="the disk is full"):
        list(trained(Closed(1, {"fold_0": [REFUSED]}), [failing], 0))
    assert asked == ["close"]
