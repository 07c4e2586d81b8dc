import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from mentallam.classifier.checkpoint import TrainedFold, save_checkpoint
from mentallam.classifier.scoring import score_pairs
from mentallam.config import Config
from mentallam.errors import MentallamError
from mentallam.evaluation.calibration import Calibration
from mentallam.evaluation.decision import Decision, Thresholds
from mentallam.serving.predictor import Predictor
from tests.conftest import CRITERIA
from tests.unit.conftest import with_threshold

SECRET = "Marzipan lighthouse"
COLUMNS = ["post_id", "criterion_id", "label", "probability", "threshold", "run_id"]


@pytest.fixture
def predictor(trained: TrainedFold) -> Predictor:
    return Predictor(trained, tokens_per_pass=400)


def posts(*rows: tuple[str, str, str | None]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["post_id", "text", "criterion_id"], dtype=object)


def asked(predictions: pd.DataFrame) -> list[tuple[str, str]]:
    return list(zip(predictions["post_id"], predictions["criterion_id"], strict=True))


def test_all_criteria_are_asked_unless_some_are_named(predictor: Predictor) -> None:
    predictions = predictor.predict(
        posts(
            ("b", "One post.", None),
            ("a", "Another.", "A.6"),
            ("c", "A third.", "A.6"),
            ("c", "A third.", "A.1"),
        )
    )
    assert asked(predictions) == [("b", "A.1"), ("b", "A.4"), ("b", "A.6"), ("a", "A.6"), ("c", "A.6"), ("c", "A.1")]
    assert predictor.criteria == CRITERIA


def test_a_post_that_occurs_twice_is_answered_once(predictor: Predictor) -> None:
    predictions = predictor.predict(
        posts(("a", "x", "A.4"), ("b", "y", "A.1"), ("a", "x", "A.4"), ("a", "x", "A.6"), ("b", "y", None))
    )
    assert asked(predictions) == [("a", "A.4"), ("a", "A.6"), ("b", "A.1"), ("b", "A.4"), ("b", "A.6")]


def test_each_answer_belongs_to_its_pair(predictor: Predictor, trained: TrainedFold) -> None:
    texts = {"a": "I am tired.", "b": "We went to the lake, " * 9, "c": "Awake, awake."}
    together = predictor.predict(posts(*((post_id, text, None) for post_id, text in texts.items())))
    assert together["probability"].nunique() == len(together) == 9
    for row in together.itertuples():
        alone = predictor.predict(posts((row.post_id, texts[row.post_id], row.criterion_id)))
        assert alone["probability"].tolist() == pytest.approx([row.probability], abs=1e-6)
        example = trained.prompter.example("x", texts[row.post_id].strip(), [row.criterion_id])
        logit = score_pairs(trained.model, [example], 1)[0]
        assert row.probability == pytest.approx(1 / (1 + np.exp(-(0.9 * logit - 0.1))), abs=1e-6)


def test_posts_are_masked_if_the_training_posts_were(trained: TrainedFold) -> None:
    written, shown = posts(("a", "Ask me@example.com why.", None)), posts(("a", "Ask [EMAIL] why.", None))
    masking = Predictor(replace(trained, origin={**trained.origin, "mask": True}), 2)
    assert masking.predict(written).equals(masking.predict(shown))
    assert not Predictor(trained, 2).predict(written).equals(masking.predict(written))


def test_the_answer_is_yes_from_the_threshold_on(trained: TrainedFold) -> None:
    post = posts(("a", "I am tired.", None), ("b", "Not me.", None))
    middle = float(np.sort(Predictor(trained, 4).predict(post)["probability"])[3])
    predictions = Predictor(with_threshold(trained, middle), 4).predict(post)
    expected = np.where(predictions["probability"] >= middle, "yes", "no")
    assert predictions["label"].tolist() == expected.tolist()
    assert predictions["label"].value_counts().to_dict() == {"yes": 3, "no": 3}
    assert set(predictions["threshold"]) == {middle}


def test_criteria_may_have_thresholds_of_their_own_and_one_may_replace_them(trained: TrainedFold) -> None:
    post, (first, *others) = posts(("a", "I am tired.", None)), CRITERIA
    own = replace(trained, decision=Decision(Calibration(), Thresholds(0.99, {first: 0.0})))
    answers = Predictor(own, 4).predict(post).set_index("criterion_id")
    assert answers["label"].to_dict() == {first: "yes", **dict.fromkeys(others, "no")}
    replaced = Predictor(own, 4, threshold=0.0).predict(post)
    assert set(replaced["label"]) == {"yes"}
    assert set(replaced["threshold"]) == {0.0}


def test_neither_answer_nor_log_holds_the_text(predictor: Predictor, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        predictions = predictor.predict(posts(("a", f"{SECRET} " * 600, None)), progress="predict")
    assert list(predictions.columns) == COLUMNS
    assert set(predictions["run_id"]) == {"fold-run"}
    assert "arzipan" not in predictions.to_json() + caplog.text


def test_text_is_cleaned_as_in_training(predictor: Predictor) -> None:
    raw, clean = "I\u200b am&nbsp;tired &amp; sad\r\n\r\n", "I am tired & sad"
    probabilities = [predictor.predict(posts(("a", text, None)))["probability"].tolist() for text in (raw, clean)]
    assert probabilities[0] == probabilities[1]


def test_an_unknown_criterion_is_named_and_the_text_is_not(predictor: Predictor) -> None:
    with pytest.raises(MentallamError, match=r"unknown criterion A\.99; this model knows A\.1, A\.4, A\.6") as error:
        predictor.predict(posts(("a", "fine", None), ("b", SECRET, "A.99")))
    assert "arzipan" not in error.value.message


def test_it_is_loaded_from_a_checkpoint(trained: TrainedFold, tmp_path: Path, tiny_config: Config) -> None:
    save_checkpoint(trained, tmp_path / "fold_1")
    post = posts(("a", "I am tired.", None))
    expected = Predictor(trained, 1).predict(post)
    for changes in ({}, {"merge_adapter": True}):
        config = replace(tiny_config.inference, **changes)
        loaded = Predictor.load([tmp_path / "fold_1"], Path(trained.base.folder).parent, config)
        pd.testing.assert_frame_equal(loaded.predict(post), expected, atol=1e-5)


def test_a_folder_without_a_checkpoint_is_one_sentence(tmp_path: Path, tiny_config: Config) -> None:
    with pytest.raises(MentallamError, match="holds no complete checkpoint"):
        Predictor.load([tmp_path], tmp_path, tiny_config.inference)


def test_tokens_per_pass_change_nothing_but_speed(trained: TrainedFold) -> None:
    many = posts(*((str(number), f"Post {number}. " * (1 + 5 * number), None) for number in range(5)))
    results: list[Any] = [Predictor(trained, size).predict(many) for size in (1, 400, 10_000)]
    for other in results[1:]:
        pd.testing.assert_frame_equal(other, results[0], atol=1e-6)
