"""Training of one fold: transformers' Trainer over packed posts; the dev split picks the epoch."""

import json
import logging
import math
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from peft import PeftModel
from sklearn.metrics import average_precision_score, log_loss, roc_auc_score
from sklearn.utils.class_weight import compute_class_weight
from torch import nn
from transformers import (
    EarlyStoppingCallback,
    PrinterCallback,
    ProgressCallback,
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)

from mentallam import interruption
from mentallam.classifier.callbacks import EndsAfter, EndWhen, LogMetrics, Progress, Tracking, tracked
from mentallam.classifier.model import require_bitsandbytes
from mentallam.classifier.progress import peak_memory
from mentallam.classifier.prompts import PostExample
from mentallam.classifier.ranks import Ranks
from mentallam.classifier.scoring import score_pairs, sigmoid
from mentallam.classifier.training_states import (
    TrainingState,
    make_states_folder,
    newest_state,
    optimizer_state,
    rng_state,
    save_state,
    set_optimizer_state,
    set_rng_state,
    set_weights,
    trained_weights,
)
from mentallam.config import TrainConfig
from mentallam.device import on_gpu
from mentallam.errors import MentallamError
from mentallam.evaluation.arrays import has_one_label
from mentallam.evaluation.thresholds import best_threshold

logger = logging.getLogger(__name__)

# Enough for a mean, because the hidden states of all pairs are similar (docs/adr/0009).
_POSTS_AT_START = 4

_CALMER = "lower training.learning_rate or training.max_grad_norm, or set model.dtype=float32"


@dataclass(frozen=True)
class TrainingOutcome:
    """The result of training a fold, with the model at its best epoch.

    Attributes:
        best_epoch: The epoch, counted from 1, whose weights the model now has.
        epochs: Epochs that were trained, the last maybe in part.
        steps: Optimizer steps that were taken.
        selected_by: The dev score that picked the epoch: `training.select_by`, or the loss where that is undefined.
        diverged_at_step: The step after which `training.on_divergence=keep_best` ended the training; None otherwise.
        seconds: Time that was spent on training, also by earlier processes.
        history: Step, name and value of each logged figure, also of those that earlier processes have logged.
    """

    best_epoch: int
    epochs: int
    steps: int
    selected_by: str
    diverged_at_step: int | None = None
    seconds: float = field(default=0.0, compare=False)
    history: list[tuple[int, str, float]] = field(default_factory=list, compare=False, repr=False)


class _DivergedError(Exception):
    """A loss, a gradient or dev scores that are not finite.

    Args:
        what: Which of them, of which posts.
        step: The optimizer step that was being taken, or the last one before the dev scores.
    """

    def __init__(self, what: str, step: int) -> None:
        self.what, self.step = what, step
        super().__init__(what)


def train(
    model: PeftModel,
    train_examples: Sequence[PostExample],
    dev_examples: Sequence[PostExample],
    config: TrainConfig,
    seed: int,
    log_metrics: LogMetrics,
    states_folder: Path,
    title: str = "training",
    epochs: int | None = None,
    ranks: Ranks | None = None,
    ends: EndsAfter | None = None,
) -> TrainingOutcome:
    """Train adapters and head in place; stop early and restore the epoch with the best dev score.

    Where `states_folder` holds a complete training state, the training goes on from it, to the last bit as if nothing
    had happened. Whether that state is of these posts and this configuration is the caller's to know. On a signal a
    state is saved before the training stops.

    Where all dev pairs have the same label the loss picks the epoch, whatever `training.select_by` says, and a warning
    is logged.

    Args:
        model: The classifier, on its device; changed in place.
        train_examples: Labelled posts to learn from.
        dev_examples: Labelled posts that pick the epoch; never the held-out fold.
        config: The optimisation.
        seed: Decides the order of posts, and dropout.
        log_metrics: Called with loss, learning rate, gradient norm and pairs per second of each optimizer step, dev
            scores of each epoch, and the mean loss and peaks of memory at the end; of this process's steps only.
        states_folder: Where training states are kept (`training_states`).
        title: Words before the progress bar.
        epochs: Stop after so many epochs of the schedule, which stays that of `training.max_epochs`, and keep the last
            weights; no dev post is read. None lets the dev posts decide.
        ranks: The processes that train together (`ranks.open_ranks`); None is this one alone.
        ends: Called after each epoch; true ends the training there, as if it had been the last. None ends nothing.

    Raises:
        MentallamError: A single post with its criteria does not fit into memory; a loss, a gradient or dev scores are
            not finite; a training state can't be written; another rank has failed.
        RunStoppedError: A signal has stopped the training.
    """
    if config.optimizer == "adamw_8bit":
        require_bitsandbytes("training.optimizer=adamw_8bit")
    select_by = _selecting_score(config.select_by, dev_examples, title) if epochs is None else None
    weights = class_weights(config.class_weight, _labels(train_examples))
    start_at_base_rate(model, train_examples, weights)
    posts_per_step = max(1, round(config.effective_batch_pairs * len(train_examples) / _n_pairs(train_examples)))
    steps_per_epoch = math.ceil(len(train_examples) / posts_per_step)
    steps = min(config.max_epochs * steps_per_epoch, config.max_steps or sys.maxsize)
    ranks = ranks or Ranks()
    if posts_per_step < ranks.size:
        logger.warning(
            "%s: a step has %d posts, so some of the %d ranks have nothing to do: lower training.ranks, or raise "
            "training.effective_batch_pairs, which changes the training",
            *(title, posts_per_step, ranks.size),
        )
    make_states_folder(states_folder)
    arguments = _arguments(config, states_folder, seed, steps, posts_per_step, select_by)
    with closing(Progress(title)) as progress:
        trainer = _PackedTrainer(
            model=model,
            args=arguments,
            data_collator=cast(Any, list),
            train_dataset=list(train_examples),
            eval_dataset=list(dev_examples),
            optimizers=(_optimizer(model, config, arguments), None),
            callbacks=[Tracking(log_metrics), progress, *([EndWhen(ends)] if ends else [])],
            class_weights=weights,
            config=config,
            steps_per_epoch=steps_per_epoch,
            epochs=epochs,
            saved=newest_state(states_folder, title),
            ranks=ranks,
            title=title,
        )
        for noisy in (PrinterCallback, ProgressCallback):
            trainer.remove_callback(noisy)
        with interruption.deferred():
            trainer.train_or_go_on()
    trainer.remove_callback(_SaveWhenDue)  # it holds the trainer, and with it the model, in a circle
    state = trainer.state
    last_figures = {"train_loss": trainer.mean_loss(), **peak_memory()}
    log_metrics(last_figures, state.global_step)
    logs = [*state.log_history, {"step": state.global_step, **last_figures}]
    return TrainingOutcome(
        best_epoch=math.ceil((state.best_global_step or state.global_step) / steps_per_epoch),
        epochs=math.ceil(state.global_step / steps_per_epoch),
        steps=state.global_step,
        selected_by=select_by or "the median of the folds",
        diverged_at_step=trainer.diverged_at_step,
        seconds=trainer.seconds,
        history=[(int(entry["step"]), name, value) for entry in logs for name, value in tracked(entry).items()],
    )


def _selecting_score(select_by: str, dev_examples: Sequence[PostExample], title: str) -> str:
    """Return the dev score that picks the epoch: the configured one, or the loss where that one is undefined."""
    if select_by != "loss" and has_one_label(_labels(dev_examples)):
        logger.warning(
            "%s: all dev pairs have the same label, so their %s says nothing, and the loss chooses the epoch",
            title,
            select_by,
        )
        return "loss"
    return select_by


def _arguments(
    config: TrainConfig, folder: Path, seed: int, steps: int, posts_per_step: int, select_by: str | None
) -> TrainingArguments:
    """Return the Trainer's arguments; at the end of each epoch it evaluates, then has a state saved in `folder`.

    Without a score to select by it does not evaluate.
    """
    return _OneDevice(
        output_dir=str(folder),
        seed=seed,
        max_steps=steps,
        per_device_train_batch_size=posts_per_step,
        optim=TrainingArguments.default_optim if config.optimizer == "adamw" else config.optimizer,
        adam_beta2=config.adam_beta2,
        learning_rate=config.learning_rate,
        lr_scheduler_type=config.scheduler,
        warmup_steps=config.warmup_ratio,  # a value below 1 is a share of all steps
        weight_decay=config.weight_decay,
        max_grad_norm=config.max_grad_norm,
        eval_strategy="epoch" if select_by else "no",
        save_strategy="epoch",
        load_best_model_at_end=bool(select_by),
        metric_for_best_model=f"eval_{select_by}" if select_by else None,
        greater_is_better=select_by != "loss" if select_by else None,
        logging_steps=1,
        logging_nan_inf_filter=False,  # the Trainer would log a loss that is not finite as 0
        report_to="none",
        use_cpu=not on_gpu(),  # by itself the Trainer prefers a Mac's mps, an NPU ...
        remove_unused_columns=False,
        dataloader_pin_memory=False,  # the batch holds posts, not yet tensors
    )


def start_at_base_rate(
    model: PeftModel, examples: Sequence[PostExample], class_weights: torch.Tensor | None = None
) -> None:
    """Shift a fresh head so that the first posts' mean logit is the log-odds of the training pairs.

    Without this shift the first steps, a large part of a short training, only learn that matches are rare, and their
    number depends on the head's random start (Lin et al. 2017, arXiv 1708.02002, section 4.1).

    Args:
        model: The classifier; its head, which has no bias, is changed along the mean hidden state.
        examples: Labelled posts.
        class_weights: (2,) as in `gradients.pair_loss`.
    """
    wrapper = cast(Any, model).base_model.model.score
    head = wrapper.modules_to_save["default"]
    states: list[torch.Tensor] = []
    with wrapper.register_forward_pre_hook(lambda module, inputs: states.append(inputs[0])):
        score_pairs(model, examples[:_POSTS_AT_START], tokens_per_pass=1)
    mean = torch.cat(states).mean(0)
    counts = np.bincount(_labels(examples), minlength=2) + 0.5  # a label may be missing altogether
    if class_weights is not None:
        counts = counts * class_weights.numpy()
    wanted = torch.tensor([0.0, float(np.log(counts[1] / counts[0]))]).to(mean)
    with torch.no_grad():
        head.weight += torch.outer(wanted - head.weight @ mean, mean / mean.square().sum())


def _optimizer(model: PeftModel, config: TrainConfig, arguments: TrainingArguments) -> torch.optim.Optimizer:
    """Return the Trainer's optimizer, with a separate learning rate for the head."""
    trained = [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]
    head = [parameter for name, parameter in trained if "modules_to_save" in name]
    adapters = [parameter for name, parameter in trained if "modules_to_save" not in name]
    groups = [{"params": adapters}, {"params": head, "lr": config.head_learning_rate or config.learning_rate}]
    optimizer_class, options = Trainer.get_optimizer_cls_and_kwargs(arguments, cast(Any, model))
    optimizer: torch.optim.Optimizer = optimizer_class(groups, weight_decay=config.weight_decay, **options)
    return optimizer


def class_weights(name: str, labels: NDArray[np.int64]) -> torch.Tensor | None:
    """Return the weights of unmatched and matched pairs, or None for 1 each.

    `balanced` gives both the same share of the loss, on average 1 per pair.

    Args:
        name: none or balanced.
        labels: (N,), 0 or 1, of the training pairs.
    """
    if name == "none" or len(np.unique(labels)) < 2:
        return None
    return torch.from_numpy(compute_class_weight("balanced", classes=np.array([0, 1]), y=labels))


class _OneDevice(TrainingArguments):
    """The Trainer's arguments for one GPU even if several are visible: a packed row can't be split over them."""

    @property
    def n_gpu(self) -> int:
        return int(min(super().n_gpu, 1))


class _PackedTrainer(Trainer):
    """transformers' Trainer for packed posts: a batch is all posts of an optimizer step, computed pass by pass.

    Evaluation is the same scoring that inference uses. The Trainer's own checkpoints are replaced by `training_states`:
    they pickle, they can't be told from half-written ones, and one that was saved at the last step of an epoch skips
    the epoch's evaluation when it is resumed.

    Args:
        class_weights: As in `gradients.pair_loss`.
        config: The optimisation.
        steps_per_epoch: Optimizer steps of an epoch.
        epochs: As in `train`.
        saved: The state to go on from, or None.
        ranks: As in `train`.
        title: Words before messages.
        **kwargs: As the Trainer takes them.

    Attributes:
        diverged_at_step: As in `TrainingOutcome`.
    """

    def __init__(
        self,
        *,
        class_weights: torch.Tensor | None,
        config: TrainConfig,
        steps_per_epoch: int,
        epochs: int | None,
        saved: TrainingState | None,
        ranks: Ranks,
        title: str,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self._title, self._config, self._class_weights = title, config, class_weights
        self._steps_per_epoch, self._saved, self._ranks = steps_per_epoch, saved, ranks
        self._owes_evaluation = bool(saved and saved.facts["owes_evaluation"])
        self._tokens_per_pass = config.tokens_per_pass  # it gets smaller when memory runs out
        self._best: dict[str, torch.Tensor] | None = None
        self._early_stopping = EarlyStoppingCallback(config.patience)
        self._last_step = None if epochs is None else epochs * steps_per_epoch
        self.add_callback(self._early_stopping if epochs is None else _StopAfter(epochs * steps_per_epoch))
        self.add_callback(_SaveWhenDue(self._due_after_step))
        self.diverged_at_step: int | None = None
        self._step_began, self._step_pairs = 0.0, 0
        self._seconds_before, self._began, self._saved_at = 0.0, time.monotonic(), time.monotonic()
        self._ended_after: float | None = None

    def train_or_go_on(self) -> None:
        """Train from the start or the saved state to the end, and set the model to its best epoch.

        Raises:
            MentallamError: The training has diverged, and `training.on_divergence` or a lack of epochs forbids more.
            RunStoppedError: A signal has stopped the training.
        """
        saved = self._saved
        if saved:
            logger.info(
                "%s: %s step %d (epoch %.1f), saved %s",
                self._title,
                "its training had ended at" if saved.facts["finished"] else "goes on from",
                *(saved.facts[name] for name in ("step", "epoch", "saved_at")),
            )
        if saved and saved.facts["finished"]:
            self._load_from_checkpoint(str(saved.folder))
            self.state = TrainerState.load_from_json(str(saved.folder / "trainer_state.json"))
        else:
            try:
                self.train(resume_from_checkpoint=str(saved.folder) if saved else None)
            except _DivergedError as error:
                self._end_diverged(error)
        assert self._best is not None
        set_weights(cast(nn.Module, self.model), self._best)

    def _end_diverged(self, error: _DivergedError) -> None:
        """End the training as its best epoch left it, if the configuration wants that.

        Raises:
            MentallamError: It doesn't, or no epoch has ended.
        """
        message = f"{self._title}: {error.what}, so the training has diverged"
        if self._best is None:
            raise MentallamError(f"{message} before an epoch ended: {_CALMER}") from None
        best = f"epoch {math.ceil((self.state.best_global_step or 0) / self._steps_per_epoch)}, its best so far"
        if self._config.on_divergence == "stop":
            raise MentallamError(
                f"{message}: run this again with training.on_divergence=keep_best to keep {best} (it is saved in "
                f"{self.args.output_dir}), or start the fold anew with other settings: {_CALMER}"
            ) from None
        logger.warning("%s; training.on_divergence=keep_best ends it with %s", message, best)
        self.diverged_at_step = error.step
        self._save_state(finished=True)

    @property
    def seconds(self) -> float:
        """The seconds that this and earlier processes have trained; those after the end do not count."""
        if self._ended_after is not None:
            return self._ended_after
        return self._seconds_before + time.monotonic() - self._began

    def mean_loss(self) -> float:
        """Return the mean loss of all steps, which the Trainer has only of this process's."""
        return math.fsum(entry["loss"] for entry in self.state.log_history if "loss" in entry) / self.state.global_step

    def _due(self) -> bool:
        return interruption.requested() or time.monotonic() - self._saved_at > 60 * self._config.save_minutes

    def _due_after_step(self) -> bool:
        """Return whether to save a state now; after the last step of an epoch the evaluation decides."""
        step = self.state.global_step
        return step % self._steps_per_epoch != 0 and step < self.state.max_steps and self._due()

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        if self._last_step is not None or self.state.best_global_step == self.state.global_step:
            self._best = trained_weights(model)
        self._save_state(finished=self.control.should_training_stop or self.state.global_step >= self.state.max_steps)

    def _save_state(self, finished: bool = False, owes_evaluation: bool = False) -> None:
        """Save all that `_load_from_checkpoint` and the two methods after it load, then stop if a signal asks for it.

        Args:
            finished: Nothing is left to train.
            owes_evaluation: The epoch has ended, and the dev posts have not been scored.
        """
        self._ended_after = self.seconds if finished else None
        generators, generator_tensors = rng_state()
        optimizer, optimizer_tensors = optimizer_state(self.optimizer)
        weights = trained_weights(cast(nn.Module, self.model))
        facts = {
            "step": self.state.global_step,
            "epoch": self.state.epoch,
            "saved_at": time.strftime("%Y-%m-%d %H:%M"),
            "seconds": self.seconds,
            "finished": finished,
            "owes_evaluation": owes_evaluation,
            "diverged_at_step": self.diverged_at_step,
            "epochs_without_gain": self._early_stopping.early_stopping_patience_counter,
            "tokens_per_pass": self._tokens_per_pass,
            "scheduler": cast(Any, self.lr_scheduler).state_dict(),
            "optimizer": optimizer,
            "generators": generators,
        }
        tensors = {"weights": weights, "optimizer": optimizer_tensors, "rng": generator_tensors}
        if self._best is not None:
            tensors["best"] = self._best
        trainer_state = json.dumps(asdict(self.state))
        save_state(Path(cast(str, self.args.output_dir)), self.state.global_step, facts, trainer_state, tensors)
        self._saved_at = time.monotonic()
        interruption.stop_if_requested()

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        assert self._saved is not None
        facts = self._saved.facts
        set_weights(cast(nn.Module, self.model), self._saved.tensors("weights") or {})
        self._best = self._saved.tensors("best")
        self._early_stopping.early_stopping_patience_counter = facts["epochs_without_gain"]
        self._tokens_per_pass, self.diverged_at_step = facts["tokens_per_pass"], facts["diverged_at_step"]
        self._seconds_before, self._began = facts["seconds"], time.monotonic()
        self._ended_after = facts["seconds"] if facts["finished"] else None

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        if self._saved is not None:
            facts = self._saved.facts
            set_optimizer_state(self.optimizer, facts["optimizer"], self._saved.tensors("optimizer") or {})
            cast(Any, self.lr_scheduler).load_state_dict(facts["scheduler"])

    def _load_rng_state(self, checkpoint: str | None) -> None:
        if self._saved is not None:
            set_rng_state(self._saved.facts["generators"], self._saved.tensors("rng") or {})

    def _init_training_state(self, *args: Any, **kwargs: Any) -> tuple[int, int]:
        """Return epoch and step to go on from; of an epoch that only lacks its evaluation, the end."""
        epoch, step = super()._init_training_state(*args, **kwargs)
        if self._owes_evaluation:
            return (self.state.global_step - 1) // self._steps_per_epoch, self._steps_per_epoch
        return epoch, step

    def training_step(
        self, model: nn.Module, inputs: Any, num_items_in_batch: torch.Tensor | int | None = None
    ) -> torch.Tensor:
        """Add up the gradients of an optimizer step, as if all its pairs had been in one pass, and return its loss.

        Args:
            model: The classifier, without gradients.
            inputs: The posts of the step.
            num_items_in_batch: Unused: the Trainer can't count in posts, so the pairs are counted here.
        """
        examples: Sequence[PostExample] = inputs
        self._step_began, self._step_pairs = time.perf_counter(), _n_pairs(examples)
        loss, self._tokens_per_pass = self._ranks.add_gradients(
            model, examples, self._tokens_per_pass, self._class_weights, (self.args.seed, self.state.global_step)
        )
        gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
        for name, value in (("loss", loss), ("gradient's norm", torch.nn.utils.get_total_norm(gradients))):
            if not torch.isfinite(value):
                posts, step = ", ".join(example.post_id for example in examples), self.state.global_step + 1
                raise _DivergedError(f"the {name} of step {step} is {value:g} (posts {posts})", step)
        return loss

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Log the figures of an optimizer step, with its speed, or of an evaluation; not the Trainer's at the end."""
        if "loss" in logs:
            logs["pairs_per_second"] = self._step_pairs / (time.perf_counter() - self._step_began)
        if "train_runtime" not in logs:  # those figures are of this process's steps alone
            super().log(logs, start_time)

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        """Score the dev posts; save a state between two passes when it is due."""
        if self._owes_evaluation:
            self._load_rng_state(None)  # the Trainer only does it before a step
            self._owes_evaluation = False
        model, examples = cast(nn.Module, self.model), cast("Sequence[PostExample]", self.eval_dataset)
        labels = _labels(examples)
        with model.register_forward_pre_hook(
            lambda *_: self._save_state(owes_evaluation=True) if self._due() else None
        ):
            logits = self._ranks.score(model, examples, self._tokens_per_pass)
        if not np.isfinite(logits).all():
            step = self.state.global_step
            raise _DivergedError(f"the dev scores after step {step} are not finite", step)
        scores = dev_scores(labels, logits, self._class_weights)
        metrics = {f"eval_{name}": value for name, value in scores.items()}
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics


class _StopAfter(TrainerCallback):
    """A callback that ends the training at a step, at the end of an epoch.

    Args:
        last_step: The step.
    """

    def __init__(self, last_step: int) -> None:
        self._last_step = last_step

    def on_epoch_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """End the training."""
        control.should_training_stop = control.should_training_stop or state.global_step >= self._last_step


class _SaveWhenDue(TrainerCallback):
    """A callback that has a state saved after a step.

    Args:
        due: Returns whether to save one now.
    """

    def __init__(self, due: Callable[[], bool]) -> None:
        self._due = due

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Ask for a state."""
        control.should_save = self._due()


def dev_scores(
    labels: NDArray[np.int64], logits: NDArray[np.float64], class_weights: torch.Tensor | None = None
) -> dict[str, float]:
    """Return the scores that can pick an epoch: f1 (at its best threshold), average_precision, roc_auc, loss.

    Args:
        labels: (N,), 0 or 1.
        logits: (N,).
        class_weights: (2,) as in `gradients.pair_loss`: the loss that picks the epoch is the one that is trained.

    Returns:
        Score by name. Where all labels are the same only the loss: the others are undefined, or equal in every epoch.
    """
    weights = None if class_weights is None else class_weights.numpy()[labels]
    probabilities = sigmoid(logits)
    scores = {"loss": float(log_loss(labels, probabilities, sample_weight=weights, labels=[0, 1]))}
    if not has_one_label(labels):
        scores |= {
            "f1": best_threshold(labels, probabilities).f1,
            "average_precision": float(average_precision_score(labels, probabilities)),
            "roc_auc": float(roc_auc_score(labels, probabilities)),
        }
    return scores


def _labels(examples: Sequence[PostExample]) -> NDArray[np.int64]:
    return np.array([label for example in examples for label in example.labels])


def _n_pairs(examples: Sequence[PostExample]) -> int:
    return sum(len(example.suffixes) for example in examples)
