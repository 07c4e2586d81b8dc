"""Made-up corpora in the format `pairs`, written with chosen posts and labels."""

from collections.abc import Callable
from pathlib import Path

import pandas as pd


def a_walk(number: int) -> str:
    """Return a post that is no near duplicate of another number's."""
    return f"Day {number}: I walked {number**2} steps past number {7 * number + 3} and said nothing for {number} hours."


def write_corpus(
    folder: Path,
    label: Callable[[int, int], bool],
    n_posts: int = 30,
    n_criteria: int = 3,
    post: Callable[[int], str] = a_walk,
) -> Path:
    """Write a corpus whose posts are p0, p1, ... and whose criteria are c0, c1, ...; return its folder.

    Args:
        folder: A new folder.
        label: Returns whether a post matches a criterion, by their numbers.
        n_posts: Number of posts.
        n_criteria: Number of criteria.
        post: Returns the text of a post by its number.
    """
    folder.mkdir(parents=True)
    posts, criteria = range(n_posts), range(n_criteria)
    _write(folder / "posts.csv", {"post_id": [f"p{p}" for p in posts], "post": map(post, posts)})
    wording = [f"The writer speaks of topic {c}." for c in criteria]
    _write(folder / "criteria.csv", {"criterion_id": [f"c{c}" for c in criteria], "criterion": wording})
    rows = [(f"p{p}", f"c{c}", "yes" if label(p, c) else "no") for p in posts for c in criteria]
    post_ids, criterion_ids, labels = zip(*rows, strict=True)
    _write(folder / "groundtruth.csv", {"post_id": post_ids, "criterion_id": criterion_ids, "label": labels})
    return folder


def _write(path: Path, columns: dict[str, object]) -> None:
    pd.DataFrame({name: list(values) for name, values in columns.items()}).to_csv(path, index=False)  # type: ignore[call-overload]
