import json
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import pytest

from mentallam.corpus.cleaning import CleaningOptions, clean_posts
from mentallam.corpus.duplicates import find_duplicates
from mentallam.corpus.folds import FoldOptions, make_folds
from mentallam.corpus.groups import group_posts
from mentallam.corpus.manifest import CorpusLabel, build_manifest
from mentallam.corpus.pairs import Expectation, check_counts
from mentallam.corpus.readers import Corpus, read_corpus
from mentallam.corpus.statistics import describe

LABEL = CorpusLabel(name="synthetic sample", synthetic=True)


def statistics_of(
    corpus: Corpus, n_folds: int, dev_splits: int, duplicates: Literal["group", "report"] = "group"
) -> dict[str, Any]:
    posts, cleaning_counts = clean_posts(corpus.posts, CleaningOptions(mask=False))
    expectation = Expectation(posts=0, criteria=0, pairs=0, override_reason="a test")
    counts = check_counts(posts, corpus.criteria, corpus.pairs, expectation)
    options = FoldOptions(seed=42, group_by="post_id", dev_splits=dev_splits, duplicates=duplicates)
    links = find_duplicates(posts, options.near_duplicate_threshold, options.containment_threshold)
    groups = group_posts(posts, "post_id", links if duplicates == "group" else None)
    frames = {"posts": posts, "criteria": corpus.criteria, "pairs": corpus.pairs}
    manifest = build_manifest(
        corpus.source, LABEL, CleaningOptions(mask=False), options, cleaning_counts, counts, **frames, groups=groups
    )
    folds = make_folds(corpus.pairs, groups, options, n_folds, manifest["data_hash"])
    return describe(manifest, corpus.annotation_counts, {"[removed]": 2}, counts, *frames.values(), links, *folds)


def test_figures_of_the_sample(sample: Corpus) -> None:
    found = statistics_of(sample, 5, 5)
    assert json.loads(json.dumps(found)) == found
    assert (found["n_posts"], found["n_authors"], found["n_pairs"], found["n_positive"]) == (60, 45, 540, 61)
    assert found["base_rate"] == pytest.approx(61 / 540)
    assert found["n_without_symptom"] == 14
    assert found["synthetic"] is True
    assert found["criteria"]["A.1"]["positive"] == 10
    assert list(found["criteria"]) == [f"A.{number}" for number in range(1, 10)]
    assert found["annotations"]["special_case"] == 4
    assert found["counts"]["override_reason"] == "a test"
    assert found["folds"]["held_out_posts"] == [12, 12, 11, 13, 12]
    assert found["posts_cleaned"]["any"] > 0
    assert found["placeholder_posts"] == {"[removed]": 2}
    assert found["folds"]["balance"] == {
        "fold": 3, "posts": 13, "share": 13 / 60, "equal_share": 0.2, "uneven": False
    }  # fmt: skip
    for label in ("positives", "negatives"):
        assert found["folds"][f"without_{label}"] == {"train": [], "dev": [], "held_out": []}
    assert len(found["data_hash"]) == 64


def test_figures_of_a_small_corpus(corpus: Corpus) -> None:
    found = statistics_of(corpus, 3, 2)
    assert found["criteria"] == {
        "A.2": {"symptom": "ANHEDONIA", "positive": 0, "explicit_negative": 1},
        "A.6": {"symptom": "FATIGUE", "positive": 1, "explicit_negative": 0},
    }
    assert found["n_without_symptom"] == 2
    assert found["annotations"] == {"rows": 4, "special_case": 1, "contradictory": 0}
    assert found["words_per_post"] == {
        "mean": pytest.approx(13 / 3), "min": 2, "q25": 2.5, "q50": 3.0, "q75": 5.5, "max": 8
    }  # fmt: skip
    # Each fold holds out one of three posts, so the two posts of author 1 straddle folds.
    assert (found["n_authors"], found["n_authors_straddling_folds"]) == (2, 1)


def test_contradictory_annotations_are_counted(folder: Path) -> None:
    path = folder / "redsm5_annotations.csv"
    path.write_text(path.read_text() + "s_1_1,s_1_1_2,again,FATIGUE,0,Why.\n")
    found = statistics_of(read_corpus("redsm5", folder, folder / "criteria.csv"), 3, 2)
    assert found["annotations"]["contradictory"] == 1
    assert found["criteria"]["A.6"] == {"symptom": "FATIGUE", "positive": 1, "explicit_negative": 0}


def test_ids_that_name_no_author_and_pairs_without_a_label(pairs_folder: Path) -> None:
    more = {
        "posts": "".join(f"p{number},One more {number}.\n" for number in range(4, 9)),
        "groundtruth": "".join(f"p{number},{name},no\n" for number in range(4, 9) for name in ("social", "physical")),
    }
    for name, rows in more.items():
        with (pairs_folder / f"{name}.csv").open("a") as file:
            file.write(rows.replace("p8,social,no\n", ""))
    found = statistics_of(read_corpus("pairs", pairs_folder, missing_pairs="allowed"), 2, 2)
    assert found["n_authors"] is None
    assert found["n_authors_straddling_folds"] is None
    assert (found["n_pairs"], found["n_unlabelled"]) == (15, 1)
    assert found["annotations"] == {}


def test_duplicates_are_counted_and_kept_together(folder: Path) -> None:
    with (folder / "redsm5_posts.csv").open("a") as file:
        file.write("s_3_1,a second one\ns_4_1,The third.\n")
    corpus = read_corpus("redsm5", folder, folder / "criteria.csv")
    for seed in range(3):  # of the order of the rows
        shuffled = replace(corpus, posts=corpus.posts.sample(frac=1, random_state=seed))
        found = statistics_of(shuffled, 3, 2)["duplicates"]
        thresholds = {"threshold": 0.8, "containment_threshold": 0.75}
        assert found == {"handling": "group", **thresholds, "sets": 1, "posts": 2, "sets_straddling_folds": 0}
    found = statistics_of(corpus, 5, 2, duplicates="report")["duplicates"]
    assert (found["handling"], found["sets"], found["sets_straddling_folds"]) == ("report", 1, 1)


def test_stratification_is_told_per_criterion_and_fold(sample: Corpus) -> None:
    found = statistics_of(sample, 5, 5)
    held_out, quality = found["folds"]["held_out_posts"], found["folds"]["stratification"]
    assert list(quality) == list(found["criteria"])
    for criterion_id, spread in quality.items():
        assert sum(spread["held_out_positive"]) == found["criteria"][criterion_id]["positive"]
        off = [abs(n / size - spread["rate"]) for n, size in zip(spread["held_out_positive"], held_out, strict=True)]
        assert spread["max_deviation"] == pytest.approx(max(off))
        assert spread["rate"] == pytest.approx(found["criteria"][criterion_id]["positive"] / 60)


def test_no_word_of_a_post_is_told(sample: Corpus) -> None:
    told = json.dumps(statistics_of(sample, 5, 5))
    assert not any(sentence in told for text in sample.posts["text"] for sentence in text.split(". ") if sentence)
