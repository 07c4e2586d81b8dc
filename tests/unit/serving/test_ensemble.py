from dataclasses import replace
from pathlib import Path
from typing import cast

import pandas as pd
import pytest

from mentallam.classifier.checkpoint import TrainedFold, save_checkpoint
from mentallam.config import Config
from mentallam.serving.ensemble import Ensemble, load_ensemble
from mentallam.serving.predictor import Predictor


class Fixed:
    """A fold that gives the same answer to every post."""

    def __init__(self, probabilities: list[float], thresholds: list[float]) -> None:
        self._answer = {"probability": probabilities, "threshold": thresholds}

    def predict(self, posts: pd.DataFrame) -> pd.DataFrame:
        criteria = [f"A.{number}" for number in range(1, 1 + len(self._answer["probability"]))]
        labels = ["no"] * len(criteria)
        return pd.DataFrame({"post_id": "a", "criterion_id": criteria, "label": labels, **self._answer, "run_id": "x"})


def test_the_answer_is_the_mean_against_the_mean_threshold() -> None:
    members = [Fixed([0.1, 0.9, 0.25], [0.2, 0.6, 0.5]), Fixed([0.3, 0.1, 0.75], [0.4, 0.4, 0.5])]
    answer = Ensemble(cast(list[Predictor], members)).predict(pd.DataFrame())
    assert list(answer.columns) == ["post_id", "criterion_id", "label", "probability", "threshold"]
    assert answer["probability"].tolist() == pytest.approx([0.2, 0.5, 0.5])
    assert answer["threshold"].tolist() == pytest.approx([0.3, 0.5, 0.5])
    assert answer["label"].tolist() == ["no", "yes", "yes"]


def test_one_fold_answers_as_it_does_alone() -> None:
    fold = Fixed([0.3, 0.1 + 0.2], [0.3, 0.1 + 0.2])
    answer = Ensemble(cast(list[Predictor], [fold])).predict(pd.DataFrame())
    alone = fold.predict(pd.DataFrame())
    for column in ("probability", "threshold"):
        assert answer[column].tolist() == alone[column].tolist()
    assert answer["label"].tolist() == ["yes", "yes"]


@pytest.mark.parametrize("merge", [False, True])
def test_the_base_model_is_held_once_unless_adapters_are_merged_into_it(
    trained: TrainedFold, tiny_config: Config, tmp_path: Path, merge: bool
) -> None:
    folders = [tmp_path / "fold_0", tmp_path / "fold_1"]
    for folder in folders:
        save_checkpoint(trained, folder)
    config = replace(tiny_config.inference, merge_adapter=merge)
    ensemble = load_ensemble(folders, Path(trained.base.folder).parent, config)
    one, two = (dict(member._trained.model.named_parameters()) for member in ensemble._members)
    same = {name for name in one if one[name].data_ptr() == two[name].data_ptr()}
    trained_parts = {name for name in one if "lora_" in name or ".score." in name}
    assert trained_parts
    merged = {name for name in one if ".base_layer." in name} if merge else set()
    assert same == one.keys() - trained_parts - merged
    assert bool(merged) == merge
