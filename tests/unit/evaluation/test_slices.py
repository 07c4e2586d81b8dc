import pandas as pd

from mentallam.evaluation.metrics import pair_metrics
from mentallam.evaluation.slices import explicit_negatives, slice_metrics


def test_slices_by_length_hold_every_pair_once(oof: pd.DataFrame) -> None:
    rows = slice_metrics(oof.assign(truncated=oof["post_id"] == "s_0_1"))
    by_name = {row["slice"]: row for row in rows}
    quarters = [row for row in rows if row["slice"].startswith("posts of")]
    assert sum(row["n"] for row in quarters) == len(oof)
    assert 2 <= len(quarters) <= 4
    assert (by_name["truncated posts"]["n"], by_name["whole posts"]["n"]) == (9, len(oof) - 9)


def test_a_slice_has_the_metrics_of_its_pairs(oof: pd.DataFrame) -> None:
    shortest = oof[oof["post_tokens"] == oof["post_tokens"].min()]
    row = next(
        row for row in slice_metrics(oof) if row["slice"].startswith(f"posts of {shortest['post_tokens'].min()} ")
    )
    lowest = oof[oof["post_tokens"] <= int(row["slice"].split(" ")[4])]
    assert row["n_posts"] == lowest["post_id"].nunique()
    for name, value in pair_metrics(lowest["label"], lowest["probability"], lowest["prediction"]).items():
        assert row[name] == value


def test_posts_of_one_length_are_one_slice(oof: pd.DataFrame) -> None:
    rows = slice_metrics(oof.assign(post_tokens=7))
    assert [row["slice"] for row in rows] == ["whole posts", "posts of 7 to 7 tokens"]


def test_explicit_negatives_are_counted_separately(oof: pd.DataFrame) -> None:
    unmatched = oof.index[oof["label"] == 0]
    marked = oof.assign(explicit_negative=oof.index.isin(unmatched[:4]), prediction=0)
    marked.loc[unmatched[[0, 1, 2, 10]], "prediction"] = 1
    assert explicit_negatives(marked) == {
        "n": 4,
        "false_alarms": 3,
        "rate": 0.75,
        "rate_of_other_unmatched": 1 / (len(unmatched) - 4),
    }


def test_without_explicit_negatives_there_is_no_rate(oof: pd.DataFrame) -> None:
    assert explicit_negatives(oof)["rate"] is None


def test_posts_are_divided_by_whether_their_author_was_seen(oof: pd.DataFrame) -> None:
    assert not [row for row in slice_metrics(oof) if row["slice"].startswith("author")]  # no author is known
    nothing_seen = oof.assign(author_seen=pd.array([False] * len(oof), dtype="boolean"))
    assert not [row for row in slice_metrics(nothing_seen) if row["slice"].startswith("author")]

    posts = oof["post_id"].drop_duplicates().tolist()
    known = {**dict.fromkeys(posts[:20], True), **dict.fromkeys(posts[20:50], False)}
    rows = slice_metrics(oof.assign(author_seen=oof["post_id"].map(known).astype("boolean")))
    by_name = {row["slice"]: row for row in rows}
    for name, ids in (("author seen in training", posts[:20]), ("author not seen in training", posts[20:50])):
        pairs = oof[oof["post_id"].isin(ids)]
        assert (by_name[name]["n_posts"], by_name[name]["n"]) == (len(ids), 9 * len(ids))
        assert by_name[name]["n_positive"] == pairs["label"].sum()
        assert by_name[name]["f1"] == pair_metrics(pairs["label"], pairs["probability"], pairs["prediction"])["f1"]
