"""Tests of the twin: ReDSM5's published size and marginals, and noise with a known ceiling."""

import csv
import json
import random
import re
import subprocess
import sys
import weakref
from collections.abc import Iterator
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import f1_score, precision_recall_fscore_support

from mentallam.corpus.groups import author_of
from mentallam.corpus.readers import read_corpus
from mentallam.corpus.synthetic import CorpusCounts, main, write
from mentallam.corpus.synthetic_corpus import SAMPLE, TWIN, SyntheticCorpus, generate, generate_times
from mentallam.corpus.synthetic_text import PhraseDeck
from mentallam.corpus.synthetic_truth import ceiling, plant_noise
from mentallam.corpus.texts import clean_text
from tests.unit.corpus.files import CRITERIA_FILE
from tests.unit.corpus.marginals import assert_meets, plain

SHA256 = {
    "redsm5_posts.csv": "e0114d53871b67a7",
    "redsm5_annotations.csv": "0d24306f298d1635",
    "twin_truth.csv": "93f5dbe53886c293",
    "twin_ceiling.json": "6003f96edf709020",
}

SMALL = replace(SAMPLE, exact_words=True, noise=0.2)


@pytest.fixture(scope="module")
def twin() -> SyntheticCorpus:
    return generate(TWIN, 42)


@pytest.fixture(scope="module")
def folder(twin: SyntheticCorpus, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("twin")
    write([twin], path, TWIN, "the command")
    return path


@pytest.mark.parametrize("seed", [42, 7])
def test_published_marginals_hold_whatever_the_seed(seed: int) -> None:
    corpus = generate(TWIN, seed)
    assert_meets(corpus, TWIN)
    for texts in ([text for _, text in corpus.posts], [clean_text(text)[0] for _, text in corpus.posts]):
        words = [len(text.split()) for text in texts]
        assert (min(words), max(words)) == (2, 6990)
        assert np.mean(words) == pytest.approx(294.7, rel=0.01)


def test_the_pipeline_sees_the_published_figures(folder: Path) -> None:
    corpus = read_corpus("redsm5", folder, CRITERIA_FILE)
    pairs = corpus.pairs
    assert (len(corpus.posts), len(pairs), pairs["label"].sum()) == (1484, 13356, 1292)
    assert (pairs.groupby("post_id")["label"].max() == 0).sum() == 392
    assert corpus.annotation_counts["special_case"] == 92


def test_shown_is_what_the_text_says(twin: SyntheticCorpus) -> None:
    deck = PhraseDeck(random.Random(0), None, narrative=True)
    texts = {post_id: plain(text) for post_id, text in twin.posts}
    for symptom, kinds in deck.symptoms.items():
        phrases = [re.escape(plain(phrase)) for phrase in kinds["evidence"] + kinds.get("opposite", [])]
        # Slots are filled with words, so any words match in place of a slot.
        spoken = re.compile("|".join(re.sub(r"\\\{\w+\\\}", r"[\\w ]+", phrase) for phrase in phrases))
        for post_id, name, shown, _ in twin.truth:
            assert name != symptom or bool(spoken.search(texts[post_id])) == bool(shown)


def test_an_invented_label_is_an_annotated_everyday_sentence(twin: SyntheticCorpus) -> None:
    deck = PhraseDeck(random.Random(0), None, narrative=True)
    meaningful = {plain(phrase) for kinds in deck.symptoms.values() for phrases in kinds.values() for phrase in phrases}
    truth = {row[:2]: row[2] for row in twin.truth}
    texts = dict(twin.posts)
    invented = [row for row in twin.annotations if row[4] == 1 and truth.get((row[0], row[3])) == 0]
    assert len(invented) == sum(round(TWIN.noise * count) for count in TWIN.positives.values())
    for post_id, _, sentence, *_ in invented:
        assert sentence in texts[post_id]
        assert plain(sentence) not in meaningful


def test_noise_is_drawn_by_the_seed_and_is_symmetric() -> None:
    labelled = [["FATIGUE"] if number < 40 else [] for number in range(100)]
    shown = plant_noise(labelled, 0.1, random.Random(1))
    assert shown == plant_noise(labelled, 0.1, random.Random(1)) != plant_noise(labelled, 0.1, random.Random(2))
    differing = [number for number in range(100) if shown[number] != labelled[number]]
    assert [sum(number < 40 for number in differing), len(differing)] == [4, 8]
    assert labelled == [["FATIGUE"] if number < 40 else [] for number in range(100)]


def test_without_noise_text_and_labels_agree_and_nothing_is_said_of_it(tmp_path: Path) -> None:
    corpus = generate(replace(SMALL, noise=0.0), 1)
    assert all(shown == label for _, _, shown, label in corpus.truth)
    write([corpus], tmp_path, SAMPLE, "the command")
    assert {path.name for path in tmp_path.iterdir()} == {"README.md", "redsm5_annotations.csv", "redsm5_posts.csv"}


def test_the_ceiling_is_what_scikit_learn_gives_a_perfect_reader(folder: Path) -> None:
    truth = pd.read_csv(folder / "twin_truth.csv")
    found = json.loads((folder / "twin_ceiling.json").read_text())
    assert found["noise"] == 0.05

    def expected(rows: pd.DataFrame) -> list[float]:
        scores = precision_recall_fscore_support(rows["label"], rows["shown"], average="binary")
        return [pytest.approx(score) for score in scores[:3]]

    def told(scores: dict[str, float]) -> list[float]:
        return [scores[name] for name in ("precision", "recall", "f1")]

    assert told(found["micro"]) == expected(truth)
    by_symptom = dict(list(truth.groupby("symptom")))
    assert set(by_symptom) == set(found["symptoms"]) == set(TWIN.positives)
    for symptom, rows in by_symptom.items():
        assert told(found["symptoms"][symptom]) == expected(rows)
        assert found["symptoms"][symptom]["positive"] == TWIN.positives[symptom]
    macro = np.mean([f1_score(rows["label"], rows["shown"]) for rows in by_symptom.values()])
    assert found["macro_f1"] == pytest.approx(macro)
    # A symptom with errors of only one kind, and a symptom that no post shows.
    uneven = ceiling({("A", 1, 1): 6, ("A", 1, 0): 2, ("A", 0, 0): 5, ("B", 0, 0): 13})
    assert told(uneven["symptoms"]["A"]) == [0.75, 1.0, pytest.approx(6 / 7)]
    assert told(uneven["symptoms"]["B"]) == [0.0, 0.0, 0.0]


def test_several_times_the_corpus_is_several_corpora_by_other_authors(tmp_path: Path) -> None:
    alive: list[weakref.ref[SyntheticCorpus]] = []

    def watched() -> Iterator[SyntheticCorpus]:
        for corpus in generate_times(SMALL, 5, 4):
            alive.append(weakref.ref(corpus))
            yield corpus
            # Written corpora are released: at most this one and the previous one are in memory.
            assert sum(kept() is not None for kept in alive) <= 2

    counts = write(watched(), tmp_path, SMALL, "the command")
    corpora = list(generate_times(SMALL, 5, 4))
    assert corpora[0] == generate(SMALL, 5)
    for name, part in (("redsm5_posts", "posts"), ("redsm5_annotations", "annotations"), ("twin_truth", "truth")):
        with (tmp_path / f"{name}.csv").open(encoding="utf-8", newline="") as file:
            written = list(csv.reader(file))[1:]
        assert written == [[str(value) for value in row] for corpus in corpora for row in getattr(corpus, part)]
    authors = [{post_id.split("_")[1] for post_id, _ in corpus.posts} for corpus in corpora]
    assert len(set.union(*authors)) == 4 * SMALL.n_authors
    assert len({text for corpus in corpora for _, text in corpus.posts}) > 3.9 * SMALL.n_posts
    assert counts.n_posts == 4 * SMALL.n_posts
    assert sum(n for (_, _, label), n in counts.pairs.items() if label) == 4 * sum(SMALL.positives.values())
    one_by_one = CorpusCounts()
    for corpus in corpora:
        one_by_one.add(corpus)
    assert one_by_one == counts


def test_the_twin_is_the_same_on_every_machine(tmp_path: Path) -> None:
    # A new process has other string hashes. The digests are Python 3.11's; 3.10, 3.12 and 3.13 wrote the same.
    command = [sys.executable, "-m", "mentallam.corpus.synthetic", "--corpus", "twin", "--out", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "1484 synthetic posts" in done.stdout
    found = {name: sha256((tmp_path / name).read_bytes()).hexdigest()[:16] for name in SHA256}
    assert found == SHA256
    readme = (tmp_path / "README.md").read_text()
    assert readme.startswith("SYNTHETIC")
    assert "--corpus twin --scale 1 --noise 0.05 --seed 42 --out FOLDER" in readme
    assert "noisy on purpose: 64 positive pairs" in readme


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--scale", "2"], "--scale changes nothing in the sample"),
        (["--noise", "0.1"], "--noise changes nothing in the sample"),
        (["--corpus", "twin", "--posts", "60"], "--posts changes nothing in the twin"),
        (["--corpus", "twin", "--authors", "60"], "--authors changes nothing in the twin"),
        (["--corpus", "twin", "--scale", "0"], "--scale must be at least 1"),
        (["--corpus", "twin", "--noise", "0.7"], "a noise of 0.7 is not possible"),
    ],
)
def test_options_that_do_not_fit_are_refused(
    arguments: list[str],
    sentence: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sys, "argv", ["synthetic", "--out", str(tmp_path / "new"), *arguments])
    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code != 0
    assert sentence in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


def test_posts_per_author_changes_who_wrote_what_and_keeps_the_marginals() -> None:
    spec = replace(TWIN, n_authors=round(TWIN.n_posts / 8), most_posts=None)
    corpus = generate(spec, 42)
    assert_meets(corpus, spec)
    posts = author_of(pd.Series([post_id for post_id, _ in corpus.posts])).value_counts()
    assert (len(posts), posts.sum()) == (186, 1484)
    # A geometric distribution of mean m has the standard deviation sqrt(m (m - 1)): 7.5.
    assert 6 < posts.std() < 9
    assert posts.min() == 1 and posts.max() > 25


def test_the_option_of_posts_per_author_is_in_the_readme_or_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(*options: str) -> None:
        monkeypatch.setattr(sys, "argv", ["synthetic", "--out", str(tmp_path), *options])
        main()

    run("--corpus", "twin", "--posts-per-author", "17.5")
    readme = (tmp_path / "README.md").read_text()
    assert "--posts-per-author 17.5 --seed 42" in readme and "1484 posts by 85 authors" in readme
    for options, words in (
        (("--corpus", "twin", "--posts-per-author", "0.5"), "--posts-per-author must be from 1 to 1484"),
        (("--posts-per-author", "2"), "--posts-per-author changes nothing in the sample"),
    ):
        with pytest.raises(SystemExit):
            run(*options)
        assert words in capsys.readouterr().err
