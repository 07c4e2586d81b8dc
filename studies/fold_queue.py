"""Makespan of the folds of a study on 1 to 64 GPUs, with stragglers, preemptions and failures: a simulation.

A fold is a unit that one GPU trains. A preemption comes with a signal, so its state is saved; a failure does not, and
the work since the last state is done again. A broken-off fold waits at the head of the queue. Nothing here was
measured; --measured compares a run on a real machine.

python studies/fold_queue.py --folds 5 --seeds 10
python studies/fold_queue.py --folds 5 --fold-seconds 600 --gpus 2 --startup-seconds 20 --slowdown 1.5 --spread 0
"""

import argparse
import heapq
from collections import deque
from dataclasses import dataclass, fields
from typing import NamedTuple

import numpy as np

DAY = 86_400


@dataclass(frozen=True)
class Conditions:
    """What decides how long a queue takes.

    Attributes:
        fold_seconds: Mean seconds of a fold's work, alone on its GPU, without the start.
        spread: Standard deviation of a fold's seconds over their mean; they are lognormal.
        startup_seconds: Seconds of each start: imports, weights, compilation. They are paid again after each break.
        slowdown: Factor on all times while two workers or more share one machine; 1 for a GPU each.
        preemptions_per_day: Of each GPU, with a signal.
        failures_per_day: Of each GPU, without a signal.
        restart_seconds: Seconds until a GPU is back after either.
        save_minutes: Minutes of work between two states (training.save_minutes); one more at the end of each epoch.
        epochs: Epochs of a fold, all of one length.
    """

    fold_seconds: float = 1_870.0
    spread: float = 0.15
    startup_seconds: float = 147.0
    slowdown: float = 1.0
    preemptions_per_day: float = 2.0
    failures_per_day: float = 0.01
    restart_seconds: float = 600.0
    save_minutes: float = 15.0
    epochs: int = 25


class Outcome(NamedTuple):
    """What one simulated study took, in seconds.

    Attributes:
        makespan: Until the last fold is finished.
        busy: On the clock, of all GPUs that had a fold.
        useful: Work of all folds, each once.
        lost: Work that was done again.
        started: Of all starts, broken off or not.
        breaks: Number of preemptions and failures that met a fold.
    """

    makespan: float
    busy: float
    useful: float
    lost: float
    started: float
    breaks: int


@dataclass
class _Fold:
    """A fold: its work, the work in its last state, and on a GPU what is left of the start and what is done."""

    seconds: float
    saved: float = 0.0
    starting: float = 0.0
    done: float = 0.0

    @property
    def left(self) -> float:
        return self.starting + self.seconds - self.done

    def advance(self, work: float) -> float:
        """Take so many seconds of work, and return how many of them went into the start."""
        start = min(work, self.starting)
        self.starting -= start
        self.done += work - start
        return start


def draw_folds(conditions: Conditions, units: int, seed: int) -> list[float]:
    """Return the seconds of each fold."""
    sigma = np.sqrt(np.log1p(conditions.spread**2))
    normal = np.random.default_rng([seed, 0]).normal(size=units)
    return [float(value) for value in conditions.fold_seconds * np.exp(sigma * normal - sigma**2 / 2)]


def last_state(fold_seconds: float, begun: float, done: float, conditions: Conditions) -> float:
    """Return the work in the last state of a fold that began at `begun` and broke off at `done`, in seconds of work."""
    epoch, save = fold_seconds / conditions.epochs, 60 * conditions.save_minutes
    # The end of an epoch starts the minutes anew. The small term is for a break at that very moment, which is rounded.
    ended = min(np.floor(done / epoch + 1e-9) * epoch, done)
    since = max(begun, ended)
    return float(min(since + np.floor((done - since) / save) * save, done))


def simulate(seconds: list[float], gpus: int, conditions: Conditions, seed: int) -> Outcome:
    """Run a queue of folds.

    Args:
        seconds: The work of each fold, in the order of the queue.
        gpus: Number of GPUs. Each draws its breaks from a series of its own, whatever the number of the others.
        conditions: All else.
        seed: Of the breaks.
    """
    rate = (conditions.preemptions_per_day + conditions.failures_per_day) / DAY
    signalled = conditions.preemptions_per_day / DAY / rate if rate else 0.0
    draws = [np.random.default_rng([seed, 1, gpu]) for gpu in range(gpus)]
    events = [(float(draws[gpu].exponential(1 / rate)), gpu, "break") for gpu in range(gpus)] if rate else []
    heapq.heapify(events)
    queue, idle = deque(_Fold(work) for work in seconds), list(range(gpus))
    running: dict[int, _Fold] = {}
    now = busy = lost = started = 0.0
    breaks = 0

    while queue or running:
        while queue and idle:
            fold = queue.popleft()
            fold.starting, fold.done = conditions.startup_seconds, fold.saved
            running[heapq.heappop(idle)] = fold
        speed = 1 / conditions.slowdown if len(running) > 1 else 1.0
        first = min(running, key=lambda gpu: running[gpu].left) if running else None
        finish = np.inf if first is None else now + running[first].left / speed
        until = min(finish, events[0][0] if events else np.inf)
        for fold in running.values():
            started += fold.advance((until - now) * speed)
            busy += until - now
        now = until
        if first is not None and finish <= until:
            del running[first]
            heapq.heappush(idle, first)
            continue
        _, gpu, kind = heapq.heappop(events)
        if kind == "back":
            heapq.heappush(idle, gpu)
            heapq.heappush(events, (now + float(draws[gpu].exponential(1 / rate)), gpu, "break"))
            continue
        with_signal = draws[gpu].random() < signalled
        if gpu in idle:
            idle.remove(gpu)
            heapq.heapify(idle)
        else:
            fold = running.pop(gpu)
            kept = fold.done if with_signal else last_state(fold.seconds, fold.saved, fold.done, conditions)
            lost += fold.done - kept
            fold.saved = kept
            queue.appendleft(fold)
            breaks += 1
        heapq.heappush(events, (now + conditions.restart_seconds, gpu, "back"))
    return Outcome(now, busy, sum(seconds), lost, started, breaks)


def repeat(units: int, gpus: int, conditions: Conditions, repeats: int, seed: int = 0) -> list[Outcome]:
    """Return the outcomes of several simulated studies, each with other folds and other breaks."""
    return [
        simulate(draw_folds(conditions, units, seed + number), gpus, conditions, seed + number)
        for number in range(repeats)
    ]


def row(gpus: int, outcomes: list[Outcome]) -> str:
    """Return a row of the table."""
    low, median, high = (np.quantile([outcome.makespan for outcome in outcomes], q) / 3600 for q in (0.05, 0.5, 0.95))
    busy, lost, breaks = (
        np.mean([getattr(outcome, name) for outcome in outcomes]) for name in ("busy", "lost", "breaks")
    )
    useful = np.mean([outcome.useful / (gpus * outcome.makespan) for outcome in outcomes])
    cells = [f"{median:.2f}", f"{low:.2f} to {high:.2f}", f"{busy / 3600:.1f}", f"{useful:.2f}", f"{breaks:.1f}"]
    return f"| {gpus} | {' | '.join(cells)} | {lost / 3600:.2f} |"


def main() -> None:
    """Print a table with a row per number of GPUs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folds", type=int, default=5, help="folds of a cross-validation (default 5)")
    parser.add_argument("--seeds", type=int, default=1, help="cross-validations, one per seed (default 1)")
    parser.add_argument("--gpus", default="1,2,4,8,16,32,64", help="numbers of GPUs (default %(default)s)")
    usual = Conditions()
    parser.add_argument("--fold-seconds", type=float, default=usual.fold_seconds, help="mean, default %(default)s")
    parser.add_argument("--spread", type=float, default=usual.spread, help="over the mean, default %(default)s")
    parser.add_argument("--startup-seconds", type=float, default=usual.startup_seconds, help="default %(default)s")
    parser.add_argument("--slowdown", type=float, default=usual.slowdown, help="by a neighbour, default %(default)s")
    parser.add_argument("--preemptions-per-day", type=float, default=usual.preemptions_per_day, help="with a signal")
    parser.add_argument("--failures-per-day", type=float, default=usual.failures_per_day, help="without a signal")
    parser.add_argument("--restart-seconds", type=float, default=usual.restart_seconds, help="default %(default)s")
    parser.add_argument("--save-minutes", type=float, default=usual.save_minutes, help="default %(default)s")
    parser.add_argument("--epochs", type=int, default=usual.epochs, help="default %(default)s")
    parser.add_argument("--repeats", type=int, default=400, help="simulated studies of a row (default 400)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the first of them (default 0)")
    parser.add_argument("--measured", type=float, help="measured seconds from the first start to the last end")
    arguments = parser.parse_args()
    conditions = Conditions(**{field.name: getattr(arguments, field.name) for field in fields(Conditions)})
    units = arguments.folds * arguments.seeds
    print("| GPUs | hours, median | 5 to 95 % | GPU hours | share that is useful | breaks | hours lost |")
    print(f"|{' --- |' * 7}")
    for gpus in map(int, arguments.gpus.split(",")):
        outcomes = repeat(units, gpus, conditions, arguments.repeats, arguments.seed)
        print(row(gpus, outcomes), flush=True)
        if arguments.measured:
            simulated = np.median([outcome.makespan for outcome in outcomes])
            ratio = simulated / arguments.measured
            print(f"simulated {simulated:.0f} s, measured {arguments.measured:.0f} s: ratio {ratio:.2f}")


if __name__ == "__main__":
    main()
