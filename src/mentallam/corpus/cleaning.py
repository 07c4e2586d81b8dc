"""Clean the text of posts: idempotent, and counted step by step."""

from __future__ import annotations

import hashlib
import html
import unicodedata
from collections import Counter
from collections.abc import Callable

import ftfy
import pandas as pd
from pydantic import BaseModel, ConfigDict

from mentallam.corpus.groups import author_of
from mentallam.corpus.masking import KINDS, masked
from mentallam.errors import MentallamError


class CleaningOptions(BaseModel):
    """What is done to texts beyond the cleaning that all of them get.

    Attributes:
        mask: Replace e-mail addresses, links, user names and phone numbers by marks; see `masking`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    mask: bool


def _normalise_unicode(text: str) -> str:
    return unicodedata.normalize("NFKC", text)


def _collapse_whitespace(text: str) -> str:
    return " ".join(text.split())


def _remove_invisible(text: str) -> str:
    """Remove control characters, and format characters such as zero-width spaces and byte order marks."""
    if text.isprintable():
        return text
    invisible = [character for character in set(text) if unicodedata.category(character) in ("Cc", "Cf")]
    return text.translate(dict.fromkeys(map(ord, invisible)))


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
    while not _is_plain(text):
        before = text
        for name, step in STEPS.items():
            stepped = step(text)
            if stepped != text:
                changed.add(name)
            text = stepped
        if text == before:
            break
    return text, changed


def _is_plain(text: str) -> bool:
    """Tell whether a text is one that no step would change, which is quickly told of most English ones."""
    return (
        text.isascii() and text.isprintable() and "&" not in text and "  " not in text and text[:1] != " " != text[-1:]
    )


def prepare_text(text: str, mask: bool) -> tuple[str, set[str]]:
    """Return a text as a model reads it, cleaned and perhaps masked, and the names of what changed it."""
    cleaned, changed = clean_text(text)
    if not mask:
        return cleaned, changed
    shown, kinds = masked(cleaned)
    return shown, changed | {f"masked_{kind}" for kind in kinds}


def clean_posts(posts: pd.DataFrame, options: CleaningOptions) -> tuple[pd.DataFrame, dict[str, int]]:
    """Clean every post.

    Args:
        posts: post_id, text as written, author (missing throughout if the corpus names none).
        options: What is done besides.

    Returns:
        post_id, text, raw_sha256 (of the text as written), author (the corpus's, or the one that the id names, or
        missing); and how many posts each step of `STEPS` changed, in how many each kind was masked if any is, and
        how many posts changed at all (`any`).

    Raises:
        MentallamError: Nothing visible is left of a post.
    """
    prepared = [prepare_text(text, options.mask) for text in posts["text"]]
    blank = [post_id for post_id, (text, _) in zip(posts["post_id"], prepared, strict=True) if not text]
    if blank:
        raise MentallamError(
            f"{len(blank)} posts hold nothing but invisible characters, the first is {blank[0]}; remove them."
        )
    counts = Counter(name for _, changed in prepared for name in changed)
    counts["any"] = sum(bool(changed) for _, changed in prepared)
    names = [*STEPS, *(f"masked_{kind}" for kind in KINDS if options.mask), "any"]
    cleaned = pd.DataFrame(
        {
            "post_id": posts["post_id"],
            "text": [text for text, _ in prepared],
            "raw_sha256": [_sha256(text) for text in posts["text"]],
            "author": posts["author"] if posts["author"].notna().any() else author_of(posts["post_id"]),
        }
    )
    return cleaned, {name: counts[name] for name in names}


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
