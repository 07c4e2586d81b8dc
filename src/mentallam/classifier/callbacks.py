"""What the Trainer calls while a fold is trained: its progress on the screen, and its figures for MLflow."""

from collections.abc import Callable, Mapping
from typing import Any

import psutil
import torch
from tqdm import tqdm
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from mentallam.classifier.progress import progress_bar
from mentallam.device import on_gpu

LogMetrics = Callable[[dict[str, float], int], None]
EndsAfter = Callable[[int, Mapping[str, float]], bool]
"""Returns whether a training ends after an epoch, counted from 1, with these dev scores (`training.dev_scores`)."""


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


class EndWhen(TrainerCallback):
    """A callback that ends the training after an epoch, with the best one so far.

    Args:
        ends: Returns whether to end.
    """

    def __init__(self, ends: EndsAfter) -> None:
        self._ends = ends

    def on_evaluate(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        metrics: dict[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        """End the training."""
        scores = {name.removeprefix("eval_"): value for name, value in (metrics or {}).items()}
        if self._ends(round(state.epoch or 0), scores):
            control.should_training_stop = True


def tracked(logs: Mapping[str, float]) -> dict[str, float]:
    """Return what the Trainer has logged, under the names that the run's tracking has for it."""
    return {name.replace("eval_", "dev_"): float(value) for name, value in logs.items() if name != "step"}
