"""A post to predict on, and the rules that its row must keep; a reason for a refusal never holds the text."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from mentallam.corpus.identifiers import is_identifier, shown
from mentallam.corpus.unreadable import SAVE_AS_UTF8
from mentallam.limits import LONGEST_VALUE

FIELDS = ("text", "post_id", "criterion_id", "criterion")
"""What a row may hold: text is needed; criterion is another name of criterion_id, or a criterion's wording."""


class RowError(Exception):
    """A row that can't be answered.

    Args:
        reason: One clause without text of the row, with the way out.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True)
class Post:
    """A post, and what is asked of it.

    Attributes:
        post_id: Its id.
        text: As it was written; the predictor cleans it.
        criteria: Ids or wordings of the criteria; None stands for all.
    """

    post_id: str
    text: str
    criteria: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Choice:
    """The criteria that can be asked of a post, apart from the model that answers.

    Attributes:
        asked: Ids of those that are asked of a post which names none.
        known: The id of each criterion, by its id and by its wording.
        ids: All ids, for messages.
    """

    asked: tuple[str, ...]
    known: Mapping[str, str]
    ids: tuple[str, ...]

    def resolve(self, post: Post) -> Post:
        """Return the post with the ids of all criteria that are asked of it, each once.

        Raises:
            RowError: The model doesn't know a criterion.
        """
        asked = self.asked if post.criteria is None else dict.fromkeys(map(self._id, post.criteria))
        return replace(post, criteria=tuple(asked))

    def _id(self, criterion: str) -> str:
        if criterion not in self.known:
            raise unknown_criterion(criterion, self.ids)
        return self.known[criterion]


def unknown_criterion(criterion: str, known: Iterable[str]) -> RowError:
    """Return the error that a model does not know a criterion.

    Args:
        criterion: What was asked.
        known: The ids of the model's criteria.
    """
    # In a file with shifted columns this may be a post's text.
    name = criterion if is_identifier(criterion) else shown(criterion)
    return RowError(
        f"unknown criterion {name}; this model knows {', '.join(known)}; another wording is asked with "
        f"criteria=FILE, or --criterion of `mentallam predict`"
    )


def read_post(row: Mapping[str, Any], default_id: str) -> Post:
    """Return the post of a row.

    Args:
        row: Values by the names in `FIELDS`; others are ignored. A missing value is None.
        default_id: The post's id if the row has none.

    Raises:
        RowError: A value is not a string, is too long or is no valid Unicode, the text is missing, or an id has white
            space around it.
    """
    for name in FIELDS:
        _check_value(name, row.get(name))
    text = row.get("text")
    if not text:
        raise RowError("the text is empty; fill it in or remove the row")
    post_id = _identifier("post_id", row.get("post_id"))
    asked = [_identifier(name, row.get(name)) for name in ("criterion_id", "criterion")]
    named = [name for name in asked if name is not None]
    if len(named) > 1:
        raise RowError("criterion_id and criterion are both filled in; keep one of them")
    return Post(post_id or default_id, text, tuple(named) or None)


def join_rows(posts: Mapping[Any, Post]) -> tuple[list[Post], dict[Any, RowError]]:
    """Join the rows of the same post.

    Args:
        posts: One post per row, by the row.

    Returns:
        One post per id, in the order of their first rows, with all criteria that its rows ask, each once; and the rows
        that contradict an earlier row of their post.
    """
    joined: dict[str, Post] = {}
    refused: dict[Any, RowError] = {}
    for row, post in posts.items():
        first = joined.get(post.post_id)
        if first is None:
            joined[post.post_id] = post
        elif first.text != post.text:
            refused[row] = two_texts(post.post_id)
        elif first.criteria is not None:
            both = None if post.criteria is None else tuple(dict.fromkeys((*first.criteria, *post.criteria)))
            joined[post.post_id] = Post(first.post_id, first.text, both)
    return list(joined.values()), refused


def two_texts(post_id: str) -> RowError:
    """Return the error of a row whose post has another text in an earlier row."""
    return RowError(f"post_id {shown(post_id)} has two texts; give each post an id of its own")


def _check_value(name: str, value: Any) -> None:
    if value is None:
        return
    if not isinstance(value, str):
        in_quotes = "; put it in quotes" if isinstance(value, int | float) else ""
        raise RowError(f"{name} must be a string{in_quotes}")
    if len(value) > LONGEST_VALUE:
        raise RowError(f"{name} has more than {LONGEST_VALUE} characters; shorten it")
    try:
        value.encode()
    except UnicodeEncodeError:  # a byte that is not UTF-8, or half of a surrogate pair, which is valid JSON
        raise RowError(f"{name} is not valid UTF-8; {SAVE_AS_UTF8}") from None


def _identifier(name: str, value: str | None) -> str | None:
    """Return an id, or None if it is missing or blank."""
    if value is None or not value.strip():
        return None
    if value != value.strip() or not value.isprintable():
        raise RowError(f"{name} has white space around it or an invisible character in it; remove that")
    return value
