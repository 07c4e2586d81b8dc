import logging

import pandas as pd
import pytest

from mentallam.corpus.cleaning import CleaningOptions, clean_posts
from mentallam.corpus.placeholders import leave_out_placeholders
from mentallam.errors import MentallamError

PLAIN = CleaningOptions(mask=False)
CRITERIA = pd.DataFrame({"criterion_id": ["A", "B"]})


def left(
    texts: list[str], options: CleaningOptions = PLAIN, labelled: str = "AB"
) -> tuple[list[str], list[tuple[str, str]], dict[str, int]]:
    """Return the ids of the remaining posts and pairs, and the counts.

    Post p0 is labelled for every criterion, other posts for those in `labelled`.
    """
    ids = [f"p{number}" for number in range(len(texts))]
    posts, _ = clean_posts(pd.DataFrame({"post_id": ids, "text": texts, "author": None}), options)
    rows = [(post_id, criterion) for post_id in ids for criterion in ("AB" if post_id == "p0" else labelled)]
    pairs = pd.DataFrame(rows, columns=["post_id", "criterion_id"])
    posts, pairs, counts = leave_out_placeholders(posts, pairs, CRITERIA, options)
    assert list(posts.index) == list(range(len(posts)))
    assert list(pairs.index) == list(range(len(pairs)))
    return posts["post_id"].tolist(), list(pairs.itertuples(index=False, name=None)), counts


@pytest.mark.parametrize(
    "text",
    [
        "[removed]",
        "[Deleted]",
        " [REMOVED]\n",
        r"\[removed\]",
        "&#91;deleted&#93;",
        "[ Removed by Reddit ]",
        "[deleted by user]",
        "\u200b[removed]\ufeff",
        "\uff3bremoved\uff3d",
    ],
)
def test_a_placeholder_is_left_out_in_any_spelling(text: str) -> None:
    posts, pairs, counts = left(["a post", text])
    assert (posts, pairs) == (["p0"], [("p0", "A"), ("p0", "B")])
    assert list(counts.values()) == [1]


@pytest.mark.parametrize("text", ["removed", "[removed] why?", "I [removed] it", "[removed][deleted]", "[]", "..."])
def test_other_texts_stay(text: str, caplog: pytest.LogCaptureFixture) -> None:
    posts, pairs, counts = left(["a post", text])
    assert (posts, len(pairs), counts) == (["p0", "p1"], 4, {})
    assert not caplog.records


def test_they_are_counted_and_named(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        posts, _, counts = left(["a post", "[removed]", "[deleted]", "[Removed]", "more"])
    assert posts == ["p0", "p4"]
    assert counts == {"[removed]": 2, "[deleted]": 1}
    assert caplog.messages == [
        "3 of 5 posts are placeholders of deleted posts and are left out: [removed] (2), [deleted] (1)"
    ]


def test_others_can_be_named_and_none() -> None:
    texts = ["a post", "[removed]", "gone", "ask me@example.com"]
    assert left(texts, CleaningOptions(mask=False, placeholders=("gone",)))[2] == {"gone": 1}
    assert left(texts, CleaningOptions(mask=False, placeholders=()))[2] == {}
    # Placeholders are masked like posts before they are compared.
    assert left(texts, CleaningOptions(mask=True, placeholders=("Ask me@example.com",)))[0] == ["p0", "p1", "p2"]


def test_nothing_but_placeholders_is_one_sentence() -> None:
    with pytest.raises(
        MentallamError, match=r"^all 3 posts are placeholders .*: \[removed\] \(2\), \[deleted\] \(1\); "
    ):
        left(["[removed]", "[deleted]", "[removed]"])


def test_a_criterion_that_loses_all_its_labels_is_named() -> None:
    assert left(["a post", "[removed]"], labelled="A")[2] == {"[removed]": 1}
    with pytest.raises(MentallamError, match=r"criterion 'B' has labels for placeholders .* only \(1 such criteria\)"):
        left(["[removed]", "a post"], labelled="A")


@pytest.mark.parametrize("placeholder", ["", " ", "\u200b"])
def test_a_blank_placeholder_is_refused(placeholder: str) -> None:
    with pytest.raises(ValueError, match="a placeholder is empty"):
        CleaningOptions(mask=False, placeholders=("[removed]", placeholder))
