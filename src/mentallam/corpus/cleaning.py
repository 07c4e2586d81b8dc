"""Clean the text of posts: idempotent, and counted step by step."""

from __future__ import annotations

import html
import unicodedata
from collections import Counter
from collections.abc import Callable

import ftfy
import pandas as pd

from mentallam.errors import MentallamError


def _normalise_unicode(text: str) -> str:
    return unicodedata.normalize("NFKC", text)


def _collapse_whitespace(text: str) -> str:
    return " ".join(text.split())


def _remove_invisible(text: str) -> str:
    """Remove control characters, and format characters such as zero-width spaces and byte order marks."""
    if text.isprintable():
        return text
    return "".join(character for character in text if unicodedata.category(character) not in ("Cc", "Cf"))


STEPS: dict[str, Callable[[str], str]] = {
    "html_entities": html.unescape,
    "mojibake": ftfy.fix_encoding,  # UTF-8 that was once read as something else
    "unicode": _normalise_unicode,
    "whitespace": _collapse_whitespace,
    "invisible_characters": _remove_invisible,
}


def clean_text(text: str) -> tuple[str, set[str]]:
    """Return the cleaned text and the names of the steps that changed it.

    One step may uncover work for another (an entity that was escaped twice), so they repeat until nothing
    changes; this is what makes cleaning idempotent.
    """
    changed: set[str] = set()
    while True:
        before = text
        for name, step in STEPS.items():
            stepped = step(text)
            if stepped != text:
                changed.add(name)
            text = stepped
        if text == before:
            return text, changed


def clean_posts(posts: pd.DataFrame) -> tuple[pd.DataFrame, dict[str, int]]:
    """Clean every post.

    Args:
        posts: post_id, text.

    Returns:
        The posts with cleaned text, and how many posts each step of `STEPS` changed, and how many `any` step.

    Raises:
        MentallamError: Nothing visible is left of a post.
    """
    cleaned = [clean_text(text) for text in posts["text"]]
    blank = [post_id for post_id, (text, _) in zip(posts["post_id"], cleaned, strict=True) if not text]
    if blank:
        raise MentallamError(
            f"{len(blank)} posts hold nothing but invisible characters, the first is {blank[0]}; remove them."
        )
    counts = Counter(name for _, changed in cleaned for name in changed)
    counts["any"] = sum(bool(changed) for _, changed in cleaned)
    return posts.assign(text=[text for text, _ in cleaned]), {name: counts[name] for name in (*STEPS, "any")}
