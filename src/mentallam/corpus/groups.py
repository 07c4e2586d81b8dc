"""Groups: posts that must not straddle folds. Clusters: posts that intervals and tests draw together."""

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
    """Assign each post to a group, and to a cluster.

    Posts of one author are alike whatever the folds group by, and so are copies of one post by several authors. The
    clusters are therefore the smallest sets that divide neither a group nor an author. A post of an unknown author
    belongs to the cluster of its group.

    Args:
        posts: post_id, author.
        group_by: post_id or author.
        duplicates: post_id, duplicate_of: links between posts that belong to one group as well; None for none.

    Returns:
        post_id, group (the smallest post id or author of the group), cluster (its smallest post id); in the order of
        `posts`.

    Raises:
        MentallamError: Posts are grouped by author, and the author of a post is unknown.
    """
    key = posts[group_by]
    if key.isna().any():
        raise MentallamError(
            f"folds.group_by is author, but nothing names the author of post {posts['post_id'][key.isna()].iloc[0]}: "
            "use post_id, ids of the form s_<author>_<n>, or a column author"
        )
    post_ids = posts["post_id"]
    if duplicates is not None and not duplicates.empty:
        key = _joined(key, post_ids, duplicates["post_id"], duplicates["duplicate_of"])
    # Each post is linked to the first one of its group and of its author.
    links = [post_ids.groupby(unit).transform("first") for unit in (key, posts["author"])]
    is_known = posts["author"].notna()
    cluster = _joined(
        post_ids,
        post_ids,
        pd.concat([post_ids, post_ids[is_known]]),
        pd.concat([links[0], links[1][is_known]]),
    )
    return pd.DataFrame({"post_id": post_ids, "group": key, "cluster": cluster}).reset_index(drop=True)


def _joined(
    key: pd.Series[str], post_ids: pd.Series[str], linked: pd.Series[str], linked_to: pd.Series[str]
) -> pd.Series[str]:
    """Join the keys of posts that are linked, directly or through others, under the smallest."""
    codes, names = pd.factorize(key, sort=True)
    code_of = pd.Series(codes, index=post_ids)
    edges = code_of[linked].to_numpy(), code_of[linked_to].to_numpy()
    graph = coo_array((np.ones(len(linked), dtype=np.int32), edges), shape=(len(names), len(names)))
    _, component = connected_components(graph, directed=False)
    # The names are sorted, so the first of a component is its smallest.
    first = pd.Series(np.arange(len(names))).groupby(component).transform("min").to_numpy()
    return pd.Series(names[first[codes]], index=key.index, dtype=key.dtype)
