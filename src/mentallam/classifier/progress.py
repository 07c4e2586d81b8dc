"""What is seen of a fold while it runs: one progress line, and its figures for the run's tracking."""

import logging
import sys
from collections.abc import Callable
from typing import Any

import psutil
import torch
from tqdm import tqdm
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from mentallam.device import on_gpu

logger = logging.getLogger(__name__)

LogMetrics = Callable[[dict[str, float], int], None]

# Between two lines where there is no terminal on which one line could be written over and over.
_SECONDS_PER_LINE = 30.0
_LINE = "{desc}: {n_fmt}/{total_fmt} {unit}, {elapsed} so far, {remaining} left{postfix}"


def progress_bar(total: int, title: str | None, unit: str) -> "tqdm[Any]":
    """A bar on a terminal; elsewhere, in a log file for example, a log line every half minute.

    Args:
        total: How much there is to do.
        title: Words before the bar; neither bar nor lines without them.
        unit: What is counted, in the plural.
    """
    if sys.stderr.isatty():
        return tqdm(total=total, desc=title, unit=f" {unit}", disable=title is None, dynamic_ncols=True)
    return tqdm(
        total=total,
        desc=title,
        unit=unit,
        disable=title is None,
        file=_LogLines(),
        mininterval=_SECONDS_PER_LINE,
        miniters=1,  # else tqdm's own thread would print as it sees fit
        bar_format=_LINE,
    )


class _LogLines:
    """A file for tqdm that makes a log record of each state of the bar."""

    def write(self, text: str) -> None:
        line = text.replace("\x1b[A", "").strip()
        if line:
            logger.info(line)

    def flush(self) -> None:
        """Log records are not held back."""


class Progress(TrainerCallback):
    """One bar per fold: epoch, loss, dev scores, pairs per second, memory, and the time left if it does not stop early.

    Args:
        title: Words before the bar.
    """

    def __init__(self, title: str) -> None:
        self._title = title
        self._shown: dict[str, str] = {}

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Opens the bar."""
        self._bar = progress_bar(state.max_steps, self._title, "steps")

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        """Shows what is new: after each optimizer step its figures, after each epoch the dev scores."""
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
        self._bar.set_postfix(self._shown, refresh=False)
        self._bar.update(state.global_step - self._bar.n)

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Leaves the bar as it is."""
        self._bar.close()


class Tracking(TrainerCallback):
    """Hands every figure that the Trainer logs to the run's tracking, and at the end how much memory was needed.

    Args:
        log_metrics: Called with figures and the optimizer step that they belong to.
    """

    def __init__(self, log_metrics: LogMetrics) -> None:
        self._log_metrics = log_metrics

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Forgets the GPU memory of earlier folds."""
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
        """Passes on what is logged; the Trainer's count of FLOPs does not know packed rows."""
        metrics = {name.replace("eval_", "dev_"): float(value) for name, value in (logs or {}).items()}
        metrics.pop("total_flos", None)
        self._log_metrics(metrics, state.global_step)

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Logs the peaks of memory."""
        self._log_metrics(peak_memory(), state.global_step)


def peak_memory() -> dict[str, float]:
    """peak_rss_bytes of this process since it began, and peak_gpu_bytes of torch's tensors where there is a GPU."""
    if sys.platform == "win32":
        peak = psutil.Process().memory_info().peak_wset
    else:
        import resource  # Windows has none

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    peaks = {"peak_rss_bytes": float(peak)}
    if on_gpu():
        peaks["peak_gpu_bytes"] = float(torch.cuda.max_memory_allocated())
    return peaks
