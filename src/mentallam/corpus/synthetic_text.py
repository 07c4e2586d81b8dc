"""Composition of one synthetic post: its sentences, the symptoms they are about, and the style of typing.

Every sentence comes from the phrase files in this folder, which were invented for this project.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files
from random import Random
from typing import Any

import yaml

from mentallam.corpus.readers import SPECIAL_CASE

HARD_NEGATIVES = ("explicit_negative", "past", "third_person", "near_miss")
# The kinds that get status 0; the others are not annotated. ReDSM5 differs: in its public preview the explicit
# negatives are near misses, and none is a denial.
ANNOTATED_ABSENT = ("explicit_negative", "past")
SENTENCES_PER_TOPIC = 4
LONGEST_PADDING = 8
# A zero-width space as web editors leave it: alone in a line, or at the end of a line, where it is no separate word.
SPACER = "\n\n&#x200B;\n\n"
SPACER_WITHOUT_WORD = "&#x200B;\n\n"


@dataclass(frozen=True)
class Sentence:
    """One sentence of a post.

    Attributes:
        text: The sentence as typed.
        symptom: The symptom that it is about; None for an everyday sentence.
        status: The status that an annotator records; None if the sentence is not annotated.
    """

    text: str
    symptom: str | None = None
    status: int | None = None


class PhraseDeck:
    """Deck of phrases in random order; no phrase is drawn twice before all phrases of its list have been drawn."""

    def __init__(self, rng: Random, evidence_phrases: int | None, narrative: bool = False) -> None:
        """Load the phrase files.

        Args:
            rng: Source of randomness.
            evidence_phrases: How many of a symptom's phrases are used, and half as many of its opposite; None for all.
            narrative: Whether to add the topics and the padding of long posts.
        """
        self._rng = rng
        self.symptoms: dict[str, Any] = _load("synthetic_phrases.yml")
        if evidence_phrases is not None:
            n_phrases = {"evidence": evidence_phrases, "opposite": evidence_phrases // 2}
            self.symptoms = {
                symptom: {kind: phrases[: n_phrases.get(kind)] for kind, phrases in kinds.items()}
                for symptom, kinds in self.symptoms.items()
            }
        self.context: dict[str, Any] = _load("synthetic_context.yml")
        if narrative:
            more = _load("synthetic_narrative.yml")
            both = {key: self.context[key] | more[key] for key in ("slots", "topics")}
            self.context = self.context | both | {"padding": more["padding"]}
        self.topics = list(self.context["topics"])
        self._decks: dict[int, tuple[list[str], list[str]]] = {}

    def draw(self, phrases: Sequence[str]) -> str:
        """Return one phrase with its slots filled."""
        if id(phrases) not in self._decks:
            self._decks[id(phrases)] = ([], list(phrases))
        left, drawn = self._decks[id(phrases)]
        if not left:
            # Phrases drawn last return last, so that no phrase follows itself within a post.
            half = len(drawn) // 2
            for part in (drawn[half:], drawn[:half]):
                left.extend(self._rng.sample(part, len(part)))
            drawn.clear()
        drawn.append(left.pop())
        slots = self.context["slots"]
        return re.sub(r"\{(\w+)\}", lambda slot: self._rng.choice(slots[slot[1]]), drawn[-1])


@cache
def _load(name: str) -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load(files(__package__).joinpath(name).read_text(encoding="utf-8"))
    return loaded


def blocks_of(
    shown: Sequence[str], labelled: Collection[str], kinds: Iterable[str], special: bool, deck: PhraseDeck, rng: Random
) -> list[list[Sentence]]:
    """Return the required sentences of a post in blocks: one per symptom, hard negative and special case.

    Args:
        shown: The symptoms that the post shows.
        labelled: The symptoms that the annotator finds; evidence of any other symptom is not annotated.
        kinds: The kinds of its hard negatives, each about a symptom that the post neither shows nor is labelled with.
        special: Whether the post has a special case.
        deck: Source of the sentences.
        rng: Source of randomness.
    """
    blocks = []
    for symptom in shown:
        n_sentences = rng.choices((1, 2, 3), weights=(4, 5, 1))[0]
        phrases = deck.symptoms[symptom]
        # Too little sleep or too much: a post shows only one of the two.
        sides = [phrases[side] for side in ("evidence", "opposite") if side in phrases]
        evidence = rng.choices(sides, weights=[len(side) for side in sides])[0]
        status = 1 if symptom in labelled else None
        blocks.append([Sentence(deck.draw(evidence), symptom, status) for _ in range(n_sentences)])
    for kind in kinds:
        symptom = rng.choice([symptom for symptom in deck.symptoms if symptom not in shown and symptom not in labelled])
        blocks.append(
            [Sentence(deck.draw(deck.symptoms[symptom][kind]), symptom, 0 if kind in ANNOTATED_ABSENT else None)]
        )
    if special:
        blocks.append([Sentence(deck.draw(deck.context["special_case"]["evidence"]), SPECIAL_CASE, 1)])
    rng.shuffle(blocks)
    return blocks


def fill_up(blocks: list[list[Sentence]], aim: float, deck: PhraseDeck, rng: Random) -> list[Sentence]:
    """Put everyday sentences before, between and after the blocks, up to about `aim` words."""
    n_words = sum(_n_words(sentence) for block in blocks for sentence in block)
    closing = Sentence(deck.draw(deck.context["closings"])) if rng.random() < 0.5 else None
    places = list(blocks)
    while not places or n_words < aim - 5:
        if (n_fillers := len(places) - len(blocks)) % SENTENCES_PER_TOPIC == 0:
            topic = deck.context["topics"][deck.draw(deck.topics)]
        filler = Sentence(deck.draw(topic))
        # The first everyday sentence opens the post, because people rarely begin with the point.
        places.insert(rng.randint(1, len(places)) if n_fillers else 0, [filler])
        n_words += _n_words(filler)
    if closing is not None and n_words + _n_words(closing) <= aim:
        places.append([closing])
    return [sentence for block in places for sentence in block]


def fill_exactly(blocks: list[list[Sentence]], aim: int, deck: PhraseDeck, rng: Random) -> list[Sentence]:
    """Put everyday sentences before, between and after the blocks until the post has `aim` words.

    If the blocks leave no room, the post becomes two words longer than they are, so that it always has an everyday
    sentence.
    """
    left = max(aim - sum(_n_words(sentence) for block in blocks for sentence in block), 2)
    everyday: list[Sentence] = []
    while True:
        if len(everyday) % SENTENCES_PER_TOPIC == 0:
            topic = deck.context["topics"][deck.draw(deck.topics)]
        filler = Sentence(deck.draw(topic))
        if _n_words(filler) > left:
            break
        everyday.append(filler)
        left -= _n_words(filler)
    places = [[filler] for filler in everyday]
    for block in blocks:
        places.insert(rng.randint(1, len(places)) if places else 0, block)
    while left:
        padding = deck.context["padding"][min(left, LONGEST_PADDING)]
        places.append([Sentence(deck.draw(padding))])
        left -= min(left, LONGEST_PADDING)
    return [sentence for block in places for sentence in block]


def _n_words(sentence: Sentence) -> int:
    return len(sentence.text.split())


def styled(sentences: list[Sentence], rng: Random, spacer: str = SPACER) -> tuple[list[Sentence], str]:
    """Return the sentences in one person's style of typing, and the text that they form.

    Args:
        sentences: The sentences of the post, in order.
        rng: Source of randomness.
        spacer: What the style `spacer` puts between paragraphs.
    """
    style = rng.choices(("plain", "lower_case", "curly", "paragraphs", "spacer"), weights=(60, 12, 12, 10, 6))[0]
    if style == "lower_case":
        sentences = [replace(sentence, text=sentence.text.lower()) for sentence in sentences]
    if style == "curly":
        sentences = [replace(sentence, text=sentence.text.replace("'", "\u2019")) for sentence in sentences]
    gap = {"paragraphs": "\n\n", "spacer": spacer}.get(style, " ")
    break_at = rng.randint(1, len(sentences))
    halves = [" ".join(s.text for s in half) for half in (sentences[:break_at], sentences[break_at:]) if half]
    return sentences, gap.join(halves)


def explanations_of(deck: PhraseDeck, symptom: str, status: int) -> Sequence[str]:
    """Return the explanations that an annotator may give for a sentence with this symptom and status."""
    source = deck.context["special_case"] if symptom == SPECIAL_CASE else deck.symptoms[symptom]
    explanations: list[str] = source["present" if status else "absent"]
    return explanations
