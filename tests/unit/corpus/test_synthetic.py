import random
import re
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mentallam.corpus.readers import Corpus, read_corpus
from mentallam.corpus.synthetic import main, write
from mentallam.corpus.synthetic_corpus import SAMPLE, CorpusSpec, generate
from mentallam.corpus.synthetic_text import HARD_NEGATIVES, PhraseDeck
from mentallam.errors import MentallamError
from tests.samples import SAMPLE as SAMPLE_FOLDER
from tests.unit.corpus.files import CRITERIA_FILE
from tests.unit.corpus.marginals import assert_meets, plain
from tests.unit.disks import files_end_at


def test_committed_files_are_what_the_generator_writes(tmp_path: Path) -> None:
    command = "python -m mentallam.corpus.synthetic --posts 60 --authors 45 --seed 42 --out FOLDER"
    write([generate(SAMPLE, 42)], tmp_path, SAMPLE, command)
    for name in ("redsm5_posts.csv", "redsm5_annotations.csv", "README.md"):
        assert (SAMPLE_FOLDER / name).read_bytes() == (tmp_path / name).read_bytes(), name
    assert {path.name for path in SAMPLE_FOLDER.iterdir()} == {path.name for path in tmp_path.iterdir()}


def test_a_corpus_that_cannot_be_written_leaves_the_old_files_whole(tmp_path: Path) -> None:
    write([generate(SAMPLE, 42)], tmp_path, SAMPLE, "command")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with files_end_at(8192), pytest.raises(MentallamError, match=r"\.csv can't be written \(File too large\)"):
        write([generate(SAMPLE, 43)], tmp_path, SAMPLE, "command")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    write([generate(SAMPLE, 43)], tmp_path, SAMPLE, "command")
    assert {path.name for path in tmp_path.iterdir()} == before.keys()


def test_readme_is_labelled_in_its_first_line() -> None:
    assert (SAMPLE_FOLDER / "README.md").read_text(encoding="utf-8").startswith("SYNTHETIC")


@pytest.mark.parametrize("seed", range(5))
def test_marginals_are_exact_for_every_seed(seed: int) -> None:
    assert_meets(generate(SAMPLE, seed), SAMPLE)


def test_the_seed_decides() -> None:
    assert generate(SAMPLE, 7) == generate(SAMPLE, 7)
    assert generate(SAMPLE, 7) != generate(SAMPLE, 8)


@st.composite
def specs(draw: st.DrawFn) -> CorpusSpec:
    n_posts = draw(st.integers(10, 60))
    without_symptom = draw(st.integers(0, n_posts // 2))
    with_symptom = n_posts - without_symptom
    counts = draw(st.lists(st.integers(0, with_symptom), min_size=9, max_size=9))
    counts[0] = with_symptom  # so that there is a symptom for every post
    return replace(
        SAMPLE,
        n_posts=n_posts,
        n_authors=draw(st.integers(-(-n_posts // 3), n_posts)),
        positives=dict(zip(SAMPLE.positives, counts, strict=True)),
        without_symptom=without_symptom,
        special_cases=draw(st.integers(0, n_posts)),
        hard_negatives=draw(st.integers(0, without_symptom)),
        exact_words=(exact_words := draw(st.booleans())),
        # A missed post has no label, so there must be enough posts without one.
        noise=draw(st.sampled_from([0.05, 0.4])) if exact_words and without_symptom > n_posts * 0.4 else 0.0,
    )


@settings(deadline=None, max_examples=30)
@given(specs(), st.integers(0, 99))
def test_any_possible_marginals_are_met(spec: CorpusSpec, seed: int) -> None:
    spec = replace(spec, positives={symptom: count for symptom, count in spec.positives.items() if count})
    assert_meets(generate(spec, seed), spec)


@pytest.mark.parametrize(
    "change",
    [
        {"n_authors": 65},
        {"n_authors": 19},
        {"n_authors": 0, "n_posts": 0},
        {"without_symptom": 65},
        {"without_symptom": -1},
        {"without_symptom": 54},
        {"without_symptom": 0, "positives": {"FATIGUE": 63}},
        {"special_cases": 65},
        {"hard_negatives": 65},
        {"noise": 0.1},
        {"noise": -0.1, "exact_words": True},
        {"noise": 0.6, "exact_words": True},
        {"noise": 0.5, "exact_words": True, "positives": {"FATIGUE": 46}},
    ],
)
def test_impossible_marginals_are_refused(change: dict[str, int]) -> None:
    with pytest.raises(MentallamError, match="not possible" if "noise" in change else "no corpus has"):
        replace(SAMPLE, **change)  # type: ignore[arg-type]


def test_scaled_keeps_proportions() -> None:
    twice = SAMPLE.scaled(120, 90)
    assert twice.positives["DEPRESSED_MOOD"] == 20
    assert twice.without_symptom == 28
    assert SAMPLE.scaled(60, 45) == SAMPLE
    assert_meets(generate(twice, 1), twice)


def test_sample_resembles_the_real_corpus(sample: Corpus) -> None:
    assert 0.095 <= sample.pairs["label"].mean() <= 0.115
    assert list(SAMPLE.positives.values()) == sorted(SAMPLE.positives.values(), reverse=True)
    assert 0.20 <= SAMPLE.without_symptom / SAMPLE.n_posts <= 0.26
    assert 0.05 <= SAMPLE.hard_negatives / SAMPLE.n_posts <= 0.10
    words = sample.posts["text"].str.split().str.len()
    assert 40 <= words.mean() <= 50
    assert words.between(12, 100).all()
    # Some pairs have several evidence sentences.
    assert sample.pairs["evidence"].str.contains(" ").sum() > 10


def test_sentences_are_numbered_by_their_place(sample: Corpus) -> None:
    corpus = generate(SAMPLE, 42)
    texts = dict(corpus.posts)
    places: dict[str, list[tuple[int, int]]] = {}
    for post_id, sentence_id, sentence, *_ in corpus.annotations:
        start, number = sentence_id.rsplit("_", 1)
        assert start == post_id
        assert sentence in texts[post_id]
        places.setdefault(post_id, []).append((int(number), texts[post_id].index(sentence)))
    assert all(found == sorted(found) for found in places.values())


def test_no_post_shows_too_little_and_too_much() -> None:
    symptoms = PhraseDeck(random.Random(0), None).symptoms
    opposites = {symptom: kinds for symptom, kinds in symptoms.items() if "opposite" in kinds}
    assert set(opposites) == {"APPETITE_CHANGE", "SLEEP_ISSUES", "PSYCHOMOTOR"}
    seen = set()
    for seed in range(3):
        sides: dict[tuple[str, str], set[str]] = {}
        for post_id, _, sentence, symptom, status, _ in generate(SAMPLE, seed).annotations:
            if status and symptom in opposites:
                typed = {
                    side: [plain(phrase) for phrase in opposites[symptom][side]] for side in ("evidence", "opposite")
                }
                found = [side for side, phrases in typed.items() if plain(sentence) in phrases]
                # A sentence with a filled slot is not found; only the lists of evidence have slots.
                sides.setdefault((post_id, symptom), set()).update(found or ["evidence"])
        assert all(len(found) == 1 for found in sides.values())
        seen.update(side for found in sides.values() for side in found)
    assert seen == {"evidence", "opposite"}


def test_sentences_recur_in_few_posts(sample: Corpus) -> None:
    in_posts = [set(re.split(r"(?<=[.?])\s+", plain(text))) for text in sample.posts["text"]]
    assert max(Counter(sentence for sentences in in_posts for sentence in sentences).values()) <= 5
    for text, sentences in zip(sample.posts["text"], in_posts, strict=True):
        assert len(re.split(r"(?<=[.?])\s+", plain(text))) == len(sentences)


def test_phrases_of_every_symptom_are_complete_and_distinct(sample: Corpus) -> None:
    deck = PhraseDeck(random.Random(0), None, narrative=True)
    assert set(deck.symptoms) == set(sample.criteria["symptom"]) == set(SAMPLE.positives)
    phrases = [phrase for kinds in deck.symptoms.values() for phrase in kinds["evidence"]]
    for kinds in deck.symptoms.values():
        assert set(kinds) - {"opposite"} == {"evidence", *HARD_NEGATIVES, "present", "absent"}
        phrases += kinds.get("opposite", [])
        phrases += [phrase for kind in HARD_NEGATIVES for phrase in kinds[kind]]
    phrases += [phrase for topic in deck.context["topics"].values() for phrase in topic]
    phrases += deck.context["closings"] + deck.context["special_case"]["evidence"]
    for n_words, padding in deck.context["padding"].items():
        assert all(len(phrase.split()) == n_words for phrase in padding)
        phrases += padding
    assert len(set(phrases)) == len(phrases)
    # One entry is one sentence; otherwise the numbers of sentences would be wrong.
    assert all(re.fullmatch(r"[^.?!]+[.?]", phrase) for phrase in phrases)
    slots = {slot for phrase in phrases for slot in re.findall(r"\{(\w+)\}", phrase)}
    assert slots == set(deck.context["slots"])


def test_command_writes_a_corpus_that_reads(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mentallam.corpus.synthetic", "--out", str(tmp_path / "new"), "--seed", "3"]
    done = subprocess.run([*command, "--posts", "32", "--authors", "20"], capture_output=True, text=True, check=True)
    assert "32 synthetic posts" in done.stdout
    corpus = read_corpus("redsm5", tmp_path / "new", CRITERIA_FILE)
    assert len(corpus.posts) == 32


def test_command_refuses_in_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["synthetic", "--out", str(tmp_path), "--posts", "60", "--authors", "2"])
    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code != 0
    assert "no corpus has 60 posts by 2 authors" in capsys.readouterr().err
