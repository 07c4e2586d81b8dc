"""How the model is built, trained and used: typed Hydra configuration, composed once per run.

Kedro says what flows (corpus, folds, seed, paths, tracking); this says everything about the model. The dataclasses
are the schema: an unknown key, an unknown group or a value of the wrong type stops the run with one sentence.
"""

import shlex
import threading
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import MISSING, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from mentallam.errors import MentallamError

_CHOICES = {
    "model.source": ("hub", "wheel", "random"),
    "model.dtype": ("auto", "bfloat16", "float32"),
    "model.quantization": ("none", "nf4"),
    "training.optimizer": ("adamw", "adamw_8bit"),
    "training.scheduler": ("linear", "cosine", "constant_with_warmup"),
    "training.class_weight": ("none", "balanced"),
    "training.select_by": ("f1", "average_precision", "roc_auc", "loss"),
    "inference.dtype": ("auto", "bfloat16", "float32"),
    "decision.calibration": ("none", "temperature", "platt"),
    "decision.scope": ("global", "per_criterion"),
}

_POSITIVE = (
    "model.max_length",
    "adapter.r",
    "adapter.alpha",
    "training.learning_rate",
    "training.max_epochs",
    "training.patience",
    "training.effective_batch_pairs",
    "training.tokens_per_pass",
    "inference.tokens_per_pass",
    "decision.beta",
)
_POSITIVE_OR_NULL = ("training.head_learning_rate", "training.max_steps")
_NOT_NEGATIVE = (
    "training.weight_decay",
    "training.max_grad_norm",
    "training.seed",
    "decision.prior_strength",
    "decision.smoothing",
)
_SHARES = ("adapter.dropout", "training.warmup_ratio", "training.adam_beta2")
_SHARES_OR_NULL = ("decision.min_recall", "inference.threshold")


@dataclass
class PromptConfig:
    """The text around a post and a criterion; a pair reads prefix + suffix."""

    prefix: str = MISSING
    suffix: str = MISSING


@dataclass
class ModelConfig:
    """The base model: where its weights come from and how they are held."""

    name: str = MISSING
    source: str = MISSING
    path: str = ""
    file: str = ""
    revision: str = "main"
    architecture: dict[str, Any] = field(default_factory=dict)
    dtype: str = "auto"
    quantization: str = "none"
    max_length: int = MISSING
    gradient_checkpointing: bool = False
    compile_on_gpu: bool = False
    compile_on_cpu: bool = False
    prompt: PromptConfig = field(default_factory=PromptConfig)


@dataclass
class AdapterConfig:
    """The trainable part: DoRA (or LoRA) on the named projections."""

    use_dora: bool = True
    r: int = 8
    alpha: int = 16
    dropout: float = 0.0
    target_modules: list[str] = field(default_factory=list)
    top_layers: int | None = None


@dataclass
class TrainConfig:
    """The optimisation of one fold."""

    optimizer: str = "adamw"
    adam_beta2: float = 0.999
    learning_rate: float = MISSING
    head_learning_rate: float | None = None
    scheduler: str = MISSING
    warmup_ratio: float = MISSING
    weight_decay: float = MISSING
    max_grad_norm: float = 1.0
    max_epochs: int = MISSING
    max_steps: int | None = None
    sample_fraction: float = 1.0
    patience: int = MISSING
    effective_batch_pairs: int = MISSING
    tokens_per_pass: int = MISSING
    class_weight: str = "none"
    select_by: str = "f1"
    seed: int = 42
    deterministic: bool = False


@dataclass
class DecisionConfig:
    """How a fold's logits become probabilities, and these predictions; fitted on its dev split."""

    calibration: str = "platt"
    scope: str = "global"
    beta: float = 1.0
    min_recall: float | None = None
    smoothing: int = 0
    prior_strength: float = 10.0


@dataclass
class InferenceConfig:
    """How a finished checkpoint is used on new posts."""

    tokens_per_pass: int = MISSING
    dtype: str = "auto"
    merge_adapter: bool = False
    threshold: float | None = None


@dataclass
class BaselinesConfig:
    """The learned baselines that stand beside the model on the same folds; none if a saved configuration has none."""

    models: list[str] = field(default_factory=list)


@dataclass
class Config:
    """The whole composed configuration."""

    model: ModelConfig = field(default_factory=ModelConfig)
    adapter: AdapterConfig = field(default_factory=AdapterConfig)
    training: TrainConfig = field(default_factory=TrainConfig)
    decision: DecisionConfig = field(default_factory=DecisionConfig)
    inference: InferenceConfig = field(default_factory=InferenceConfig)
    baselines: BaselinesConfig = field(default_factory=BaselinesConfig)


ConfigStore.instance().store(name="schema", node=Config)

# Hydra's state belongs to the process, and under Kedro's ThreadRunner two nodes may compose at once.
_COMPOSING = threading.Lock()


def compose_config(config_dir: Path, experiment: str, overrides: str | None = "") -> Config:
    """Composes and validates the configuration of one run.

    Args:
        config_dir: The folder `hydra_configs`.
        experiment: Name of a file in `hydra_configs/experiment`; each profile has one.
        overrides: What the user adds, in Hydra's grammar, separated by spaces and quoted as in a shell,
            for example `training.max_epochs=3 adapter.r=16`; None, as `--params overrides=` gives, adds nothing.

    Returns:
        The configuration, every value present and of its declared type.

    Raises:
        MentallamError: An unknown key, group or option, a value of the wrong type or outside its choices.
    """
    words = _words(overrides)
    launcher = [word for word in words if word.lstrip("+~").startswith(("hydra.", "hydra/"))]
    if launcher:
        raise MentallamError(
            f"overrides={launcher[0]} would change nothing: Kedro launches the run, and Hydra only composes its "
            f"configuration"
        )
    try:
        with _COMPOSING:
            GlobalHydra.instance().clear()
            with initialize_config_dir(str(config_dir.resolve()), version_base="1.3"):
                composed = compose("config", overrides=[f"+experiment={experiment}", *words])
        missing = OmegaConf.missing_keys(composed)
        if missing:
            raise MentallamError(f"the Hydra configuration lacks a value for {', '.join(sorted(missing))}")
        return _typed(OmegaConf.to_container(composed, resolve=True))
    except (HydraException, OmegaConfBaseException, ValueError) as error:  # ValueError: `model=null`
        raise MentallamError(_one_sentence(error, config_dir)) from None


def compose_inference(config_dir: Path, experiment: str, overrides: str | None = "") -> InferenceConfig:
    """The `inference` group alone: model, adapter and prompt of a prediction are the checkpoint's own.

    Raises:
        MentallamError: As `compose_config`, and for an override of anything else, which would change nothing.
    """
    config = compose_config(config_dir, experiment, overrides)
    idle = [word for word in _words(overrides) if not word.lstrip("+~").startswith(("inference.", "inference="))]
    if idle:
        raise MentallamError(
            f"overrides={idle[0]} would change nothing: a checkpoint keeps the model, adapter and prompt it was "
            f"trained with; only inference.* can be set here"
        )
    return config.inference


def to_dict(config: Config) -> dict[str, Any]:
    """Plain dict of the configuration, for saving and logging."""
    return asdict(config)


def from_dict(saved: dict[str, Any]) -> Config:
    """Configuration out of what `to_dict` made, validated again.

    Raises:
        MentallamError: The saved configuration does not fit this version's schema.
    """
    try:
        return _typed(saved)
    except (OmegaConfBaseException, ValueError) as error:
        raise MentallamError(f"the saved configuration doesn't fit this version: {_first_line(error)}") from None


def _words(overrides: str | None) -> list[str]:
    try:
        return [_quoted(word) for word in shlex.split(str(overrides or ""))]
    except ValueError as error:
        raise MentallamError(f"overrides={overrides!r} can't be split into words ({error}); check its quotes") from None


def _quoted(word: str) -> str:
    """Return the override as Hydra's grammar can read it.

    The grammar takes no `#`, `=` or `~` in a value, and no letter outside ASCII, unless the value is quoted. The split
    into words has removed such quotes.
    """
    key, equals, value = word.partition("=")
    escaped = value.replace("\\", "\\\\").replace("'", "\\'")
    parser = OverridesParser.create()
    for candidate in (word, f"{key}='{escaped}'") if equals else (word,):
        with suppress(HydraException):
            parser.parse_override(candidate)
            return candidate
    raise MentallamError(f"overrides={word} can't be read: Hydra takes key=value, +key=value or ~key")


def _typed(plain: Any) -> Config:
    # Into the schema as plain values: in Hydra's own merge a `+` adds keys that the schema doesn't have.
    composed = OmegaConf.merge(OmegaConf.structured(Config), plain)
    config = OmegaConf.to_object(composed)
    assert isinstance(config, Config)
    for key, choices in _CHOICES.items():
        value = OmegaConf.select(composed, key)
        if value not in choices:
            raise MentallamError(f"{key} is {value!r}; it takes one of {', '.join(choices)}")
    for key in _POSITIVE:
        if not OmegaConf.select(composed, key) > 0:  # nor is nan
            raise MentallamError(f"{key} is {OmegaConf.select(composed, key)}; it must be above 0")
    for key in _POSITIVE_OR_NULL:
        value = OmegaConf.select(composed, key)
        if value is not None and not value > 0:
            raise MentallamError(f"{key} is {value}; it must be above 0, or null")
    for key in _NOT_NEGATIVE:
        if not OmegaConf.select(composed, key) >= 0:
            raise MentallamError(f"{key} is {OmegaConf.select(composed, key)}; it must not be below 0")
    for key in _SHARES:
        if not 0 <= OmegaConf.select(composed, key) < 1:
            raise MentallamError(f"{key} is {OmegaConf.select(composed, key)}; it must be from 0 to below 1")
    for key in _SHARES_OR_NULL:
        value = OmegaConf.select(composed, key)
        if value is not None and not 0 <= value <= 1:
            raise MentallamError(f"{key} is {value}; it must be from 0 to 1, or null")
    if not 0 < config.training.sample_fraction <= 1:
        raise MentallamError(
            f"training.sample_fraction is {config.training.sample_fraction}; it must be above 0 and at most 1"
        )
    named = config.baselines.models
    if len(set(named)) < len(named):
        raise MentallamError(f"baselines.models is [{', '.join(named)}]; it takes each name at most once")
    if not config.adapter.target_modules:
        raise MentallamError("adapter.target_modules is empty; name at least one projection, for example [q_proj]")
    for part, placeholder in (("prefix", "{post}"), ("suffix", "{criterion}")):
        if getattr(config.model.prompt, part).count(placeholder) != 1:
            raise MentallamError(f"model.prompt.{part} must hold {placeholder} exactly once")
    return config


def _one_sentence(error: Exception, config_dir: Path) -> str:
    groups = sorted(folder.name for folder in config_dir.iterdir() if folder.is_dir())
    return (
        f"Hydra refused the configuration: {_first_line(error)} "
        f"(groups: {', '.join(groups)}; keys and their meaning: {config_dir.name}/*/*.yaml)"
    )


def _first_line(error: Exception) -> str:
    """Hydra hides the telling part in the cause: 'Could not override ...' over 'Key ... not in ...'."""
    lines = [str(error).strip().splitlines()[0]]
    if error.__cause__ is not None and str(error.__cause__):
        lines.append(str(error.__cause__).strip().splitlines()[0])
    return "; ".join(lines)
