"""The committed corpus `written`: as its data sheet says."""

import re
from collections import Counter

import pandas as pd
import pytest

from tests.samples import PROJECT

FOLDER = PROJECT / "data/01_raw/written"


@pytest.fixture(scope="module")
def posts() -> pd.DataFrame:
    return pd.read_csv(FOLDER / "redsm5_posts.csv")


@pytest.fixture(scope="module")
def annotations() -> pd.DataFrame:
    return pd.read_csv(FOLDER / "redsm5_annotations.csv")


def test_each_annotated_sentence_stands_in_its_post_and_in_no_other(
    posts: pd.DataFrame, annotations: pd.DataFrame
) -> None:
    texts = dict(zip(posts["post_id"], posts["text"], strict=True))
    for row in annotations.itertuples():
        assert [name for name, text in texts.items() if row.sentence_text in text] == [row.post_id]
    sentences = [s for text in posts["text"] for s in re.split(r"(?<=[.!?])\s+", text) if len(s.split()) > 3]
    assert [s for s, count in Counter(sentences).items() if count > 1] == []


def test_the_data_sheet_has_the_counts(posts: pd.DataFrame, annotations: pd.DataFrame) -> None:
    sheet = (FOLDER / "README.md").read_text(encoding="utf-8")
    words = posts["text"].str.split().str.len()
    authors = posts["post_id"].str.rpartition("_")[0].nunique()
    assert (
        f"{len(posts)} posts, {words.min()} to {words.max()} words, mean {words.mean():.1f}; {authors} authors" in sheet
    )
    matched = annotations[(annotations["status"] == 1) & (annotations["DSM5_symptom"] != "SPECIAL_CASE")]
    pairs = matched.drop_duplicates(["post_id", "DSM5_symptom"])
    without = len(posts) - pairs["post_id"].nunique()
    assert f"{len(pairs)} positive pairs of {9 * len(posts):,}; {without} posts show no symptom" in sheet
    for symptom, count in pairs["DSM5_symptom"].value_counts().items():
        assert f"| {symptom} | {count} |" in sheet
    by_status = annotations["status"].value_counts()
    assert (
        f"{len(annotations)} annotations: {by_status[1]} with status 1" in sheet and f"; {by_status[0]} near" in sheet
    )


def test_nothing_in_it_identifies_anyone(posts: pd.DataFrame) -> None:
    text = "\n".join(posts["text"])
    assert not re.search(r"https?://|www\.|@\w|\bu/|\br/|\d{5,}", text)
