import json
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit, logit

from mentallam.classifier.checkpoint import TrainedFold, save_checkpoint
from mentallam.classifier.prompts import Prompter
from mentallam.classifier.scoring import score_pairs
from mentallam.config import Config, PromptConfig
from mentallam.errors import MentallamError
from mentallam.evaluation.calibration import Calibration
from mentallam.evaluation.decision import Decision, Thresholds
from mentallam.serving.output_fields import TRAINED, UNTRAINED, fields_with
from mentallam.serving.posts import Post, RowError, join_rows
from mentallam.serving.predictor import Predictor
from tests.samples import CRITERIA
from tests.unit.trained_folds import with_threshold

SECRET = "Marzipan lighthouse"


@pytest.fixture
def predictor(trained: TrainedFold) -> Predictor:
    return Predictor([trained], tokens_per_pass=400)


def posts(*rows: tuple[str, str, str | None]) -> list[Post]:
    joined, refused = join_rows({n: Post(i, text, c and (c,)) for n, (i, text, c) in enumerate(rows)})
    assert not refused
    return joined


def answers(predictor: Predictor, posts: list[Post]) -> pd.DataFrame:
    return pd.DataFrame(predictor.predict(posts))


def asked(predictions: pd.DataFrame) -> list[tuple[str, str]]:
    return list(zip(predictions["post_id"], predictions["criterion_id"], strict=True))


def test_all_criteria_are_asked_unless_some_are_named(predictor: Predictor) -> None:
    predictions = answers(
        predictor,
        posts(
            ("b", "One post.", None),
            ("a", "Another.", "A.6"),
            ("c", "A third.", "A.6"),
            ("c", "A third.", "A.1"),
        ),
    )
    assert asked(predictions) == [("b", "A.1"), ("b", "A.4"), ("b", "A.6"), ("a", "A.6"), ("c", "A.6"), ("c", "A.1")]
    assert predictor.criteria == CRITERIA


def test_a_post_that_occurs_twice_is_answered_once(predictor: Predictor) -> None:
    predictions = answers(
        predictor, posts(("a", "x", "A.4"), ("b", "y", "A.1"), ("a", "x", "A.4"), ("a", "x", "A.6"), ("b", "y", None))
    )
    assert asked(predictions) == [("a", "A.4"), ("a", "A.6"), ("b", "A.1"), ("b", "A.4"), ("b", "A.6")]


def test_each_answer_belongs_to_its_pair(predictor: Predictor, trained: TrainedFold) -> None:
    texts = {"a": "I am tired.", "b": "We went to the lake, " * 9, "c": "Awake, awake."}
    together = answers(predictor, posts(*((post_id, text, None) for post_id, text in texts.items())))
    assert together["probability"].nunique() == len(together) == 9
    for row in together.itertuples():
        alone = answers(predictor, posts((row.post_id, texts[row.post_id], row.criterion_id)))
        assert alone["probability"].tolist() == pytest.approx([row.probability], abs=1e-6)
        example = trained.prompter.example("x", texts[row.post_id].strip(), [row.criterion_id])
        logit = score_pairs(trained.model, [example], 1)[0]
        assert row.probability == pytest.approx(1 / (1 + np.exp(-(0.9 * logit - 0.1))), abs=1e-6)


def test_posts_are_masked_if_the_training_posts_were(trained: TrainedFold) -> None:
    written, shown = posts(("a", "Ask me@example.com why.", None)), posts(("a", "Ask [EMAIL] why.", None))
    masking = Predictor([replace(trained, origin={**trained.origin, "mask": True})], 2)
    assert answers(masking, written).equals(answers(masking, shown))
    assert not answers(Predictor([trained], 2), written).equals(answers(masking, written))


def test_the_answer_is_yes_from_the_threshold_on(trained: TrainedFold) -> None:
    post = posts(("a", "I am tired.", None), ("b", "Not me.", None))
    middle = float(np.sort(answers(Predictor([trained], 4), post)["probability"])[3])
    predictions = answers(Predictor([with_threshold(trained, middle)], 4), post)
    expected = np.where(predictions["probability"] >= middle, "yes", "no")
    assert predictions["label"].tolist() == expected.tolist()
    assert predictions["label"].value_counts().to_dict() == {"yes": 3, "no": 3}
    assert set(predictions["threshold"]) == {middle}


def test_criteria_may_have_thresholds_of_their_own_and_one_may_replace_them(trained: TrainedFold) -> None:
    post, (first, *others) = posts(("a", "I am tired.", None)), CRITERIA
    fold = replace(trained, decision=Decision(Calibration(1.0, -5.0), Thresholds(0.99, {first: 0.0})))
    found = answers(Predictor([fold], 4), post).set_index("criterion_id")
    assert found["label"].to_dict() == {first: "yes", **dict.fromkeys(others, "no")}
    replaced = answers(Predictor([fold], 4, threshold=0.0), post)
    assert set(replaced["label"]) == {"yes"}
    assert set(replaced["threshold"]) == {0.0}


def test_neither_answer_nor_log_holds_the_text(predictor: Predictor, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        predictions = answers(predictor, posts(("a", f"{SECRET} " * 600, None)))
    assert list(predictions.columns) == [field.name for field in fields_with(explain=False)]
    assert set(predictions["run_id"]) == {"fold-run"}
    assert "arzipan" not in predictions.to_json() + caplog.text


def test_text_is_cleaned_as_in_training(predictor: Predictor) -> None:
    raw, clean = "I\u200b am&nbsp;tired &amp; sad\r\n\r\n", "I am tired & sad"
    probabilities = [answers(predictor, posts(("a", text, None)))["probability"].tolist() for text in (raw, clean)]
    assert probabilities[0] == probabilities[1]


def test_an_unknown_criterion_is_named_and_the_text_is_not(predictor: Predictor) -> None:
    words = r"post 'b': unknown criterion A\.99; this model knows A\.1, A\.4, A\.6; another wording is asked with"
    with pytest.raises(MentallamError, match=words) as error:
        answers(predictor, posts(("a", "fine", None), ("b", SECRET, "A.99")))
    assert "arzipan" not in error.value.message


def test_it_is_loaded_from_a_checkpoint(trained: TrainedFold, tmp_path: Path, tiny_config: Config) -> None:
    save_checkpoint(trained, tmp_path / "fold_1")
    post = posts(("a", "I am tired.", None))
    expected = answers(Predictor([trained], 1), post)
    for changes in ({"merge_adapter": False}, {"merge_adapter": True, "keep_merged": False}):
        config = replace(tiny_config.inference, **changes)
        loaded = Predictor.load([tmp_path / "fold_1"], Path(trained.base.folder).parent, config)
        pd.testing.assert_frame_equal(answers(loaded, post), expected, atol=1e-5)


def test_a_folder_without_a_checkpoint_is_one_sentence(tmp_path: Path, tiny_config: Config) -> None:
    with pytest.raises(MentallamError, match="holds no complete checkpoint"):
        Predictor.load([tmp_path], tmp_path, tiny_config.inference)


def test_tokens_per_pass_change_nothing_but_speed(trained: TrainedFold) -> None:
    many = posts(*((str(number), f"Post {number}. " * (1 + 5 * number), None) for number in range(5)))
    results: list[Any] = [answers(Predictor([trained], size), many) for size in (1, 400, 10_000)]
    for other in results[1:]:
        pd.testing.assert_frame_equal(other, results[0], atol=1e-6)


def shifted(trained: TrainedFold, intercept: float, threshold: float, fold: int = 3) -> TrainedFold:
    """Return another fold of the same cross-validation with other probabilities and another threshold."""
    decision = Decision(Calibration(0.5, intercept), Thresholds(threshold))
    return replace(trained, decision=decision, origin={**trained.origin, "fold": fold, "run_id": "other-run"})


def test_several_folds_answer_with_the_mean_against_the_mean_threshold(trained: TrainedFold) -> None:
    post = posts(("a", "I am tired.", None), ("b", "Not me.", "A.4"))
    folds = [trained, shifted(trained, -5.0, 0.61)]
    one, two = (answers(Predictor([fold], 400), post) for fold in folds)
    together = answers(Predictor(folds, 400), post)
    assert list(together.columns) == [field.name for field in fields_with(explain=False)]
    mean = expit((logit(one["probability"]) + logit(two["probability"])) / 2)
    assert (one["probability"] - two["probability"]).abs().min() > 0.05
    np.testing.assert_allclose(together["probability"], mean, rtol=1e-9)
    assert set(together["threshold"]) == {(0.37 + 0.61) / 2}
    assert together["label"].tolist() == ["yes" if value >= 0.49 else "no" for value in mean]
    assert set(together["run_id"]) == {"cv-run"}


def test_the_mean_of_several_folds_is_calibrated_and_one_fold_is_not(trained: TrainedFold) -> None:
    post, folds, calibration = posts(("a", "I am tired.", None)), [trained, shifted(trained, -5.0, 0.61)], (2.0, 0.5)
    plain, calibrated = (
        answers(Predictor(folds, 400, ensemble=ensemble), post) for ensemble in (None, Calibration(*calibration))
    )
    expected = expit(2.0 * logit(plain["probability"]) + 0.5)
    np.testing.assert_allclose(calibrated["probability"], expected, rtol=1e-9)
    assert calibrated["threshold"].tolist() == plain["threshold"].tolist()
    alone = answers(Predictor([trained], 400), post)["probability"]
    logits = score_pairs(trained.model, [trained.prompter.example("a", "I am tired.", list(CRITERIA))], 400)
    assert alone.tolist() == trained.decision.calibration.probabilities(logits).tolist()


def test_several_folds_read_each_post_once(trained: TrainedFold, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    tokenize = trained.prompter.example

    def counting(post_id: str, *rest: Any) -> Any:
        read.append(post_id)
        return tokenize(post_id, *rest)

    monkeypatch.setattr(trained.prompter, "example", counting)
    answers(Predictor([trained, shifted(trained, 0, 0.5), shifted(trained, 1, 0.5, 4)], 400), posts(("a", "x", None)))
    assert read == ["a"]


def other(trained: TrainedFold, part: str) -> TrainedFold:
    """Return a fold that differs in one fact that folds must share."""
    config, prompter = trained.config, trained.prompter
    prompt = PromptConfig("text: {post} ", " {criterion}?")
    changes: dict[str, dict[str, Any]] = {
        "masking": {"origin": {**trained.origin, "fold": 3, "mask": True}},
        "data": {"origin": {**trained.origin, "fold": 3, "data_hash": "cd" * 32}},
        "cross-validation": {"origin": {**trained.origin, "fold": 3, "cv_run_id": "another"}},
        "prompt": {"config": replace(config, model=replace(config.model, prompt=prompt))},
        "max_length": {"config": replace(config, model=replace(config.model, max_length=256))},
        "decision": {"config": replace(config, decision=replace(config.decision, calibration="none"))},
        "base model": {"base": replace(trained.base, fingerprint="ef" * 32)},
        "criteria": {"prompter": Prompter(prompter.tokenizer, config.model.prompt, {"A.1": CRITERIA["A.1"]}, 512)},
    }
    return replace(shifted(trained, 0, 0.5), **changes[part])


@pytest.mark.parametrize(
    "part",
    ["masking", "data", "cross-validation", "prompt", "max_length", "decision", "base model", "criteria"],
)
def test_folds_that_do_not_fit_together_are_refused(trained: TrainedFold, part: str) -> None:
    words = f"the folds 1 and 3 can't answer together, since they differ in {part}; take the folds of one"
    with pytest.raises(MentallamError, match=words):
        Predictor([trained, other(trained, part)], 400)


@pytest.mark.parametrize("merge", [False, True])
def test_the_base_model_is_held_once_unless_adapters_are_merged_into_it(
    trained: TrainedFold, tiny_config: Config, tmp_path: Path, merge: bool
) -> None:
    folders = [tmp_path / "fold_0", tmp_path / "fold_1"]
    for folder in folders:
        save_checkpoint(trained, folder)
    config = replace(tiny_config.inference, merge_adapter=merge, keep_merged=False)
    predictor = Predictor.load(folders, Path(trained.base.folder).parent, config)
    one, two = (dict(fold.model.named_parameters()) for fold in predictor._folds)
    same = {name for name in one if one[name].data_ptr() == two[name].data_ptr()}
    trained_parts = {name for name in one if "lora_" in name or ".score." in name}
    assert trained_parts
    merged = {name for name in one if ".base_layer." in name} if merge else set()
    assert same == one.keys() - trained_parts - merged
    assert bool(merged) == merge


OWN = {"S.1": "The author feels alone.", "S.2": CRITERIA["A.4"]}


def test_criteria_of_the_users_own_are_asked_in_place_of_the_models_and_marked(trained: TrainedFold) -> None:
    fold = replace(trained, decision=Decision(Calibration(0.9, -0.1), Thresholds(0.37, {"A.4": 0.2})))
    own, models = Predictor([fold], 400, own_criteria=OWN), Predictor([fold], 400)
    found = answers(own, posts(("a", "I am tired.", None))).set_index("criterion_id")
    # A wording that the model knows is the trained criterion, with its threshold; the other has the common one.
    assert found["wording"].to_dict() == {"A.4": TRAINED, "S.1": UNTRAINED}
    assert found["threshold"].to_dict() == {"A.4": 0.2, "S.1": 0.37}
    known = answers(models, posts(("a", "I am tired.", "A.4")))
    assert found["probability"]["A.4"] == pytest.approx(known["probability"][0], abs=1e-6)
    assert own.criteria == {"S.1": OWN["S.1"], "A.4": OWN["S.2"]}
    asked_otherwise = answers(
        Predictor([fold], 400, own_criteria={"S.1": "Something else."}), posts(("a", "I am tired.", None))
    )
    assert asked_otherwise["probability"][0] != found["probability"]["S.1"]


def test_a_loaded_model_asks_other_criteria_with_the_same_calibration_and_threshold(trained: TrainedFold) -> None:
    ensemble = Calibration(2.0, 0.5)
    two, rows = [trained, replace(trained)], posts(("a", "I am tired.", None))
    asking = Predictor(two, 400, 0.3, ensemble=ensemble).asking(OWN)
    pd.testing.assert_frame_equal(
        answers(asking, rows), answers(Predictor(two, 400, 0.3, own_criteria=OWN, ensemble=ensemble), rows)
    )
    assert asking.criteria == Predictor(two, 400, own_criteria=OWN).criteria
    assert asking.asking({}).criteria == CRITERIA


def test_an_own_criterion_may_take_the_id_of_a_trained_one(trained: TrainedFold) -> None:
    predictor = Predictor([trained], 400, own_criteria={"A.4": "The author feels alone."})
    found = answers(predictor, posts(("a", "I am tired.", "A.4"), ("b", "Me.", "A.1")))
    assert found["wording"].tolist() == [UNTRAINED, TRAINED]
    with pytest.raises(RowError, match="unknown criterion"):  # the wording that is no longer asked has no id
        predictor.prepare(Post("c", "Me.", (CRITERIA["A.4"],)))


def test_a_criterion_may_be_named_by_its_wording(predictor: Predictor) -> None:
    by_wording, by_id = (answers(predictor, posts(("a", "Me.", name))) for name in (CRITERIA["A.4"], "A.4"))
    pd.testing.assert_frame_equal(by_wording, by_id)


@pytest.mark.parametrize("text", ["", " \n", "\u200b\ufeff", "\x07"])
def test_a_text_without_a_visible_character_is_refused(predictor: Predictor, text: str) -> None:
    with pytest.raises(RowError, match="the text is empty"):
        predictor.prepare(Post("a", text))


def test_a_cut_post_says_so(predictor: Predictor) -> None:
    found = answers(predictor, posts(("a", "word " * 600, None), ("b", "word", None)))
    assert found.groupby("post_id")["truncated"].agg(["all", "any"]).to_dict("index") == {
        "a": {"all": True, "any": True},
        "b": {"all": False, "any": False},
    }


def test_what_decides_the_answers_is_in_the_fingerprint(trained: TrainedFold, tiny_config: Config) -> None:
    config = tiny_config.inference
    prints = [
        Predictor([trained], 4).fingerprint(config),
        Predictor([trained], 4, own_criteria=OWN).fingerprint(config),
        Predictor([trained], 4).fingerprint(replace(config, threshold=0.4)),
        Predictor([shifted(trained, 0, 0.5)], 4).fingerprint(config),
        Predictor([trained], 4, ensemble=Calibration(2.0)).fingerprint(config),
    ]
    assert len({json.dumps(one, sort_keys=True) for one in prints}) == len(prints)


def test_other_weights_of_the_same_run_change_the_fingerprint(
    trained: TrainedFold, tiny_config: Config, tmp_path: Path
) -> None:
    prints = []
    for name, fold in (("one", trained), ("two", with_threshold(trained, 0.9))):
        save_checkpoint(fold, tmp_path / name)
        prints.append(Predictor([replace(fold, folder=tmp_path / name)], 4).fingerprint(tiny_config.inference)["files"])
    assert prints[0] != prints[1] and None not in prints[0]


def test_each_criterion_is_asked_once_and_none_is_lost(trained: TrainedFold) -> None:
    twice = {
        "S.1": "The author feels alone.",
        "S.2": "The author feels alone.",
        "S.3": CRITERIA["A.4"],
        "S.4": CRITERIA["A.4"],
    }
    found = answers(Predictor([trained], 1, own_criteria=twice), posts(("a", "Me.", None)))
    assert sorted(found["criterion_id"]) == ["A.4", "S.1", "S.2"]
