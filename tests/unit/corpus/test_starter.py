from pathlib import Path

import pytest

from mentallam.corpus.starter import EXAMPLE, describe, write_example
from mentallam.errors import MentallamError


def test_the_examples_are_a_corpus_and_are_never_written_over_a_users_file(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "corpus"
    assert write_example(folder)
    assert sorted(path.name for path in folder.iterdir()) == sorted(f"{name}.csv" for name in EXAMPLE)
    assert describe(folder, folds=3, few=4) == ["8 posts, 2 criteria, 16 labelled pairs, 9 of them yes"]
    (folder / "posts.csv").unlink()
    assert not write_example(folder)
    with pytest.raises(MentallamError, match=r"posts\.csv is missing"):
        describe(folder, 3, 4)


@pytest.mark.parametrize("name", ["criteria.jsonl", "groundtruth.parquet"])
def test_a_file_in_another_format_counts(tmp_path: Path, name: str) -> None:
    (tmp_path / name).touch()
    assert not write_example(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_what_a_run_would_find_too_little_is_named(tmp_path: Path) -> None:
    write_example(tmp_path)
    labels = tmp_path / "groundtruth.csv"
    labels.write_text(labels.read_text().replace("p1,physical,no\n", "").replace("p3,physical,no\n", ""))
    assert describe(tmp_path, folds=2, few=5) == [
        "8 posts, 2 criteria, 14 labelled pairs, 9 of them yes",
        "2 pairs have no label: label them, or run with missing_pairs=allowed",
        "social: 4 pairs with yes; below 5 its figures are imprecise",
        "physical: 1 pairs with no, fewer than 2 folds need; label more posts",
    ]
