"""Units on an engine until each is done: what is lost is placed again, and what is asked to stop comes to its end."""

import logging
import time
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence

from mentallam import interruption
from mentallam.console import in_words
from mentallam.errors import MentallamError
from mentallam.runner.engines import Engine, Job, LostWorkerError
from mentallam.runner.unit import Outcome, Unit

logger = logging.getLogger(__name__)

_POLL_S = 0.2
# A fold that never comes further would be placed again for ever.
_MOST_STOPS = 100


def trained(engine: Engine, units: Sequence[Unit], retries: int) -> Iterator[Unit]:
    """Run units on an engine, which is closed at the end, and yield each when its results are in its data folder.

    Args:
        engine: The engine.
        units: The units.
        retries: As for `Placement`, which also says what is raised.
    """
    try:
        with interruption.deferred():
            for unit in Placement(engine, units, retries).finished():
                if unit.storage:
                    unit.storage.collect(unit.session.data)
                yield unit
    finally:
        engine.close()
    for storage in {unit.storage.address: unit.storage for unit in units if unit.storage}.values():
        storage.remove_all()


class Placement:
    """The units of a run on its engine.

    Args:
        engine: The engine; whoever opened it closes it.
        units: The units.
        retries: How often a unit is placed again after its process is gone.
    """

    def __init__(self, engine: Engine, units: Iterable[Unit], retries: int) -> None:
        self._engine, self._retries = engine, retries
        self._waiting = deque(units)
        self._running: list[tuple[Unit, Job]] = []
        self._lost: Counter[str] = Counter()
        self._stopped: Counter[str] = Counter()
        self._error: Exception | None = None

    def finished(self) -> Iterator[Unit]:
        """Run the units, and yield each that is done.

        After an error, and after a signal, no further unit begins, and those that run come to their end.

        Raises:
            RunStoppedError: A signal has stopped the run.
            MentallamError: A unit has failed with a sentence, or was lost too often.
            RuntimeError: A unit has failed otherwise.
        """
        told = False
        while self._running or (self._waiting and self._goes_on()):
            while self._waiting and self._goes_on() and len(self._running) < self._engine.slots:
                unit = self._waiting.popleft()
                self._running.append((unit, self._engine.submit(unit)))
            time.sleep(_POLL_S)
            if (number := interruption.noted()) and not told:
                told = True
                self._engine.stop([job for _, job in self._running], number)
            for ended in [each for each in self._running if each[1].done()]:
                self._running.remove(ended)
                if self._is_done(*ended):
                    yield ended[0]
        interruption.stop_if_requested()
        if self._error:
            raise self._error

    def _goes_on(self) -> bool:
        return self._error is None and not interruption.requested()

    def _is_done(self, unit: Unit, job: Job) -> bool:
        try:
            outcome = job.outcome()
        except LostWorkerError:
            self._place_again(unit, self._lost, self._retries, "its process is gone")
            return False
        if outcome.signal and not interruption.requested():  # a preemption, which its machine was warned of
            self._place_again(unit, self._stopped, _MOST_STOPS, f"stopped on {outcome.host}")
        elif error := _error(unit, outcome):
            logger.error("%s has failed on %s; no other fold is begun", unit.title, outcome.host)
            self._error = self._error or error
        elif not outcome.signal:
            logger.info("%s: done on %s after %s", unit.title, outcome.host, in_words(outcome.seconds))
            return True
        return False

    def _place_again(self, unit: Unit, counts: "Counter[str]", most: int, reason: str) -> None:
        counts[unit.title] += 1
        if counts[unit.title] <= most:
            logger.warning("%s: %s; it is placed again, and goes on from its last state", unit.title, reason)
            self._waiting.append(unit)
        else:
            self._error = self._error or MentallamError(
                f"{unit.title} was lost {counts[unit.title]} times ({reason}): run the same command again to go on, "
                f"with fewer cluster.workers or more cluster.memory_gb if memory is short"
            )


def _error(unit: Unit, outcome: Outcome) -> Exception | None:
    if outcome.sentence:
        return MentallamError(f"{unit.title}: {outcome.sentence}")
    return RuntimeError(f"{unit.title} on {outcome.host}\n{outcome.traceback}") if outcome.traceback else None
