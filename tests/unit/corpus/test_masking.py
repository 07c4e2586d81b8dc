import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mentallam.corpus.masking import KINDS, masked

# Pieces that form links, names and numbers, alone and in combination.
PIECES = st.sampled_from(
    ["me", "@", "u/", "/", ".", "com", "http://", "www.", "212", "-", "736", "5000", " ", "(", ")", "+1", "[URL]", ":"]
)


@pytest.mark.parametrize(
    ("text", "shown", "kinds"),
    [
        ("write to jo.doe+x@mail.example.org, please", "write to [EMAIL], please", {"email"}),
        ("see https://example.com/a?b=c.", "see [URL].", {"url"}),
        ("see www.example.net or reddit.com/r/sleep", "see [URL] or [URL]", {"url"}),
        ("thanks u/some-one and (/u/Other_1)", "thanks [USER] and (/[USER])", {"user"}),
        ("@handle said so", "[USER] said so", {"user"}),
        ("call (212) 736-5000 or +44 20 7946 0958 today", "call [PHONE] or [PHONE] today", {"phone"}),
        ("https://example.com/2127365000", "[URL]", {"url"}),
        ("mail a.b@c.de, u/abc", "mail [EMAIL], [USER]", {"email", "user"}),
    ],
)
def test_what_is_masked(text: str, shown: str, kinds: set[str]) -> None:
    assert masked(text) == (shown, kinds)
    assert kinds <= set(KINDS)


@pytest.mark.parametrize(
    "text",
    [
        "I slept all day.it helped",  # a forgotten space
        "he/him, 50/50, and/or, 3.5 hours, at 10:30 on 10/12/2019",
        "e.g. this... and i.e. that",
        "meet @ 5pm or u/ me",
        "1234567 steps in 2019 and 2020",
    ],
)
def test_what_stays(text: str) -> None:
    assert masked(text) == (text, set())


@example("@A0@A0")
@given(st.one_of(st.text(), st.lists(PIECES).map("".join)))
def test_idempotent(text: str) -> None:
    shown, kinds = masked(text)
    assert bool(kinds) == (shown != text)
    assert masked(shown) == (shown, set())
