"""The posts of an input as one table, read as `on_error=stop` reads it: the first bad row is an error."""

from typing import Any

import pandas as pd

from mentallam.corpus.texts import clean_text
from mentallam.errors import MentallamError
from mentallam.serving.posts import RowError, join_rows, read_post
from mentallam.serving.sources import find_sources


def read_posts(path: Any, columns: dict[str, str | None] | None = None) -> pd.DataFrame:
    """Return columns post_id, text and criterion_id (None: all criteria), one row per row of the input."""
    posts = {}
    for source in find_sources(path, columns):
        for row in source.rows():
            place = f"{source.name}, row {row.number}"
            try:
                if row.values is None:
                    raise RowError(row.reason)
                posts[place] = read_post(row.values, f"{source.label}:{row.number}".lstrip(":"))
                if not clean_text(posts[place].text)[0]:
                    raise RowError("the text is empty; fill it in or remove the row")
            except RowError as error:
                raise MentallamError(f"{place}: {error.reason}") from None
    for place, error in join_rows(posts)[1].items():
        raise MentallamError(f"{place}: {error.reason}")
    if not posts:
        raise MentallamError(f"{path} is empty; it needs at least one post")
    rows = [(post.post_id, post.text, post.criteria and post.criteria[0]) for post in posts.values()]
    return pd.DataFrame(rows, columns=["post_id", "text", "criterion_id"], dtype=object)
