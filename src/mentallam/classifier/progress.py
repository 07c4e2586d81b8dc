"""Progress of a fold while it runs: one line on the screen or in the log, and its figures for MLflow."""

import logging
import sys
from collections.abc import Callable, Mapping
from typing import Any

import psutil
import torch
from tqdm import tqdm
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from mentallam.device import on_gpu

logger = logging.getLogger(__name__)

LogMetrics = Callable[[dict[str, float], int], None]

# Without a terminal no line can be overwritten, so lines are rare.
_SECONDS_PER_LINE = 30.0
_LINE = "{desc}: {n_fmt}/{total_fmt} {unit}, {elapsed} so far, {remaining} left{postfix}"


def progress_bar(total: int | None, title: str | None, unit: str, done: int = 0) -> "tqdm[Any]":
    """Return a progress bar for a terminal; elsewhere, such as in a log file, one that logs a line every half minute.

    Args:
        total: Number of units to do; None if it is not known.
        title: Title of the bar; None shows neither bar nor lines.
        unit: Name of the unit, in the plural.
        done: Units that an earlier process has done.
    """
    if sys.stderr.isatty():
        return tqdm(total=total, initial=done, desc=title, unit=f" {unit}", disable=title is None, dynamic_ncols=True)
    return tqdm(
        total=total,
        initial=done,
        desc=title,
        unit=unit,
        disable=title is None,
        file=_LogLines(),
        mininterval=_SECONDS_PER_LINE,
        miniters=1,  # Otherwise tqdm's monitor thread prints more lines.
        bar_format=_LINE,
    )


class _LogLines:
    """A file for tqdm that turns each state of the bar into a log record."""

    def write(self, text: str) -> None:
        line = text.replace("\x1b[A", "").strip()
        if line:
            logger.info(line)

    def flush(self) -> None:
        """Do nothing: log records are not buffered."""


class Progress(TrainerCallback):
    """A bar per fold: epoch, loss, dev scores, pairs per second, memory, and the time left without early stopping.

    Args:
        title: Title of the bar.
    """

    def __init__(self, title: str) -> None:
        self._title = title
        self._shown: dict[str, str] = {}
        self._bar: tqdm[Any] | None = None

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Open the bar."""
        self._bar = progress_bar(state.max_steps, self._title, "steps", state.global_step)

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        """Show the latest figures: those of each optimizer step, and the dev scores of each epoch."""
        logs = logs or {}
        for name in ("eval_loss", "eval_f1"):
            if name in logs:
                self._shown[name.replace("eval_", "dev_")] = f"{logs[name]:.3f}"
        if "loss" in logs:
            self._shown["epoch"] = f"{state.epoch or 0:.1f}/{state.num_train_epochs}"
            self._shown["loss"] = f"{logs['loss']:.3f}"
            self._shown["pairs/s"] = f"{logs['pairs_per_second']:.3g}"
            self._shown["memory"] = f"{psutil.Process().memory_info().rss / 2**30:.1f}GiB"
            if on_gpu():
                self._shown["gpu"] = f"{torch.cuda.memory_reserved() / 2**30:.1f}GiB"
        assert self._bar is not None
        self._bar.set_postfix(self._shown, refresh=False)
        self._bar.update(state.global_step - self._bar.n)

    def close(self) -> None:
        """Close the bar; its last state stays on the screen."""
        if self._bar is not None:
            self._bar.close()


class Tracking(TrainerCallback):
    """A callback that passes the Trainer's figures to the run's tracking.

    Args:
        log_metrics: Called with figures and the optimizer step that they belong to.
    """

    def __init__(self, log_metrics: LogMetrics) -> None:
        self._log_metrics = log_metrics

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Reset the peak of GPU memory, which earlier folds have set."""
        if on_gpu():
            torch.cuda.reset_peak_memory_stats()

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        """Pass on the logged figures."""
        self._log_metrics(tracked(logs or {}), state.global_step)


def tracked(logs: Mapping[str, float]) -> dict[str, float]:
    """Return what the Trainer has logged, under the names that the run's tracking has for it."""
    return {name.replace("eval_", "dev_"): float(value) for name, value in logs.items() if name != "step"}


def peak_memory() -> dict[str, float]:
    """Return peak_rss_bytes of this process since it began and, with a GPU, peak_gpu_bytes of torch's tensors."""
    if sys.platform == "win32":
        peak = psutil.Process().memory_info().peak_wset
    else:
        import resource  # Windows lacks this module.

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    peaks = {"peak_rss_bytes": float(peak)}
    if on_gpu():
        peaks["peak_gpu_bytes"] = float(torch.cuda.max_memory_allocated())
    return peaks
