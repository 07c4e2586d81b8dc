"""Training of one fold: transformers' Trainer over packed posts, the epoch chosen on the dev split."""

import logging
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as functional
from numpy.typing import NDArray
from peft import PeftModel
from sklearn.metrics import log_loss
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

from mentallam.classifier.model import require_bitsandbytes
from mentallam.classifier.packing import pack
from mentallam.classifier.prompts import PostExample
from mentallam.classifier.scoring import score_pairs, sigmoid
from mentallam.config import TrainConfig
from mentallam.evaluation.metrics import pair_metrics
from mentallam.evaluation.thresholds import best_threshold

logger = logging.getLogger(__name__)

# Enough for a mean: the hidden states of pairs are all much alike (docs/adr/0009).
_POSTS_AT_START = 4

LogMetrics = Callable[[dict[str, float], int], None]


@dataclass(frozen=True)
class TrainingOutcome:
    """What training a fold gave, with the model at its best epoch.

    Attributes:
        threshold: Probability from which a pair counts as matched, F1-optimal on the dev split.
        dev_f1: F1 on the dev split at that threshold, at the best epoch.
        best_epoch: The epoch, counted from 1, whose weights the model now has.
        epochs: Epochs that were trained.
        steps: Optimizer steps that were taken.
    """

    threshold: float
    dev_f1: float
    best_epoch: int
    epochs: int
    steps: int


def train(
    model: PeftModel,
    train_examples: Sequence[PostExample],
    dev_examples: Sequence[PostExample],
    config: TrainConfig,
    seed: int,
    log_metrics: LogMetrics,
    title: str = "training",
) -> TrainingOutcome:
    """Trains adapters and head in place; stops early and restores the epoch with the best dev score.

    Args:
        model: The classifier, on its device; changed in place.
        train_examples: Labelled posts to learn from.
        dev_examples: Labelled posts that choose epoch and threshold; never the held-out fold.
        config: The optimisation.
        seed: Seed of the order of posts.
        log_metrics: Called with loss and learning rate at each optimizer step, and dev scores at each epoch.
        title: Words before the progress bar.
    """
    if config.optimizer == "adamw_8bit":
        require_bitsandbytes("training.optimizer=adamw_8bit")
    weights = class_weights(config.class_weight, _labels(train_examples))
    start_at_base_rate(model, train_examples, weights)
    posts_per_step = max(1, round(config.effective_batch_pairs * len(train_examples) / _n_pairs(train_examples)))
    # The largest that divides a step: any other would make the effective batch larger than asked for.
    fitting = range(1, min(config.posts_per_micro_batch, posts_per_step) + 1)
    micro_batch = max(size for size in fitting if posts_per_step % size == 0)
    with tempfile.TemporaryDirectory(prefix="mentallam-") as folder:
        arguments = TrainingArguments(
            output_dir=folder,
            seed=seed,
            num_train_epochs=config.max_epochs,
            per_device_train_batch_size=micro_batch,
            gradient_accumulation_steps=posts_per_step // micro_batch,
            optim=TrainingArguments.default_optim if config.optimizer == "adamw" else config.optimizer,
            learning_rate=config.learning_rate,
            lr_scheduler_type=config.scheduler,
            warmup_steps=config.warmup_ratio,  # a share of all steps where it is below 1
            weight_decay=config.weight_decay,
            max_grad_norm=config.max_grad_norm,
            eval_strategy="epoch",
            save_strategy="epoch",
            save_total_limit=1,
            load_best_model_at_end=True,
            metric_for_best_model=f"eval_{config.select_by}",
            greater_is_better=config.select_by != "loss",
            logging_steps=1,
            report_to="none",
            remove_unused_columns=False,
            dataloader_pin_memory=torch.cuda.is_available(),
        )
        # With several GPUs in sight the Trainer would split the batch over them, and a packed row can't be split.
        arguments._n_gpu = min(arguments.n_gpu, 1)
        trainer = _PackedTrainer(
            model=model,
            args=arguments,
            data_collator=cast(Any, pack),
            train_dataset=list(train_examples),
            eval_dataset=list(dev_examples),
            compute_loss_func=partial(pair_loss, class_weights=weights),
            optimizers=(_optimizer(model, config, arguments), None),
            callbacks=[EarlyStoppingCallback(config.patience), _LogMetrics(log_metrics)],
        )
        for noisy in (PrinterCallback, ProgressCallback):
            trainer.remove_callback(noisy)
        trainer.add_callback(_Progress(title))
        trainer.train()
    labels = _labels(dev_examples)
    choice = best_threshold(labels, sigmoid(score_pairs(model, dev_examples, micro_batch)))
    state = trainer.state
    return TrainingOutcome(
        threshold=choice.threshold,
        dev_f1=choice.f1,
        best_epoch=round((state.best_global_step or state.global_step) / state.max_steps * config.max_epochs),
        epochs=round(state.epoch or 0),
        steps=state.global_step,
    )


def start_at_base_rate(
    model: PeftModel, examples: Sequence[PostExample], class_weights: torch.Tensor | None = None
) -> None:
    """Shifts a fresh head so that the first posts' mean logit is the log-odds of the training pairs.

    Without it the first steps, a good part of a short training, are spent on learning that matches are rare, and
    how many depends on the head's random start (Lin et al. 2017, arXiv 1708.02002, section 4.1).

    Args:
        model: The classifier; its head, which has no bias, is changed along the mean hidden state.
        examples: Labelled posts.
        class_weights: (2,) as in `pair_loss`.
    """
    wrapper = cast(Any, model).base_model.model.score
    head = wrapper.modules_to_save["default"]
    states: list[torch.Tensor] = []
    with wrapper.register_forward_pre_hook(lambda module, inputs: states.append(inputs[0])):
        score_pairs(model, examples[:_POSTS_AT_START], posts_per_batch=_POSTS_AT_START)
    mean = torch.cat(states).mean(0)
    counts = np.bincount(_labels(examples), minlength=2) + 0.5  # a label may be missing altogether
    if class_weights is not None:
        counts = counts * class_weights.numpy()
    wanted = torch.tensor([0.0, float(np.log(counts[1] / counts[0]))]).to(mean)
    with torch.no_grad():
        head.weight += torch.outer(wanted - head.weight @ mean, mean / mean.square().sum())


def _optimizer(model: PeftModel, config: TrainConfig, arguments: TrainingArguments) -> torch.optim.Optimizer:
    """The Trainer's optimizer, with a learning rate of its own for the head."""
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
    num_items_in_batch: torch.Tensor | int | None = None,
    class_weights: torch.Tensor | None = None,
) -> torch.Tensor:
    """Mean cross-entropy over the pairs of an optimizer step, as if they had been trained one by one.

    Args:
        outputs: With `logits`, (N, 2).
        labels: (N,), 0 or 1.
        num_items_in_batch: Pairs in all micro-batches of the step; N without accumulation.
        class_weights: (2,), weight of an unmatched and of a matched pair; 1 each without.
    """
    if class_weights is not None:
        class_weights = class_weights.to(outputs.logits)
    total = functional.cross_entropy(outputs.logits, labels, weight=class_weights, reduction="sum")
    return total / (len(labels) if num_items_in_batch is None else num_items_in_batch)


def class_weights(name: str, labels: NDArray[np.int64]) -> torch.Tensor | None:
    """Weights of unmatched and matched pairs; `balanced` gives both the same share of the loss, on average 1 per pair.

    Args:
        name: none or balanced.
        labels: (N,), 0 or 1, of the training pairs.
    """
    if name == "none" or len(np.unique(labels)) < 2:
        return None
    return torch.from_numpy(compute_class_weight("balanced", classes=np.array([0, 1]), y=labels))


class _PackedTrainer(Trainer):
    """transformers' Trainer whose evaluation is the same scoring that inference uses."""

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        examples = cast("Sequence[PostExample]", self.eval_dataset)
        labels = _labels(examples)
        logits = score_pairs(cast(nn.Module, self.model), examples, self.args.per_device_train_batch_size)
        metrics = {f"eval_{name}": value for name, value in dev_scores(labels, logits).items()}
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics


def dev_scores(labels: NDArray[np.int64], logits: NDArray[np.float64]) -> dict[str, float]:
    """Scores that can choose an epoch: f1 (at its best threshold), average_precision, roc_auc, loss.

    Args:
        labels: (N,), 0 or 1.
        logits: (N,).
    """
    probabilities = sigmoid(logits)
    choice = best_threshold(labels, probabilities)
    metrics = pair_metrics(labels, probabilities, probabilities >= choice.threshold)
    return {
        "f1": choice.f1,
        # Undefined where the dev split has one label only; then no epoch is better than another.
        "average_precision": metrics["average_precision"] or 0.0,
        "roc_auc": metrics["roc_auc"] or 0.0,
        "loss": float(log_loss(labels, probabilities, labels=[0, 1])),
    }


class _LogMetrics(TrainerCallback):
    """Hands every figure that the Trainer logs to the run's tracking."""

    def __init__(self, log_metrics: LogMetrics) -> None:
        self._log_metrics = log_metrics

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        metrics = {name.replace("eval_", "dev_"): float(value) for name, value in (logs or {}).items()}
        self._log_metrics(metrics, state.global_step)


class _Progress(ProgressCallback):
    """One bar per fold with the latest loss and dev score, in place of a line per step."""

    def __init__(self, title: str) -> None:
        super().__init__()
        self._title, self._shown = title, dict[str, str]()

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        super().on_train_begin(args, state, control, **kwargs)
        if self.training_bar is not None:
            self.training_bar.set_description(self._title)

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        for name in {"loss", "eval_f1", "eval_loss"} & set(logs or {}):
            self._shown[name.replace("eval_", "dev_")] = f"{(logs or {})[name]:.3f}"
        if self.training_bar is not None:
            self.training_bar.set_postfix(self._shown)


def _labels(examples: Sequence[PostExample]) -> NDArray[np.int64]:
    return np.array([label for example in examples for label in example.labels])


def _n_pairs(examples: Sequence[PostExample]) -> int:
    return sum(len(example.suffixes) for example in examples)
