"""Groups: posts that must not straddle folds."""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from mentallam.errors import MentallamError


def author_of(post_ids: pd.Series[str]) -> pd.Series[str]:
    """Return the author of each ReDSM5 id s_<author>_<n>; missing for an id of another form."""
    return post_ids.str.extract(r"^s_(.+)_\d+$", expand=False)


def group_posts(posts: pd.DataFrame, group_by: str, duplicates: pd.DataFrame | None) -> pd.DataFrame:
    """Assign each post to a group.

    Args:
        posts: post_id, author.
        group_by: post_id or author.
        duplicates: post_id, duplicate_of: links between posts that belong to one group as well; None for none.

    Returns:
        post_id, group: the smallest post id or author of the group; in the order of `posts`.

    Raises:
        MentallamError: Posts are grouped by author, and the author of a post is unknown.
    """
    key = posts[group_by]
    if key.isna().any():
        raise MentallamError(
            f"folds.group_by is author, but nothing names the author of post {posts['post_id'][key.isna()].iloc[0]}: "
            "use post_id, ids of the form s_<author>_<n>, or a column author"
        )
    if duplicates is not None and not duplicates.empty:
        key = _joined(key, posts["post_id"], duplicates)
    return pd.DataFrame({"post_id": posts["post_id"], "group": key}).reset_index(drop=True)


def _joined(key: pd.Series[str], post_ids: pd.Series[str], duplicates: pd.DataFrame) -> pd.Series[str]:
    """Join the groups that duplicates connect, directly or through other groups."""
    codes, names = pd.factorize(key, sort=True)
    code_of = pd.Series(codes, index=post_ids)
    edges = code_of[duplicates["post_id"]].to_numpy(), code_of[duplicates["duplicate_of"]].to_numpy()
    graph = coo_array((np.ones(len(duplicates), dtype=np.int8), edges), shape=(len(names), len(names)))
    _, component = connected_components(graph, directed=False)
    # The names are sorted, so the first of a component is its smallest.
    first = pd.Series(np.arange(len(names))).groupby(component).transform("min").to_numpy()
    return pd.Series(names[first[codes]], index=key.index, dtype=key.dtype)
