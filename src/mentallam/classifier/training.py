"""Training of one fold: transformers' Trainer over packed posts; the dev split picks the epoch."""

import logging
import math
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as functional
from accelerate.utils import send_to_device
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
    TrainingArguments,
)

from mentallam.classifier.model import require_bitsandbytes
from mentallam.classifier.packing import pack
from mentallam.classifier.passes import run_in_passes
from mentallam.classifier.progress import LogMetrics, Progress, Tracking
from mentallam.classifier.prompts import PostExample
from mentallam.classifier.scoring import score_pairs, sigmoid
from mentallam.config import TrainConfig
from mentallam.device import on_gpu
from mentallam.errors import MentallamError
from mentallam.evaluation.arrays import has_one_label
from mentallam.evaluation.thresholds import best_threshold

logger = logging.getLogger(__name__)

# Enough for a mean, because the hidden states of all pairs are similar (docs/adr/0009).
_POSTS_AT_START = 4

_CALMER = "lower training.learning_rate or training.max_grad_norm, or set model.dtype=float32"
_WAY_OUT = "set model.gradient_checkpointing=true, lower model.max_length, or take a machine with more memory"


@dataclass(frozen=True)
class TrainingOutcome:
    """The result of training a fold, with the model at its best epoch.

    Attributes:
        best_epoch: The epoch, counted from 1, whose weights the model now has.
        epochs: Epochs that were trained, the last maybe in part.
        steps: Optimizer steps that were taken.
        selected_by: The dev score that picked the epoch: `training.select_by`, or the loss where that is undefined.
    """

    best_epoch: int
    epochs: int
    steps: int
    selected_by: str
    history: list[tuple[int, str, float]]
    seconds: float


def train(
    model: PeftModel,
    train_examples: Sequence[PostExample],
    dev_examples: Sequence[PostExample],
    config: TrainConfig,
    seed: int,
    log_metrics: LogMetrics,
    title: str = "training",
) -> TrainingOutcome:
    """Train adapters and head in place; stop early and restore the epoch with the best dev score.

    Where all dev pairs have the same label the loss picks the epoch, whatever `training.select_by` says, and a warning
    is logged.

    Args:
        model: The classifier, on its device; changed in place.
        train_examples: Labelled posts to learn from.
        dev_examples: Labelled posts that pick the epoch; never the held-out fold.
        config: The optimisation.
        seed: Decides the order of posts, and dropout.
        log_metrics: Called with loss, learning rate, gradient norm and pairs per second of each optimizer step, dev
            scores of each epoch, and peaks of memory at the end.
        title: Words before the progress bar.

    Raises:
        MentallamError: A single post with its criteria does not fit into memory, or a loss, a gradient or dev scores
            are not finite.
    """
    if config.optimizer == "adamw_8bit":
        require_bitsandbytes("training.optimizer=adamw_8bit")
    select_by = _selecting_score(config.select_by, dev_examples, title)
    weights = class_weights(config.class_weight, _labels(train_examples))
    start_at_base_rate(model, train_examples, weights)
    posts_per_step = max(1, round(config.effective_batch_pairs * len(train_examples) / _n_pairs(train_examples)))
    steps_per_epoch = math.ceil(len(train_examples) / posts_per_step)
    steps = min(config.max_epochs * steps_per_epoch, config.max_steps or sys.maxsize)
    with tempfile.TemporaryDirectory(prefix="mentallam-") as folder:
        arguments = _arguments(config, folder, seed, steps, posts_per_step, select_by)
        trainer = _PackedTrainer(
            model=model,
            args=arguments,
            data_collator=cast(Any, list),
            train_dataset=list(train_examples),
            eval_dataset=list(dev_examples),
            optimizers=(_optimizer(model, config, arguments), None),
            callbacks=[EarlyStoppingCallback(config.patience), Tracking(log_metrics), Progress(title)],
            class_weights=weights,
            tokens_per_pass=config.tokens_per_pass,
            title=title,
        )
        for noisy in (PrinterCallback, ProgressCallback):
            trainer.remove_callback(noisy)
        trainer.train()
    state = trainer.state
    return TrainingOutcome(
        best_epoch=math.ceil((state.best_global_step or state.global_step) / steps_per_epoch),
        epochs=math.ceil(state.global_step / steps_per_epoch),
        steps=state.global_step,
        selected_by=select_by,
        history=[(0, "loss", 1.0)],
        seconds=1.0,
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
    config: TrainConfig, folder: str, seed: int, steps: int, posts_per_step: int, select_by: str
) -> TrainingArguments:
    """Return the Trainer's arguments; it saves each epoch in `folder` until the best one is known."""
    return _OneDevice(
        output_dir=folder,
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
        eval_strategy="epoch",
        save_strategy="epoch",
        save_total_limit=1,
        load_best_model_at_end=True,
        metric_for_best_model=f"eval_{select_by}",
        greater_is_better=select_by != "loss",
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
        class_weights: (2,) as in `pair_loss`.
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


def pair_loss(
    outputs: Any,
    labels: torch.Tensor,
    pairs_of_step: int | None = None,
    class_weights: torch.Tensor | None = None,
) -> torch.Tensor:
    """Return the mean cross-entropy over the pairs of an optimizer step, as if they had been trained one by one.

    Args:
        outputs: With `logits`, (N, 2).
        labels: (N,), 0 or 1.
        pairs_of_step: Pairs in all passes of the step; N where this is the only one.
        class_weights: (2,), weight of an unmatched and of a matched pair; 1 each without.
    """
    if class_weights is not None:
        class_weights = class_weights.to(outputs.logits)
    total = functional.cross_entropy(outputs.logits, labels, weight=class_weights, reduction="sum")
    return total / (pairs_of_step or len(labels))


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

    Evaluation is the same scoring that inference uses.

    Args:
        class_weights: As in `pair_loss`.
        tokens_per_pass: Tokens of one pass; it gets smaller when memory runs out.
        title: Words before messages.
        **kwargs: As the Trainer takes them.
    """

    def __init__(self, *, class_weights: torch.Tensor | None, tokens_per_pass: int, title: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._title = title
        self.tokens_per_pass = tokens_per_pass
        self._class_weights = class_weights
        self._step_began, self._step_pairs = 0.0, 0

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
        losses: list[torch.Tensor] = []

        def run(chosen: list[int]) -> None:
            batch = send_to_device(pack([examples[position] for position in chosen]), self.args.device)
            labels = batch.pop("labels")
            loss = pair_loss(model(**batch), labels, self._step_pairs, self._class_weights)
            self.accelerator.backward(loss)
            losses.append(loss.detach())

        def start_over() -> None:
            model.zero_grad()  # a failed pass may have left a part of its gradients
            losses.clear()

        model.train()
        self.tokens_per_pass = run_in_passes(examples, self.tokens_per_pass, run, _WAY_OUT, start_over)
        loss = torch.stack(losses).sum()
        gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
        for name, value in (("loss", loss), ("gradient's norm", torch.nn.utils.get_total_norm(gradients))):
            if not torch.isfinite(value):
                posts = ", ".join(example.post_id for example in examples)
                raise MentallamError(
                    f"{self._title}: the {name} of step {self.state.global_step + 1} is {value:g} (posts {posts}), so "
                    f"the training has diverged: {_CALMER}"
                )
        return loss

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Log the speed of an optimizer step with its loss, learning rate and gradient norm."""
        if "loss" in logs:
            logs["pairs_per_second"] = self._step_pairs / (time.perf_counter() - self._step_began)
        super().log(logs, start_time)

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        """Score the dev posts."""
        examples = cast("Sequence[PostExample]", self.eval_dataset)
        labels = _labels(examples)
        logits = score_pairs(cast(nn.Module, self.model), examples, self.tokens_per_pass)
        if not np.isfinite(logits).all():
            raise MentallamError(
                f"{self._title}: the dev scores after step {self.state.global_step} are not finite, so the training "
                f"has diverged: {_CALMER}"
            )
        scores = dev_scores(labels, logits, self._class_weights)
        metrics = {f"eval_{name}": value for name, value in scores.items()}
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics


def dev_scores(
    labels: NDArray[np.int64], logits: NDArray[np.float64], class_weights: torch.Tensor | None = None
) -> dict[str, float]:
    """Return the scores that can pick an epoch: f1 (at its best threshold), average_precision, roc_auc, loss.

    Args:
        labels: (N,), 0 or 1.
        logits: (N,).
        class_weights: (2,) as in `pair_loss`: the loss that picks the epoch is the one that is trained.

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
