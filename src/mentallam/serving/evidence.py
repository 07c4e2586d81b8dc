"""The sentences of a post that carry a yes: how far its probability drops when the model reads the post without one.

A sentence is left out of the post as it was written, so its place needs no translation between the written and the
cleaned text. The other sentences stay as they are, and of a post that was cut only the part is taken that was read.
"""

import re
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import NamedTuple, TypedDict

import numpy as np
from numpy.typing import NDArray

MOST_NAMED = 3
"""Sentences that are named for one yes."""

MOST_PARTS = 64
"""Parts that a post is taken apart into: with more sentences, each part is a run of them, so that a post of one-word
sentences costs no more than this many readings."""

# Full stop, exclamation and question mark, and closing brackets of Chinese and Japanese, which put no blank behind.
_WIDE_ENDS, _WIDE_BRACKETS = "\u3002\uff01\uff1f", "\u300d\u300f\uff09"
# A word, or what stands up to such a mark.
_WORD = re.compile(f"[^\\s{_WIDE_ENDS}]+[{_WIDE_ENDS}]*[{_WIDE_BRACKETS}]*|[{_WIDE_ENDS}]+")
_ENDS = tuple(f".!?\u2026{_WIDE_ENDS}")
# What may follow the full stop within a sentence: closing quotes and brackets, and emphasis in Markdown.
_CLOSING = f"\"'\u201d\u2019\u00bb)]*_{_WIDE_BRACKETS}"
_NO_END = frozenset(("e.g.", "i.e.", "dr.", "mr.", "mrs.", "ms.", "st.", "vs."))


class Evidence(TypedDict):
    """A sentence that carries a yes.

    Attributes:
        sentence: Its number in the post, from 0.
        start: Its first character in the post as it was written, from 0, counted in Unicode code points.
        end: The character behind its last one.
        drop: The probability of the post minus that of the post without this sentence.
    """

    sentence: int
    start: int
    end: int
    drop: float


class Span(NamedTuple):
    """A part of a text.

    Attributes:
        sentence: The number of its first sentence, from 0.
        start: Its first character, from 0.
        end: The character behind its last one.
    """

    sentence: int
    start: int
    end: int


Ask = Callable[[Sequence[str]], NDArray[np.float64]]
"""Returns the probabilities of C criteria for T texts, (T, C)."""


def split_sentences(text: str) -> list[Span]:
    """Return the sentences of a text, without the white space around them.

    A sentence ends at a line break, and behind a word that ends in a full stop, a question or an exclamation mark or an
    ellipsis, closing quotes and brackets included. Capitals play no part, since many posts have none. Common
    abbreviations and the number of a list item do not end a sentence. Takes linear time, whatever the text.
    """
    words = [(word.start(), word.end()) for word in _WORD.finditer(text)]
    spans: list[Span] = []
    start = words[0][0] if words else 0
    for (begin, end), (following, _) in pairwise([*words, (len(text), len(text))]):
        is_last = following == len(text)
        if is_last or _ends_sentence(text[begin:end], begin == start) or _has_line_break(text[end:following]):
            spans.append(Span(len(spans), start, end))
            start = following
    return spans


def find_evidence(text: str, clean: Callable[[str], str], read: Callable[[str], str], ask: Ask) -> list[list[Evidence]]:
    """Return the sentences that carry each of C criteria, for all of which the post counts as a match.

    Cleaning sentence by sentence may differ from cleaning the whole, as where a run of bytes in a wrong encoding spans
    two sentences. The probability that drops is therefore asked of the sentences together, not taken from the answer.

    Args:
        text: The post as it was written.
        clean: Returns a text as the model reads it, if there is room for all of it.
        read: Returns the beginning of a cleaned text for which there is room.
        ask: Returns probabilities; asked once, of at most `MOST_PARTS` + 1 texts.

    Returns:
        Per criterion at most `MOST_NAMED` sentences whose removal lowers the probability, the largest drop first;
        empty if no single sentence does. A long post is taken apart into runs of sentences (`MOST_PARTS`).
    """
    spans, parts = _parts_read(text, clean, read)
    without = [_without(parts, position) for position in range(len(parts))]
    probabilities = ask([_joined(parts), *without])
    drops = probabilities[:1] - probabilities[1:]
    return [_largest(spans, of_criterion) for of_criterion in drops.T]


def _ends_sentence(word: str, is_first: bool) -> bool:
    bare = word.rstrip(_CLOSING)
    if not bare.endswith(_ENDS) or bare.lstrip("([\"'").casefold() in _NO_END:
        return False
    return not (is_first and bare.rstrip(".").isdigit())  # "1." before an item of a list


def _has_line_break(gap: str) -> bool:
    return len(f"{gap}.".splitlines()) > 1


def _parts_read(text: str, clean: Callable[[str], str], read: Callable[[str], str]) -> tuple[list[Span], list[str]]:
    """Return the parts of a post that the model reads: where they are written, and how it reads them.

    A part keeps the blank or the empty line before it, as cleaning leaves it of white space.
    """
    spans: list[Span] = []
    parts: list[str] = []
    sentences = split_sentences(text)
    end = 0
    for sentence in sentences:
        part = clean(text[sentence.start : sentence.end])
        if part:  # a sentence of invisible characters is not read
            # Letters on either side keep the white space.
            gap = clean(f"x{text[end : sentence.start]}x")[1:-1] if parts else ""
            spans.append(sentence)
            parts.append(gap + part)
            end = sentence.end
    left = len(read(_joined(parts)))
    for position, part in enumerate(parts):
        parts[position] = part[:left]
        left = max(0, left - len(part))
    n_read = sum(map(bool, parts))
    return _in_runs(spans[:n_read], parts[:n_read])


def _in_runs(spans: Sequence[Span], parts: Sequence[str]) -> tuple[list[Span], list[str]]:
    """Join neighbouring sentences, as few as needed to have at most `MOST_PARTS`."""
    size = -(-len(spans) // MOST_PARTS) or 1
    runs = [range(start, min(start + size, len(spans))) for start in range(0, len(spans), size)]
    return (
        [Span(spans[run[0]].sentence, spans[run[0]].start, spans[run[-1]].end) for run in runs],
        ["".join(parts[position] for position in run) for run in runs],
    )


def _joined(parts: Sequence[str]) -> str:
    return "".join(parts).lstrip()


def _without(parts: Sequence[str], position: int) -> str:
    """Join all parts but one; the wider of the gaps around it stays."""
    gap, rest = _gap(parts[position]), list(parts[position + 1 :])
    if rest and len(gap) > len(_gap(rest[0])):
        rest[0] = gap + rest[0].lstrip()
    return _joined([*parts[:position], *rest])


def _gap(part: str) -> str:
    return part[: len(part) - len(part.lstrip())]


def _largest(spans: Sequence[Span], drops: NDArray[np.float64]) -> list[Evidence]:
    order = np.argsort(-drops, kind="stable")[:MOST_NAMED]
    return [
        Evidence(
            sentence=spans[position].sentence,
            start=spans[position].start,
            end=spans[position].end,
            drop=float(drops[position]),
        )
        for position in order
        if drops[position] > 0
    ]
