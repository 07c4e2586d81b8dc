"""Cleaning of posts, with a count of the posts that each step changed."""

from __future__ import annotations

import hashlib
from collections import Counter

import pandas as pd
from pydantic import BaseModel, ConfigDict, field_validator

from mentallam.corpus.groups import author_of
from mentallam.corpus.masking import KINDS
from mentallam.corpus.texts import STEPS, clean_text, prepare_text
from mentallam.errors import MentallamError


class CleaningOptions(BaseModel):
    """Options of cleaning, beyond the steps that every text goes through.

    Attributes:
        mask: Replace e-mail addresses, links, user names and phone numbers with marks; see `masking`.
        placeholders: Texts that stand for deleted posts; posts with such a text are left out, see `placeholders`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    mask: bool
    placeholders: tuple[str, ...] = ("[removed]", "[deleted]", "[removed by reddit]", "[deleted by user]")

    @field_validator("placeholders")
    @classmethod
    def _visible(cls, placeholders: tuple[str, ...]) -> tuple[str, ...]:
        if not all(clean_text(text)[0] for text in placeholders):
            raise ValueError("a placeholder is empty; remove it")
        return placeholders


def clean_posts(posts: pd.DataFrame, options: CleaningOptions) -> tuple[pd.DataFrame, dict[str, int]]:
    """Clean every post.

    Args:
        posts: post_id, text as written, author (missing throughout if the corpus names none).
        options: The options of cleaning.

    Returns:
        A table and counts. The table: post_id, text, raw_sha256 (of the text as written), author (the corpus's, else
        the one named in the id, else missing). The counts: how many posts each step of `STEPS` changed, with masking
        also how many posts each kind was masked in, and how many posts changed at all (`any`).

    Raises:
        MentallamError: A post has no visible character.
    """
    prepared = [prepare_text(text, options.mask) for text in posts["text"]]
    blank = [post_id for post_id, (text, _) in zip(posts["post_id"], prepared, strict=True) if not text]
    if blank:
        raise MentallamError(
            f"{len(blank)} posts hold nothing but invisible characters, the first is {blank[0]}; remove them"
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
