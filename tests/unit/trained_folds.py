"""A fold of the tiny model as training leaves it."""

from dataclasses import replace

import torch

from mentallam.classifier.checkpoint import TrainedFold
from mentallam.classifier.weights import BaseModel
from mentallam.config import Config
from mentallam.evaluation.calibration import Calibration
from mentallam.evaluation.decision import Decision, Thresholds
from tests.unit.classifier.builders import make_classifier

ORIGIN = {
    "run_id": "fold-run",
    "cv_run_id": "cv-run",
    "fold": 1,
    "seed": 43,
    "corpus": "synthetic sample",
    "synthetic": True,
    "data_hash": "ab" * 32,
    "mask": False,
}


DECISION = Decision(Calibration(0.9, -0.1), Thresholds(0.37))


def with_threshold(trained: TrainedFold, threshold: float) -> TrainedFold:
    """Return the fold with another threshold for all criteria."""
    return replace(trained, decision=replace(trained.decision, thresholds=Thresholds(threshold)))


def make_trained(base: BaseModel, config: Config) -> TrainedFold:
    """Return a fold as training saves it, with an adapter and a head that differ from their start."""
    model, prompter = make_classifier(base, config)
    head = model.base_model.model.score.modules_to_save["default"].weight
    torch.nn.init.normal_(head, std=0.3)
    return TrainedFold(model, prompter, config, base, DECISION, ORIGIN)
