"""Compose a synthetic corpus in ReDSM5's file schema, with exact marginals and deterministic by seed.

Every sentence comes from the phrase files beside this module, which were invented for this project. The
committed sample is written by::

    python -m mentallam.corpus.synthetic --out data/01_raw/sample
"""

from __future__ import annotations

import argparse
import csv
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.resources import files
from math import exp, log
from pathlib import Path
from random import Random
from statistics import NormalDist, mean
from typing import Any

import yaml

from mentallam.corpus.readers import ANNOTATION_COLUMNS, POST_COLUMNS, SPECIAL_CASE
from mentallam.errors import MentallamError

HARD_NEGATIVES = ("explicit_negative", "past", "third_person", "near_miss")
# The kinds that an annotator records with status 0; the others are passed over in silence, as in ReDSM5.
ANNOTATED_ABSENT = ("explicit_negative", "past")
POSTS_PER_AUTHOR = 3
SENTENCES_PER_TOPIC = 4


@dataclass(frozen=True)
class CorpusSpec:
    """What the corpus must look like; every count is met exactly.

    Attributes:
        n_posts: Number of posts.
        n_authors: Number of authors; each writes between one and three posts.
        positives: For each symptom, the number of posts that show it.
        without_symptom: Number of posts that show none.
        special_cases: Number of posts with a SPECIAL_CASE annotation.
        hard_negatives: Number of posts that hold a hard negative, for each kind in `HARD_NEGATIVES`.
        median_words: Median of the length that posts aim at, in words.
        spread: Standard deviation of the logarithm of that length.
        min_words: Shortest length aimed at.
        max_words: Longest length aimed at.
        evidence_phrases: How many of a symptom's phrases are used, half as many of its opposite; None for all. Fewer
            come back in more posts, so that a small model can learn from few of them.
    """

    n_posts: int
    n_authors: int
    positives: Mapping[str, int]
    without_symptom: int
    special_cases: int
    hard_negatives: int
    median_words: float
    spread: float
    min_words: int
    max_words: int
    evidence_phrases: int | None = None

    def __post_init__(self) -> None:
        """Refuse counts that no corpus can meet.

        Raises:
            MentallamError: The counts contradict each other.
        """
        with_symptom = self.n_posts - self.without_symptom
        possible = (
            1 <= self.n_authors <= self.n_posts <= POSTS_PER_AUTHOR * self.n_authors
            and 0 <= self.without_symptom <= self.n_posts
            and with_symptom <= sum(self.positives.values())
            and max(self.positives.values()) <= with_symptom
            and max(self.special_cases, self.hard_negatives) <= self.n_posts
        )
        if not possible:
            raise MentallamError(
                f"No corpus has {self.n_posts} posts by {self.n_authors} authors, {self.without_symptom} of "
                f"them without a symptom, and these positives: {dict(self.positives)}; every author writes "
                f"1 to {POSTS_PER_AUTHOR} posts, and every other post shows at least one symptom."
            )

    def scaled(self, n_posts: int, n_authors: int) -> CorpusSpec:
        """Return the same proportions at another size, rounded to whole posts."""

        def share(count: int) -> int:
            return max(1, round(count * n_posts / self.n_posts))

        return replace(
            self,
            n_posts=n_posts,
            n_authors=n_authors,
            positives={symptom: share(count) for symptom, count in self.positives.items()},
            without_symptom=share(self.without_symptom),
            special_cases=share(self.special_cases),
            hard_negatives=share(self.hard_negatives),
        )


# ReDSM5's order of frequencies with a floor of one positive per fold; short posts, for training in minutes.
SAMPLE = CorpusSpec(
    n_posts=60,
    n_authors=45,
    positives={
        "DEPRESSED_MOOD": 10,
        "WORTHLESSNESS": 9,
        "SUICIDAL_THOUGHTS": 7,
        "FATIGUE": 7,
        "ANHEDONIA": 7,
        "SLEEP_ISSUES": 6,
        "COGNITIVE_ISSUES": 5,
        "APPETITE_CHANGE": 5,
        "PSYCHOMOTOR": 5,
    },
    without_symptom=14,
    special_cases=4,
    hard_negatives=4,
    median_words=34,
    spread=0.4,
    min_words=12,
    max_words=90,
    evidence_phrases=4,
)


@dataclass(frozen=True)
class Sentence:
    """One sentence of a post; `symptom` and `status` are None where an annotator records nothing."""

    text: str
    symptom: str | None = None
    status: int | None = None


class PhraseDeck:
    """Draws phrases at random, and none twice before all of its list have been drawn."""

    def __init__(self, rng: Random, evidence_phrases: int | None) -> None:
        """Load the phrase files; `rng` decides every draw, `evidence_phrases` is as in `CorpusSpec`."""
        self._rng = rng
        self.symptoms: dict[str, Any] = _load("synthetic_phrases.yml")
        if evidence_phrases is not None:
            for phrases in self.symptoms.values():
                phrases["evidence"] = phrases["evidence"][:evidence_phrases]
                if "opposite" in phrases:
                    phrases["opposite"] = phrases["opposite"][: evidence_phrases // 2]
        self.context: dict[str, Any] = _load("synthetic_context.yml")
        self.topics = list(self.context["topics"])
        self._decks: dict[int, tuple[list[str], list[str]]] = {}

    def draw(self, phrases: Sequence[str]) -> str:
        """Return one phrase with its slots filled."""
        if id(phrases) not in self._decks:
            self._decks[id(phrases)] = ([], list(phrases))
        left, drawn = self._decks[id(phrases)]
        if not left:
            # What was drawn last comes back last, so that no phrase follows itself within a post.
            half = len(drawn) // 2
            for part in (drawn[half:], drawn[:half]):
                left.extend(self._rng.sample(part, len(part)))
            drawn.clear()
        drawn.append(left.pop())
        slots = self.context["slots"]
        return re.sub(r"\{(\w+)\}", lambda slot: self._rng.choice(slots[slot[1]]), drawn[-1])


def _load(name: str) -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load(files(__package__).joinpath(name).read_text(encoding="utf-8"))
    return loaded


@dataclass(frozen=True)
class SyntheticCorpus:
    """The rows of the two files, in the order of `POST_COLUMNS` and `ANNOTATION_COLUMNS`."""

    posts: list[tuple[str, str]]
    annotations: list[tuple[str, str, str, str, int, str]]


def generate(spec: CorpusSpec, seed: int) -> SyntheticCorpus:
    """Compose a corpus that meets `spec` exactly; the same seed gives the same corpus."""
    rng = Random(seed)
    deck = PhraseDeck(rng, spec.evidence_phrases)
    post_ids = _post_ids(spec, rng)
    shown = _symptoms_per_post(spec, rng)
    aims = _lengths(spec, rng)
    special = set(rng.sample(range(spec.n_posts), spec.special_cases))
    # A hard negative speaks of a symptom that the post does not show; a post that shows all has no room.
    with_room = [number for number, symptoms in enumerate(shown) if len(symptoms) < len(spec.positives)]
    hard = {kind: set(rng.sample(with_room, spec.hard_negatives)) for kind in HARD_NEGATIVES}

    corpus = SyntheticCorpus(posts=[], annotations=[])
    for number, post_id in enumerate(post_ids):
        kinds = [kind for kind in HARD_NEGATIVES if number in hard[kind]]
        blocks = _blocks(shown[number], kinds, number in special, deck, rng)
        sentences, text = _styled(_fill_up(blocks, aims[number], deck, rng), rng)
        corpus.posts.append((post_id, text))
        for position, sentence in enumerate(sentences, start=1):
            if sentence.symptom is not None and sentence.status is not None:
                sentence_id = f"{post_id}_{position}"
                reason = deck.draw(_explanations(deck, sentence.symptom, sentence.status))
                corpus.annotations.append(
                    (post_id, sentence_id, sentence.text, sentence.symptom, sentence.status, reason)
                )
    return corpus


def _post_ids(spec: CorpusSpec, rng: Random) -> list[str]:
    """Return ids s_<author>_<n>: each author has one to `POSTS_PER_AUTHOR` posts, in random order."""
    authors = rng.sample(range(100, 1_000 + 20 * spec.n_authors), spec.n_authors)
    more = rng.sample(authors * (POSTS_PER_AUTHOR - 1), spec.n_posts - spec.n_authors)
    ids = [
        f"s_{author}_{number}"
        for author, n_posts in Counter(authors + more).items()
        for number in rng.sample(range(1, 1_000), n_posts)
    ]
    rng.shuffle(ids)
    return ids


def _lengths(spec: CorpusSpec, rng: Random) -> list[float]:
    """Return a length for each post: the quantiles of a log-normal distribution, whatever the seed."""
    logs = NormalDist(log(spec.median_words), spec.spread)
    lengths = [exp(logs.inv_cdf((number + 0.5) / spec.n_posts)) for number in range(spec.n_posts)]
    rng.shuffle(lengths)
    return [min(max(length, spec.min_words), spec.max_words) for length in lengths]


def _symptoms_per_post(spec: CorpusSpec, rng: Random) -> list[list[str]]:
    """Deal the positives out: one to every post that shows symptoms, the rest wherever they are not yet."""
    positives = [symptom for symptom, count in spec.positives.items() for _ in range(count)]
    rng.shuffle(positives)
    n_with_symptom = spec.n_posts - spec.without_symptom
    shown = [[symptom] for symptom in positives[:n_with_symptom]]
    for symptom in positives[n_with_symptom:]:
        post = rng.choice(shown)
        while symptom in post:
            post = rng.choice(shown)
        post.append(symptom)
    shown.extend([] for _ in range(spec.without_symptom))
    rng.shuffle(shown)
    return shown


def _blocks(
    shown: Sequence[str], kinds: Sequence[str], special: bool, deck: PhraseDeck, rng: Random
) -> list[list[Sentence]]:
    """Return the sentences that matter, those of one symptom side by side."""
    blocks = []
    for symptom in shown:
        n_sentences = rng.choices((1, 2, 3), weights=(4, 5, 1))[0]
        phrases = deck.symptoms[symptom]
        # Too little sleep or too much: one post shows one of the two.
        sides = [phrases[side] for side in ("evidence", "opposite") if side in phrases]
        evidence = rng.choices(sides, weights=[len(side) for side in sides])[0]
        blocks.append([Sentence(deck.draw(evidence), symptom, 1) for _ in range(n_sentences)])
    for kind in kinds:
        symptom = rng.choice([symptom for symptom in deck.symptoms if symptom not in shown])
        text = deck.draw(deck.symptoms[symptom][kind])
        annotated = kind in ANNOTATED_ABSENT
        blocks.append([Sentence(text, symptom, 0) if annotated else Sentence(text)])
    if special:
        blocks.append([Sentence(deck.draw(deck.context["special_case"]["evidence"]), SPECIAL_CASE, 1)])
    rng.shuffle(blocks)
    return blocks


def _fill_up(blocks: list[list[Sentence]], aim: float, deck: PhraseDeck, rng: Random) -> list[Sentence]:
    """Put everyday sentences before, between and after the blocks, up to the length aimed at, in words."""
    n_words = sum(_n_words(sentence) for block in blocks for sentence in block)
    closing = Sentence(deck.draw(deck.context["closings"])) if rng.random() < 0.5 else None
    places = list(blocks)
    while not places or n_words < aim - 5:
        if (n_fillers := len(places) - len(blocks)) % SENTENCES_PER_TOPIC == 0:
            topic = deck.context["topics"][deck.draw(deck.topics)]
        filler = Sentence(deck.draw(topic))
        # The first everyday sentence opens the post, as people do before they come to the point.
        places.insert(rng.randint(1, len(places)) if n_fillers else 0, [filler])
        n_words += _n_words(filler)
    if closing is not None and n_words + _n_words(closing) <= aim:
        places.append([closing])
    return [sentence for block in places for sentence in block]


def _n_words(sentence: Sentence) -> int:
    return len(sentence.text.split())


def _styled(sentences: list[Sentence], rng: Random) -> tuple[list[Sentence], str]:
    """Give the post one person's way of typing; return its sentences as typed, and its text."""
    style = rng.choices(("plain", "lower_case", "curly", "paragraphs", "spacer"), weights=(60, 12, 12, 10, 6))[0]
    if style == "lower_case":
        sentences = [replace(sentence, text=sentence.text.lower()) for sentence in sentences]
    if style == "curly":
        sentences = [replace(sentence, text=sentence.text.replace("'", "\u2019")) for sentence in sentences]
    gap = {"paragraphs": "\n\n", "spacer": "\n\n&#x200B;\n\n"}.get(style, " ")
    break_at = rng.randint(1, len(sentences))
    halves = [" ".join(s.text for s in half) for half in (sentences[:break_at], sentences[break_at:]) if half]
    return sentences, gap.join(halves)


def _explanations(deck: PhraseDeck, symptom: str, status: int) -> Sequence[str]:
    source = deck.context["special_case"] if symptom == SPECIAL_CASE else deck.symptoms[symptom]
    explanations: list[str] = source["present" if status else "absent"]
    return explanations


def write(corpus: SyntheticCorpus, folder: Path, spec: CorpusSpec, seed: int) -> None:
    """Write redsm5_posts.csv, redsm5_annotations.csv and README.md to `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    _write_csv(folder / "redsm5_posts.csv", POST_COLUMNS, corpus.posts)
    _write_csv(folder / "redsm5_annotations.csv", ANNOTATION_COLUMNS, corpus.annotations)
    (folder / "README.md").write_text(_readme(corpus, spec, seed), encoding="utf-8", newline="\n")


def _write_csv(path: Path, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(rows)


def _readme(corpus: SyntheticCorpus, spec: CorpusSpec, seed: int) -> str:
    words = [len(text.split()) for _, text in corpus.posts]
    arguments = f"--posts {spec.n_posts} --authors {spec.n_authors} --seed {seed}"
    symptoms = "\n".join(f"| {symptom} | {count} |" for symptom, count in spec.positives.items())
    return f"""SYNTHETIC: no sentence in here comes from a person, from ReDSM5 or from any other corpus.

The posts and annotations were composed by this project's generator, from sentences invented for it
(`synthetic_phrases.yml` and `synthetic_context.yml` in `src/mentallam/corpus/`). The files have ReDSM5's
schema, so that everything runs without the gated corpus. A figure measured on them says that the software
works, and nothing about people. This writes them again, byte for byte:

    python -m mentallam.corpus.synthetic {arguments} --out FOLDER

- {spec.n_posts} posts by {spec.n_authors} authors, {min(words)} to {max(words)} words, mean {mean(words):.1f}
- {sum(spec.positives.values())} positive pairs; {spec.without_symptom} posts show no symptom
- {len(corpus.annotations)} annotations, of them {spec.special_cases} SPECIAL_CASE
- {spec.hard_negatives} posts with a hard negative of each kind: an explicit negative, a symptom in the past,
  one of a third person, an everyday near miss

| symptom | posts that show it |
| --- | --- |
{symptoms}
"""


def main() -> None:
    """Write a synthetic corpus to a folder."""
    parser = argparse.ArgumentParser("python -m mentallam.corpus.synthetic", description=main.__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder to write to")
    parser.add_argument("--seed", type=int, default=42, help="another seed, another corpus (default 42)")
    parser.add_argument("--posts", type=int, default=SAMPLE.n_posts, help="default %(default)s")
    parser.add_argument("--authors", type=int, default=SAMPLE.n_authors, help="default %(default)s")
    arguments = parser.parse_args()
    try:
        spec = SAMPLE.scaled(arguments.posts, arguments.authors)
        write(generate(spec, arguments.seed), arguments.out, spec, arguments.seed)
    except MentallamError as error:
        parser.error(error.message)
    print(f"Wrote {spec.n_posts} synthetic posts to {arguments.out}")


if __name__ == "__main__":
    main()
