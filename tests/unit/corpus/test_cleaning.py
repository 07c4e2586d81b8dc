import hashlib
import re
import sys
import unicodedata

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mentallam.corpus import texts
from mentallam.corpus.cleaning import CleaningOptions, clean_posts
from mentallam.corpus.texts import STEPS, clean_text, prepare_text
from mentallam.errors import MentallamError

PLAIN, MASKING = CleaningOptions(mask=False), CleaningOptions(mask=True)

# Pieces on which one step creates work for another.
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
        "\n\n",
        "\x1c",
        " ",
        "e\u0301",
        "\u00c3\u00a9",
        "ok",
        "&copy=",
        "&notit;",
        "&zwj;",
        "\u200d",
        "\u200c",
        "\u0645",
        "\u094d",
        "\U0001f469",
        "\ufe0f",
        "\u2642",
        "\U0001f3f4",
        "\U000e0067\U000e0062\U000e0065",
        "\U000e007f",
        "\u00bd",
        "\u2075",
        "u/",
        "@",
        "me.org/",
    ]
)


@pytest.mark.parametrize(
    ("text", "cleaned", "steps"),
    [
        ("nothing to do, caf\u00e9 \U0001f642", "nothing to do, caf\u00e9 \U0001f642", set()),
        ("you &amp;amp; me", "you & me", {"html_entities"}),
        ("caf\u00c3\u00a9", "caf\u00e9", {"mojibake"}),
        ("\uff26\uff35\uff2c\uff2c \ufb01ne", "FULL fine", {"unicode"}),
        (" a\t b\r\n c ", "a b c", {"whitespace"}),
        ("a\n\nb", "a\n\nb", set()),
        (" a\r\n \t\r\n\r\nb\x0b\x0bc\u2028d\n\n", "a\n\nb\n\nc d", {"whitespace"}),
        ("a\n&#x200B;\nb", "a\n\nb", {"html_entities", "invisible_characters"}),
        ("a\u200bb\ufeffc\x07d\u00ade", "abcde", {"invisible_characters"}),
        ("a\n\n&#x200B;\n\nb", "a\n\nb", {"html_entities", "whitespace", "invisible_characters"}),
    ],
)
def test_steps(text: str, cleaned: str, steps: set[str]) -> None:
    assert clean_text(text) == (cleaned, steps)


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("see a.org/?a=1&copy=2&lt=3&amp", "see a.org/?a=1&copy=2&lt=3&amp"),
        ("a.org/?a=1&amp;copy=2", "a.org/?a=1&copy=2"),
        ("lbs&not happy, lbs&amp;not happy", "lbs&not happy, lbs&not happy"),
        ("&notit; &copy2; &nosuch; &; &#; &#x;", "&notit; &copy2; &nosuch; &; &#; &#x;"),
        ("&copy;&#169;&#xA9;&#XA9;&frac12;&AMP;", "\u00a9\u00a9\u00a9\u00a9\u00bd&"),
        ("&amp;amp;lt;", "<"),
    ],
)
def test_entities_end_in_a_semicolon(text: str, cleaned: str) -> None:
    assert clean_text(text)[0] == cleaned


@pytest.mark.parametrize(
    "text",
    [
        "\U0001f468\u200d\U0001f469\u200d\U0001f467",  # a family
        "\U0001f469\U0001f3fd\u200d\U0001f4bb \u2764\ufe0f\u200d\U0001f525",  # skin tone, variation selector
        "\U0001f642\u200d\u2194\ufe0f",  # a mathematical symbol as emoji
        "\U0001f3f4\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f",  # the flag of England
        "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645",  # Persian, "I want"
        "\u06f2\u06f0\u200c\u0633\u0627\u0644\u0647 CD\u200c\u0647\u0627",  # after digits, and after Latin letters
        "\u0915\u094d\u200d\u0937 \u09b0\u200d\u09cd\u09af",  # before and after a mark
        "\u00a9 1\u00bd 2\u2154 10\u2075 H\u2082O x\u00b2 x\u00b3 x\u00b9",
    ],
)
def test_characters_that_shape_words_emoji_and_numbers_stay(text: str) -> None:
    assert clean_text(text) == (text, set())


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("\u200dsad\u200c", "sad"),
        ("s\u200da\u200cd, 1\u200d2, e\u200d\u00e9, +\u200d+", "sad, 12, e\u00e9, ++"),
        ("\u0645\u200c \u200c\u0645 \u200d.\u0645", "\u0645 \u0645 .\u0645"),
        ("\u0645\u200c\u200d\u200c\u0645", "\u0645\u200c\u0645"),
        ("\u0645\u200b\u200c\u0645", "\u0645\u200c\u0645"),
        ("\U0001f642\u200d", "\U0001f642"),
        ("\u200d\U0001f642", "\U0001f642"),
        ("\U0001f642\u200dx", "\U0001f642x"),
        ("x\u200d\U0001f642", "x\U0001f642"),
        ("\U0001f642\u200d\ufe0f", "\U0001f642\ufe0f"),
        ("hi\U000e0068\U000e0069", "hi"),  # people can't see words in tags, but a model can
        ("\U0001f3f4\U000e0067\U000e0062\U000e007f", "\U0001f3f4"),
        ("\U0001f3f4" + 7 * "\U000e0067" + "\U000e007f", "\U0001f3f4"),
        ("\u200fabc\u200e \u202eabc\u202c \u2067abc\u2069", "abc abc abc"),
        ("a\u00adb\ufeffc\x00d\u200be\u2060f\x7fg", "abcdefg"),
    ],
)
def test_invisible_characters_are_removed(text: str, cleaned: str) -> None:
    assert clean_text(text)[0] == cleaned


def test_raised_digits_and_fractions_are_all_known() -> None:
    def is_raised(character: str) -> bool:
        kind = unicodedata.decomposition(character).partition(" ")[0]
        return kind == "<fraction>" or (kind in ("<super>", "<sub>") and unicodedata.digit(character, None) is not None)

    raised = {character for number in range(sys.maxunicode + 1) if is_raised(character := chr(number))}
    assert {"\u00bd", "\u2075"} < raised
    assert {found for found in map(chr, range(sys.maxunicode + 1)) if re.fullmatch(f"[{texts._RAISED}]", found)} == (
        raised
    )


@pytest.mark.parametrize("word", ["a", "\u00e9", "\u0645\u200c\u0645", "\U0001f469\u200d\U0001f4bb", "&amp;"])
def test_a_very_long_word(word: str) -> None:
    text = word * (300_000 // len(word))
    assert clean_text(text)[0] == text.replace("&amp;", "&")


@given(st.one_of(st.text(), st.lists(PIECES).map("".join)))
def test_idempotent(text: str) -> None:
    cleaned, _ = clean_text(text)
    assert clean_text(cleaned) == (cleaned, set())


@given(st.lists(st.lists(st.sampled_from(["so", "tired", "\u0645\u200c\u0645", "&"]), min_size=1), min_size=1))
def test_words_and_paragraphs_stay_as_they_are(paragraphs: list[list[str]]) -> None:
    text = "\n\n".join(map(" ".join, paragraphs))
    assert clean_text(text) == (text, set())
    assert clean_text(text.replace("\n\n", " \r\n\u200b\r\n").replace(" ", "\t\n "))[0] == text


@given(st.one_of(st.text(), st.lists(PIECES).map("".join)))
def test_reports_a_step_exactly_if_the_text_changed(text: str) -> None:
    cleaned, steps = clean_text(text)
    assert bool(steps) == (cleaned != text)


def test_joiners_that_masking_uncovers_are_removed() -> None:
    text = "\u0645\u200c212-555-0123\u200c\u0645"
    assert clean_text(text) == (text, set())
    assert prepare_text(text, mask=True) == ("\u0645[PHONE]\u0645", {"masked_phone", "invisible_characters"})


@given(st.one_of(st.text(), st.text(st.sampled_from("ab &;.\t\n\x00\u200b")), st.lists(PIECES).map("".join)))
def test_a_text_that_skips_the_steps_is_one_that_no_step_changes(text: str) -> None:
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


def test_the_hash_is_that_of_the_text_as_written() -> None:
    written = " caf\u00c3\u00a9 "
    cleaned, _ = clean_posts(pd.DataFrame({"post_id": ["a"], "text": [written], "author": None}), PLAIN)
    assert cleaned["raw_sha256"].tolist() == [hashlib.sha256(written.encode()).hexdigest()]


def test_authors_come_from_the_corpus_or_from_the_ids() -> None:
    posts = pd.DataFrame({"post_id": ["s_7_1", "p2"], "text": ["a", "b"], "author": None})
    assert clean_posts(posts, PLAIN)[0]["author"].fillna("?").tolist() == ["7", "?"]
    assert clean_posts(posts.assign(author=["x", "y"]), PLAIN)[0]["author"].tolist() == ["x", "y"]


def test_masking_is_optional_and_counted_per_kind() -> None:
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
