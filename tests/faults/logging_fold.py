"""A process that logs to a run as a fold does, without a model: parameters, metrics, tags and artifacts."""

import math
import os
import time
from dataclasses import dataclass
from pathlib import Path

import mlflow

from mentallam.tracking import Run

PARAMS = {"training": {f"option_{number}": number for number in range(40)}}
METRICS = ("train/loss", "train/learning_rate")
# A fold logs metrics every few steps, tags now and then, and an artifact every epoch.
_TAG_EVERY, _ARTIFACT_EVERY = 10, 50


@dataclass(frozen=True)
class Until:
    """When a process stops to log.

    Attributes:
        step: Before this step, counted from 0.
        time: When `time.monotonic`, the same in all processes, is past this.
    """

    step: float = math.inf
    time: float = math.inf


def log_until(until: Until, uri: str, run_id: str, confirmed: Path) -> None:
    """Log to the run, and write down what the store has confirmed.

    Args:
        until: When no step is begun any more.
        uri: The tracking store.
        run_id: The run; it is finished at the end.
        confirmed: A new file; each line has a step and the seconds that its metrics took to be confirmed.
    """
    mlflow.set_tracking_uri(uri)
    run, step = Run(run_id), 0
    run.log_params(PARAMS)
    file = os.open(confirmed, os.O_WRONLY | os.O_CREAT | os.O_APPEND)  # unbuffered: a killed process loses no line
    while step < until.step and time.monotonic() < until.time:
        begun = time.monotonic()
        run.log_metrics({METRICS[0]: 1 / (step + 1), METRICS[1]: step / 1000}, step)
        os.write(file, f"{step} {time.monotonic() - begun:.3f}\n".encode())
        if step % _TAG_EVERY == 0:
            run.set_tags({f"mentallam.step_{step}": step, "mentallam.last_step": step})
        if step % _ARTIFACT_EVERY == 0:
            run.log_dict({"step": step}, f"epochs/{step}.json")
        step += 1
        time.sleep(0.003)
    run.finish()


def waits(confirmed: Path) -> list[float]:
    """Return the seconds that each confirmed step took, by step."""
    lines = [line.split() for line in confirmed.read_text(encoding="ascii").splitlines()] if confirmed.exists() else []
    assert [int(step) for step, _ in lines] == list(range(len(lines)))
    return [float(seconds) for _, seconds in lines]


def expected_tags(steps: int) -> dict[str, str]:
    """Return the tags that `steps` steps have set."""
    marked = range(0, steps, _TAG_EVERY)
    return {**{f"mentallam.step_{step}": str(step) for step in marked}, "mentallam.last_step": str(marked[-1])}


def expected_artifacts(steps: int) -> dict[str, dict[str, int]]:
    """Return the content of the artifacts that `steps` steps have logged, by file name."""
    return {f"{step}.json": {"step": step} for step in range(0, steps, _ARTIFACT_EVERY)}
