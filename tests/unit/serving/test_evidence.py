import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from mentallam.batch_files import BatchFiles, Format
from mentallam.classifier.checkpoint import TrainedFold
from mentallam.corpus.texts import clean_text
from mentallam.serving import batch
from mentallam.serving.batch import OutputOptions, predict_files
from mentallam.serving.evidence import MOST_NAMED, MOST_PARTS, find_evidence, split_sentences
from mentallam.serving.output_fields import OUTPUT_FIELDS
from mentallam.serving.posts import Post
from mentallam.serving.predictor import Predictor
from mentallam.serving.sources import Source
from tests.samples import SAMPLE
from tests.unit.trained_folds import with_threshold

POST = "I am tired.  We went &amp; ate.\n\u200b\nAwake all night, every night!"
SENTENCES = ["I am tired.", "We went &amp; ate.", "\u200b", "Awake all night, every night!"]


def cleaned(text: str) -> str:
    return clean_text(text)[0]


def everything(text: str) -> str:
    return text


def sentences(text: str) -> list[str]:
    return [text[span.start : span.end] for span in split_sentences(text)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        (" \n ", []),
        ("no stop at all", ["no stop at all"]),
        ("One. two? Three!", ["One.", "two?", "Three!"]),
        ('He said "go." (Really!) *No.* ok', ['He said "go."', "(Really!)", "*No.*", "ok"]),
        ("so tired... and sad\u2026 bye", ["so tired...", "and sad\u2026", "bye"]),
        ("Dr. Who, e.g. him, at 3.30 on a.b.com. Yes", ["Dr. Who, e.g. him, at 3.30 on a.b.com.", "Yes"]),
        ("first\r\nsecond\u2028third", ["first", "second", "third"]),
        ("1. sleep\n2. food", ["1. sleep", "2. food"]),
        (
            "\u7720\u308c\u306a\u3044\u3002\u75b2\u308c\u305f\uff01",
            ["\u7720\u308c\u306a\u3044\u3002", "\u75b2\u308c\u305f\uff01"],
        ),
        (POST, SENTENCES),
    ],
)
def test_sentences(text: str, expected: list[str]) -> None:
    assert sentences(text) == expected


@given(st.text(st.sampled_from('ab .!?"\n\u3002\u200b)1'), max_size=60))
def test_sentences_hold_every_visible_character_once_and_in_order(text: str) -> None:
    spans = split_sentences(text)
    assert [span.sentence for span in spans] == list(range(len(spans)))
    assert "".join("".join(sentences(text)).split()) == "".join(text.split())
    assert all(text[span.start : span.end].strip() == text[span.start : span.end] != "" for span in spans)
    assert all(left.end <= right.start for left, right in pairwise(spans))


def test_annotated_sentences_of_the_sample_are_found_whole() -> None:
    posts = pd.read_csv(SAMPLE / "redsm5_posts.csv", keep_default_na=False).set_index("post_id")["text"]
    annotated = pd.read_csv(SAMPLE / "redsm5_annotations.csv")
    found = [row.sentence_text in sentences(posts[row.post_id]) for row in annotated.itertuples()]
    assert np.mean(found) == 1


class Asked:
    """Answers with the number of certain words, and remembers what it was asked."""

    def __init__(self, *words: str) -> None:
        self.words, self.texts = words, list[str]()

    def __call__(self, texts: "list[str]") -> NDArray[np.float64]:
        self.texts += texts
        return np.array([[text.count(word) / 100 for word in self.words] for text in texts])


def test_each_sentence_is_left_out_once_and_the_largest_drops_are_named() -> None:
    ask = Asked("tired", "night", "absent")
    evidence = find_evidence(POST, cleaned, everything, ask)
    whole = "I am tired. We went & ate.\n\nAwake all night, every night!"
    assert whole == cleaned(POST)
    assert ask.texts == [
        whole,
        "We went & ate.\n\nAwake all night, every night!",
        "I am tired.\n\nAwake all night, every night!",
        "I am tired. We went & ate.",
    ]
    tired, night, absent = evidence
    assert tired == [{"sentence": 0, "start": 0, "end": 11, "drop": pytest.approx(0.01)}]
    assert [(found["sentence"], POST[found["start"] : found["end"]]) for found in night] == [(3, SENTENCES[3])]
    assert night[0]["drop"] == pytest.approx(0.02)
    assert absent == []


def test_the_best_come_first_and_are_few() -> None:
    text = "x. xxx. xx. no. xxxxx. xxxx."
    [evidence] = find_evidence(text, cleaned, everything, Asked("x"))
    assert [text[found["start"] : found["end"]] for found in evidence] == ["xxxxx.", "xxxx.", "xxx."]
    assert len(evidence) == MOST_NAMED
    assert [found["drop"] for found in evidence] == pytest.approx([0.05, 0.04, 0.03])


def test_only_the_part_that_is_read_is_taken_apart() -> None:
    ask = Asked("x")
    [evidence] = find_evidence("a x. b x. c x. d x.", cleaned, lambda text: text[:8], ask)
    assert ask.texts == ["a x. b x", "b x", "a x."]
    assert [found["sentence"] for found in evidence] == [0, 1]


def test_a_post_of_very_many_sentences_is_taken_apart_into_runs() -> None:
    ask, text = Asked("x"), "x. " * (3 * MOST_PARTS - 2)
    [evidence] = find_evidence(text, cleaned, everything, ask)
    assert len(ask.texts) == MOST_PARTS + 1
    assert evidence[0] == {"sentence": 0, "start": 0, "end": 8, "drop": pytest.approx(0.03)}


def test_the_part_that_is_read_is_what_the_tokens_hold(trained: TrainedFold) -> None:
    prompter = trained.prompter
    for text in ("short", "We went to the lake \u2014 and I ate. \U0001f622 " * 200):
        part = prompter.part_read(text)
        assert text.startswith(part)
        example = prompter.example("p", text)
        assert example.truncated == (part != text)
        assert prompter.example("p", part).prefix == example.prefix


def saved(trained: TrainedFold) -> Predictor:
    """Return a predictor that answers some of the sample's pairs with yes, others with no."""
    return Predictor([with_threshold(trained, 0.5)], tokens_per_pass=800)


def test_evidence_is_the_drop_of_the_answers_own_probability(trained: TrainedFold) -> None:
    other = replace(trained, origin={**trained.origin, "fold": 2}, decision=replace(trained.decision))
    predictor = Predictor([with_threshold(trained, 0.0), with_threshold(other, 0.0)], tokens_per_pass=800)
    answers = predictor.predict([Post("p", POST), Post("q", "One sentence.", ("A.6",))], explain=True)
    plain = predictor.predict([Post("p", POST)])
    assert list(answers) == [field.name for field in OUTPUT_FIELDS]
    assert "evidence" not in plain
    places = [POST.index(sentence) for sentence in SENTENCES]
    for row, criterion in enumerate(plain["criterion_id"]):
        assert answers["label"][row] == "yes"
        for found in answers["evidence"][row]:
            sentence = SENTENCES[found["sentence"]]
            assert (found["start"], found["end"]) == (
                places[found["sentence"]],
                places[found["sentence"]] + len(sentence),
            )
            without = predictor.predict([Post("r", POST.replace(sentence, ""), (criterion,))])["probability"][0]
            assert found["drop"] == pytest.approx(plain["probability"][row] - without, abs=1e-6)
    assert any(answers["evidence"][:3])
    assert all(found["sentence"] == 0 for found in answers["evidence"][3])


def test_a_no_has_no_evidence(trained: TrainedFold) -> None:
    predictor = Predictor([with_threshold(trained, 1.0)], tokens_per_pass=800)
    answers = predictor.predict([Post("p", POST)], explain=True)
    assert answers["evidence"] == [[], [], []]


def test_batches_hold_evidence_in_both_formats_and_never_the_text(trained: TrainedFold, tmp_path: Path) -> None:
    posts = tmp_path / "posts.jsonl"
    posts.write_text(
        "".join(json.dumps({"post_id": f"p{number}", "text": POST * (number + 1)}) + "\n" for number in range(3))
    )
    forms: tuple[Format, ...] = ("jsonl", "parquet")
    for form in forms:
        options = OutputOptions(BatchFiles(tmp_path / form, form), explain=True)
        predict_files(saved(trained), [Source(posts)], options, {})
    rows = [json.loads(line) for line in (tmp_path / "jsonl/predictions.jsonl").read_text().splitlines()]
    assert pq.read_table(tmp_path / "parquet/predictions.parquet").to_pylist() == rows
    assert any(row["evidence"] for row in rows)
    assert all((row["label"] == "yes") or not row["evidence"] for row in rows)
    assert "tired" not in (tmp_path / "jsonl/predictions.jsonl").read_text()


def test_an_interrupted_batch_with_evidence_ends_in_the_same_bytes(
    trained: TrainedFold, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch, "ROWS_PER_BLOCK", 2)
    posts = tmp_path / "posts.txt"
    posts.write_text("".join(f"I am tired. Night {number}. We ate.\n" for number in range(5)))
    predictor = saved(trained)

    def run(folder: str) -> str:
        predict_files(predictor, [Source(posts)], OutputOptions(BatchFiles(tmp_path / folder), explain=True), {})
        return (tmp_path / folder / "predictions.jsonl").read_text()

    expected = run("whole")
    blocks = iter([None, KeyboardInterrupt])

    def interrupted() -> None:
        if error := next(blocks, None):
            raise error

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(batch, "stop_if_requested", interrupted)
        run("broken")
    assert run("broken") == expected


def test_a_batch_that_is_continued_with_explain_begins_anew(
    trained: TrainedFold, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch, "ROWS_PER_BLOCK", 1)
    posts = tmp_path / "posts.txt"
    posts.write_text("I am tired.\nWe ate.\n")

    def interrupted() -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(batch, "stop_if_requested", interrupted)
        predict_files(saved(trained), [Source(posts)], OutputOptions(BatchFiles(tmp_path / "out")), {})
    predict_files(saved(trained), [Source(posts)], OutputOptions(BatchFiles(tmp_path / "out"), explain=True), {})
    rows = [json.loads(line) for line in (tmp_path / "out/predictions.jsonl").read_text().splitlines()]
    assert len(rows) == 6
    assert all("evidence" in row for row in rows)
