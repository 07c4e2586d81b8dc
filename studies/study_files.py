"""Files and configuration that several studies share."""

from pathlib import Path

import pandas as pd

from mentallam.config import Config, compose_config
from mentallam.corpus.schemas import wording_by_id

PROJECT = Path(__file__).resolve().parents[1]
TWIN = PROJECT / "data/01_raw/twin"
BASE_MODELS = PROJECT / "data/06_models/base"


def compose(overrides: str = "") -> Config:
    """Compose the configuration of the embedded model."""
    return compose_config(PROJECT / "hydra_configs", "smollm2", overrides)


def read_wordings() -> dict[str, str]:
    """Read the wording of each criterion, by criterion_id."""
    criteria = pd.read_csv(PROJECT / "data/01_raw/dsm5_criteria.csv")
    return wording_by_id(criteria)
