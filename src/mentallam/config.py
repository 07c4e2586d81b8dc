"""How the model is built, trained and used: typed Hydra configuration, composed once per run.

Kedro says what flows (corpus, folds, seed, paths, tracking); this configuration says everything about the model. Its
schema is in `config_schema`: an unknown key or group, a value of the wrong type and a value that breaks its rule stop
the run with one sentence.
"""

import logging
import shlex
import threading
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict
from functools import reduce
from operator import attrgetter, getitem
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from mentallam.config_schema import (
    AdapterConfig,
    BaselinesConfig,
    Config,
    DecisionConfig,
    InferenceConfig,
    ModelConfig,
    PromptConfig,
    RetriesConfig,
    TrainConfig,
    composed_schema,
    keys,
)
from mentallam.errors import MentallamError

__all__ = [
    "AdapterConfig",
    "BaselinesConfig",
    "Config",
    "DecisionConfig",
    "InferenceConfig",
    "ModelConfig",
    "PromptConfig",
    "RetriesConfig",
    "TrainConfig",
    "as_words",
    "compose_config",
    "compose_for_corpus",
    "compose_inference",
    "deciding",
    "from_dict",
    "to_dict",
    "with_values",
]


logger = logging.getLogger(__name__)

_KEYS = tuple(keys(Config()))
# The folder beside the groups whose files say what a search tries.
_SEARCHES = "sweep"
ConfigStore.instance().store(name="schema", node=composed_schema())

# Hydra's state belongs to the process, and under Kedro's ThreadRunner two nodes may compose at once.
_COMPOSING = threading.Lock()


def compose_config(config_dir: Path, experiment: str, overrides: str | None = "") -> Config:
    """Compose and validate the configuration of one run.

    Args:
        config_dir: The folder `hydra_configs`.
        experiment: Name of a file in `hydra_configs/experiment`; each profile has one.
        overrides: What the user adds, in Hydra's grammar, separated by spaces and quoted as in a shell,
            for example `training.max_epochs=3 adapter.r=16`; None, as `--params overrides=` gives, adds nothing.

    Returns:
        The configuration, every value present and of its declared type.

    Raises:
        MentallamError: An unknown key, group or option, or a value of the wrong type or against its rule.
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
        plain: Any = OmegaConf.to_container(composed, resolve=True)
        question = plain["model"]["prompt"].pop("question")
        config = _typed(plain)
    except (HydraException, OmegaConfBaseException, ValueError) as error:  # ValueError: `model=null`
        raise MentallamError(_one_sentence(error, config_dir)) from None
    asks = any(word.lstrip("+~").startswith("model.prompt.question=") for word in words)
    if asks and question not in config.model.prompt.suffix:
        raise MentallamError(
            "model.prompt.question would change nothing: model.prompt.suffix does not contain it; write the question "
            "into the suffix, or leave one of the two out"
        )
    return config


def compose_for_corpus(
    config_dir: Path, experiment: str, overrides: str | None, n_posts: int, corpus_training_from: int | None
) -> Config:
    """Compose the configuration of one run, with the settings for larger corpora if the corpus is one.

    Args:
        config_dir: As in `compose_config`.
        experiment: The same.
        overrides: The same; where they name a training or an experiment, that one is taken.
        n_posts: Number of posts of the corpus.
        corpus_training_from: Posts from which on `training=corpus` takes the place of the profile's training; None for
            never.

    Raises:
        MentallamError: As `compose_config`.
    """
    named = any(word.startswith(("training=", "experiment=")) for word in _words(overrides))
    if named or corpus_training_from is None or n_posts < corpus_training_from:
        return compose_config(config_dir, experiment, overrides)
    logger.info(
        "%d posts, so training=corpus: smaller steps than for a sample; overrides=training=... names another", n_posts
    )
    return compose_config(config_dir, experiment, f"training=corpus {overrides or ''}")


def compose_inference(config_dir: Path, experiment: str, overrides: str | None = "") -> InferenceConfig:
    """Compose the group `inference` alone: the checkpoint has the model, adapter and prompt of a prediction.

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
    """Return the configuration as a plain dict, for saving and logging."""
    return asdict(config)


def deciding(config: Config) -> dict[str, Any]:
    """Return the part of the configuration that decides results, as a plain dict: saved results with it are fresh."""
    plain = to_dict(config)
    for key in _KEYS:
        if not key.changes_results:
            *groups, name = key.name.split(".")
            del reduce(getitem, groups, plain)[name]
    return plain


def from_dict(saved: Any) -> Config:
    """Return the configuration that `to_dict` made a dict of, validated again.

    Raises:
        MentallamError: The saved configuration does not fit this version's schema.
    """
    try:
        return _typed(saved)
    except (OmegaConfBaseException, ValueError) as error:
        raise MentallamError(f"the saved configuration doesn't fit this version: {_first_line(error)}") from None


def with_values(config: Config, values: Mapping[str, Any]) -> Config:
    """Return the configuration with other values of some keys, validated again: as overrides of these keys give it.

    Args:
        config: A configuration.
        values: Values by the dotted names of their keys.

    Raises:
        MentallamError: There is no such key, or the value is of the wrong type or against its rule.
    """
    plain = to_dict(config)
    try:
        for name, value in values.items():
            *groups, key = name.split(".")
            reduce(getitem, groups, plain)[key] = value
        return _typed(plain)
    except (OmegaConfBaseException, KeyError, TypeError, ValueError) as error:
        raise MentallamError(f"{as_words(values)} is no change of the configuration: {_first_line(error)}") from None


def as_words(values: Mapping[str, Any]) -> str:
    """Return values of keys as Hydra overrides, separated by spaces."""
    return " ".join(
        f"{key}={str(value).lower() if isinstance(value, bool) else value}" for key, value in values.items()
    )


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
    # Into the schema as plain values: in Hydra's merge a `+` adds keys that the schema doesn't have.
    config = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(Config), plain))
    assert isinstance(config, Config)
    for key in _KEYS:
        value = attrgetter(key.name)(config)
        if key.rule and value is not None and not key.rule.holds(value):
            raise MentallamError(f"{key.name} is {value!r}; it must {key.limits}")
    return config


def _one_sentence(error: Exception, config_dir: Path) -> str:
    groups = sorted(folder.name for folder in config_dir.iterdir() if folder.is_dir() and folder.name != _SEARCHES)
    return (
        f"Hydra refused the configuration: {_first_line(error)} "
        f"(groups: {', '.join(groups)}; keys and their meaning: {config_dir.name}/*/*.yaml)"
    )


def _first_line(error: Exception) -> str:
    """Return the first lines of an error and its cause.

    Hydra hides the telling part in the cause: 'Could not override ...' over 'Key ... not in ...'.
    """
    lines = [str(error).strip().splitlines()[0]]
    if error.__cause__ is not None and str(error.__cause__):
        lines.append(str(error.__cause__).strip().splitlines()[0])
    return "; ".join(lines)
