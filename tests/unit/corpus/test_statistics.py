import json
from pathlib import Path
from typing import Any

import pytest

from mentallam.corpus.cleaning import clean_posts
from mentallam.corpus.folds import FoldOptions, make_folds
from mentallam.corpus.pairs import Expectation, check_counts, data_hash
from mentallam.corpus.readers import Corpus, read_corpus
from mentallam.corpus.statistics import CorpusLabel, describe

LABEL = CorpusLabel(name="synthetic sample", synthetic=True)


def statistics_of(corpus: Corpus, n_folds: int, dev_splits: int) -> dict[str, Any]:
    posts, cleaning_counts = clean_posts(corpus.posts)
    expectation = Expectation(posts=0, criteria=0, pairs=0, override_reason="a test")
    counts = check_counts(posts, corpus.criteria, corpus.pairs, expectation)
    options = FoldOptions(seed=42, group_by="post_id", dev_splits=dev_splits)
    folds = make_folds(corpus.pairs, options, n_folds, data_hash(posts, corpus.criteria, corpus.pairs))
    return describe(
        corpus.annotation_counts, posts, corpus.criteria, corpus.pairs, folds, cleaning_counts, counts, LABEL
    )


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
    # Three posts in three folds: the two of author 1 straddle.
    assert (found["n_authors"], found["n_authors_straddling_folds"]) == (2, 1)


def test_contradictory_annotations_are_counted(folder: Path) -> None:
    path = folder / "redsm5_annotations.csv"
    path.write_text(path.read_text() + "s_1_1,s_1_1_2,again,FATIGUE,0,Why.\n")
    found = statistics_of(read_corpus("redsm5", folder, folder / "criteria.csv"), 3, 2)
    assert found["annotations"]["contradictory"] == 1
    assert found["criteria"]["A.6"] == {"symptom": "FATIGUE", "positive": 1, "explicit_negative": 0}


def test_ids_that_name_no_author_and_pairs_without_a_label(pairs_folder: Path) -> None:
    more = {
        "posts": "".join(f"p{number},One more.\n" for number in range(4, 9)),
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


def test_no_word_of_a_post_is_told(sample: Corpus) -> None:
    told = json.dumps(statistics_of(sample, 5, 5))
    assert not any(sentence in told for text in sample.posts["text"] for sentence in text.split(". ") if sentence)
