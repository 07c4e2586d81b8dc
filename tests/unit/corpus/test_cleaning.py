import hashlib

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mentallam.corpus.cleaning import STEPS, CleaningOptions, clean_posts, clean_text, prepare_text
from mentallam.errors import MentallamError

PLAIN, MASKING = CleaningOptions(mask=False), CleaningOptions(mask=True)

# Pieces that make the steps set each other to work.
PIECES = st.sampled_from(
    [
        "&amp;",
        "&#x200B;",
        "amp;",
        "&",
        "\uff06",
        "lt;",
        "\u200b",
        "\ufeff",
        "\x00",
        "\r\n",
        " ",
        "e\u0301",
        "\u00c3\u00a9",
        "ok",
    ]
)


@pytest.mark.parametrize(
    ("text", "cleaned", "steps"),
    [
        ("nothing to do, caf\u00e9 \U0001f642", "nothing to do, caf\u00e9 \U0001f642", set()),
        ("you &amp;amp; me", "you & me", {"html_entities"}),
        ("caf\u00c3\u00a9", "caf\u00e9", {"mojibake"}),
        ("\uff26\uff35\uff2c\uff2c \ufb01ne", "FULL fine", {"unicode"}),
        (" a\t b\r\n\n c ", "a b c", {"whitespace"}),
        ("a\u200bb\ufeffc\x07d\u00ade", "abcde", {"invisible_characters"}),
        ("a\n\n&#x200B;\n\nb", "a b", {"html_entities", "whitespace", "invisible_characters"}),
    ],
)
def test_steps(text: str, cleaned: str, steps: set[str]) -> None:
    assert clean_text(text) == (cleaned, steps)


@given(st.one_of(st.text(), st.lists(PIECES).map("".join)))
def test_idempotent(text: str) -> None:
    cleaned, _ = clean_text(text)
    assert clean_text(cleaned) == (cleaned, set())


@given(st.one_of(st.text(), st.lists(PIECES).map("".join)))
def test_reports_a_step_exactly_if_the_text_changed(text: str) -> None:
    cleaned, steps = clean_text(text)
    assert bool(steps) == (cleaned != text)


@given(st.one_of(st.text(), st.text(st.sampled_from("ab &;.\t\n\x00\u200b")), st.lists(PIECES).map("".join)))
def test_what_is_taken_for_plain_is_what_no_step_changes(text: str) -> None:
    """The quick look at a text spares the steps, and never a change."""
    stepped = text
    for step in STEPS.values():
        stepped = step(stepped)
    assert (clean_text(text)[0] == text) == (stepped == text)


def test_counts_posts_per_step() -> None:
    posts = pd.DataFrame({"post_id": ["a", "b", "c"], "text": ["a  b", " &lt;3 ", "fine"], "author": None})
    cleaned, counts = clean_posts(posts, PLAIN)
    assert cleaned["text"].tolist() == ["a b", "<3", "fine"]
    assert counts == {
        "html_entities": 1, "mojibake": 0, "unicode": 0, "whitespace": 2, "invisible_characters": 0, "any": 2
    }  # fmt: skip
    assert posts["text"].tolist()[0] == "a  b"


def test_a_post_that_vanishes_is_named() -> None:
    posts = pd.DataFrame({"post_id": ["s_1_1", "s_1_2"], "text": ["words", "\u200b&#x200B;"], "author": None})
    with pytest.raises(MentallamError, match=r"1 posts .* s_1_2"):
        clean_posts(posts, PLAIN)


def test_the_text_as_written_leaves_its_hash() -> None:
    written = " caf\u00c3\u00a9 "
    cleaned, _ = clean_posts(pd.DataFrame({"post_id": ["a"], "text": [written], "author": None}), PLAIN)
    assert cleaned["raw_sha256"].tolist() == [hashlib.sha256(written.encode()).hexdigest()]


def test_authors_come_from_the_corpus_or_from_the_ids() -> None:
    posts = pd.DataFrame({"post_id": ["s_7_1", "p2"], "text": ["a", "b"], "author": None})
    assert clean_posts(posts, PLAIN)[0]["author"].fillna("?").tolist() == ["7", "?"]
    assert clean_posts(posts.assign(author=["x", "y"]), PLAIN)[0]["author"].tolist() == ["x", "y"]


def test_masking_is_counted_per_kind_and_only_done_if_asked_for() -> None:
    posts = pd.DataFrame(
        {"post_id": ["a", "b"], "text": ["ask &lt;me@example.com&gt; or u/some_one", "fine"], "author": None}
    )
    masked, counts = clean_posts(posts, MASKING)
    assert masked["text"].tolist() == ["ask <[EMAIL]> or [USER]", "fine"]
    assert {name: n for name, n in counts.items() if n} == {
        "html_entities": 1, "masked_email": 1, "masked_user": 1, "any": 1
    }  # fmt: skip
    kept, counts = clean_posts(posts, PLAIN)
    assert kept["text"].tolist()[0] == "ask <me@example.com> or u/some_one"
    assert not [name for name in counts if name.startswith("masked")]


@given(st.one_of(st.text(), st.lists(PIECES).map("".join)), st.booleans())
def test_preparing_is_idempotent(text: str, mask: bool) -> None:
    prepared, _ = prepare_text(text, mask)
    assert prepare_text(prepared, mask) == (prepared, set())
