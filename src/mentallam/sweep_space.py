"""What a search tries: a file of hydra_configs/sweep."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, ValidationError, model_validator

from mentallam.errors import MentallamError

GROUPS = ("training", "adapter")
"""The groups of the configuration that a search may change: others change the base model or what a score means."""


class Range(BaseModel):
    """Numbers from low to high: whole ones if both are."""

    model_config = ConfigDict(extra="forbid")

    low: int | float
    high: int | float
    log: bool = False

    @model_validator(mode="after")
    def _ordered(self) -> "Range":
        if not self.low < self.high or (self.log and self.low <= 0):
            raise ValueError("low must be below high, and above 0 where log is true")
        return self


class Choices(BaseModel):
    """Values to choose from."""

    model_config = ConfigDict(extra="forbid")

    choices: list[bool | int | float | str] = Field(min_length=2)


Each = Annotated[
    Annotated[Range, Tag("range")] | Annotated[Choices, Tag("choices")],
    Discriminator(lambda each: "choices" if isinstance(each, Choices) or "choices" in (each or ()) else "range"),
]


class SweepOptions(BaseModel):
    """A search.

    Attributes:
        trials: How many configurations are tried.
        folds: How many folds score each; null takes all.
        sampler: How the next one is chosen.
        seed: Seed of that choice.
        pruner: What ends a trial early.
        prune_after: When it may do so.
        space: What each key of the configuration may be.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    trials: int = Field(ge=2)
    folds: int | None = Field(default=None, ge=1)
    sampler: Literal["tpe", "random"] = "tpe"
    seed: int = Field(default=42, ge=0, lt=2**32)
    pruner: Literal["median", "halving", "none"] = "median"
    prune_after: Literal["fold", "epoch"] = "fold"
    space: dict[str, Each] = Field(min_length=1)


def read_sweep(hydra_configs: Path, name: str) -> SweepOptions:
    """Read a file of hydra_configs/sweep.

    Raises:
        MentallamError: There is no such file, or it holds what a search can't try.
    """
    folder = hydra_configs / "sweep"
    file = folder / f"{name}.yaml"
    if not file.is_file():
        known = ", ".join(sorted(path.stem for path in folder.glob("*.yaml")))
        raise MentallamError(f"sweep={name}: there is no {file}; there are: {known}")
    try:
        options = SweepOptions.model_validate(yaml.safe_load(file.read_text(encoding="utf-8")))
    except (ValidationError, yaml.YAMLError, UnicodeError) as error:
        raise MentallamError(f"{file}: {_first(error)}") from None
    for key in options.space:
        group, dot, _ = key.partition(".")
        if group not in GROUPS or not dot:
            raise MentallamError(f"{file}: space.{key} is no key of the groups {' and '.join(GROUPS)}")
    return options


def first_values(options: SweepOptions) -> dict[str, Any]:
    """Return one point of the space, to check its keys before anything is trained."""
    return {key: each.low if isinstance(each, Range) else each.choices[0] for key, each in options.space.items()}


def as_written(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return a point of the space with its numbers to four digits: a trial trains with what its report has."""
    return {key: float(f"{value:.4g}") if isinstance(value, float) else value for key, value in values.items()}


def _first(error: Exception) -> str:
    if isinstance(error, ValidationError):
        first = error.errors(include_url=False)[0]
        return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
    return str(error).partition("\n")[0]
