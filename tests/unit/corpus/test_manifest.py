import hashlib
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.version import Version

from mentallam.corpus.cleaning import CleaningOptions
from mentallam.corpus.folds import FoldOptions
from mentallam.corpus.manifest import CorpusLabel, Manifest, build_manifest, find_changed_file, frame_hash
from mentallam.corpus.readers import Corpus, read_corpus

FRAMES = {
    "posts": pd.DataFrame({"post_id": ["a", "b"], "text": ["one", "tw\u00f6"], "author": ["x", None]}),
    "criteria": pd.DataFrame({"criterion_id": ["A.1", "A.2"], "symptom": ["S", "T"], "criterion": ["sad", "tired"]}),
    "pairs": pd.DataFrame(
        {
            "post_id": ["a", "a", "b"],
            "criterion_id": ["A.1", "A.2", "A.1"],
            "label": np.array([1, 0, 0], dtype="int8"),
            "explicit_negative": [False, True, False],
        }
    ),
    "groups": pd.DataFrame({"post_id": ["a", "b"], "group": ["a", "b"], "cluster": ["a", "b"]}),
}
PLAIN = CleaningOptions(mask=False)
FOLDS = FoldOptions(seed=42, group_by="post_id", dev_splits=5)
LABEL = CorpusLabel(name="two posts", synthetic=True)
COUNTS = {"any": 1}
CHECKED = {"found": {"posts": 9}}  # as read: seven of them were placeholders


def manifest_of(
    corpus: Corpus, frames: dict[str, pd.DataFrame], cleaning: CleaningOptions = PLAIN, folds: FoldOptions = FOLDS
) -> Manifest:
    return build_manifest(corpus.source, LABEL, cleaning, folds, COUNTS, CHECKED, **frames)


def test_a_column_is_hashed_as_documented() -> None:
    frame = pd.DataFrame({"n": [2, 1], "id": ["\u00e9", "a"]})
    documented = hashlib.sha256()
    documented.update(b'["id", 2]' + np.array([1, 2], dtype="<i8").tobytes() + "a\u00e9".encode())
    documented.update(b'["n", 2]' + np.array([1, 2], dtype="<i8").tobytes())
    assert frame_hash(frame, ["id"]) == documented.hexdigest()


# The categories of pandas 2 take a string to end at its first NUL, which no id may hold.
_NUL = "\x00" if Version(pd.__version__) < Version("3") else ""
IDS = st.text(st.characters(exclude_characters=_NUL, exclude_categories=("Cs",)))


@given(st.lists(st.tuples(IDS, st.one_of(st.none(), st.text()), st.booleans()), unique_by=lambda row: row[0]))
def test_hash_depends_on_values_alone(rows: list[tuple[str, str | None, bool]]) -> None:
    frame = pd.DataFrame(rows, columns=["id", "text", "flag"]).astype({"id": str, "text": str, "flag": bool})
    frame["text"] = pd.Series([text for _, text, _ in rows], dtype=frame["text"].dtype)
    expected = frame_hash(frame, ["id"])
    assert frame_hash(frame.sample(frac=1, random_state=1)[["flag", "text", "id"]], ["id"]) == expected
    assert frame_hash(frame.astype({"flag": "int8", "id": object}), ["id"]) == expected
    assert frame_hash(frame.astype({"id": "category"}), ["id"]) == expected


def test_hash_tells_neighbours_and_missing_values_apart() -> None:
    def hash_of(*values: str | None) -> str:
        return frame_hash(pd.DataFrame({"id": ["1", "2"], "text": pd.Series(values, dtype=str)}), ["id"])

    assert (
        len({hash_of("ab", "c"), hash_of("a", "bc"), hash_of("abc", ""), hash_of("abc", None), hash_of("", "abc")}) == 5
    )


def test_hash_of_sliced_and_of_no_rows() -> None:
    posts = FRAMES["posts"]
    assert frame_hash(posts[1:], ["post_id"]) == frame_hash(posts[1:].copy().reset_index(drop=True), ["post_id"])
    assert frame_hash(posts[:0], ["post_id"]) != frame_hash(posts, ["post_id"])


@pytest.mark.parametrize(
    ("name", "column"),
    [(name, column) for name in ("posts", "criteria", "pairs") for column in FRAMES[name]],
)
def test_data_hash_depends_on_every_column(corpus: Corpus, name: str, column: str) -> None:
    changed = FRAMES[name].copy()
    changed.loc[1, column] = {"label": 1, "explicit_negative": False}.get(column, "other")
    before, after = manifest_of(corpus, FRAMES), manifest_of(corpus, FRAMES | {name: changed})
    assert before["data_hash"] != after["data_hash"]
    assert [other for other in FRAMES if before["frames"][other] != after["frames"][other]] == [name]


def test_data_hash_depends_on_the_options_that_shape_the_data(corpus: Corpus) -> None:
    def hash_of(cleaning: CleaningOptions = PLAIN, **changed: object) -> str:
        return manifest_of(corpus, FRAMES, cleaning, FOLDS.model_copy(update=changed))["data_hash"]

    hashes = [
        hash_of(),
        hash_of(CleaningOptions(mask=True)),
        hash_of(group_by="author"),
        hash_of(duplicates="report"),
        hash_of(near_duplicate_threshold=0.9),
        hash_of(containment_threshold=0.9),
    ]
    assert len(set(hashes)) == len(hashes)
    assert hash_of(seed=1, dev_splits=2, max_share=0.9) == hash_of()  # other folds of the same data
    assert hash_of(CleaningOptions(mask=False, placeholders=())) == hash_of()  # the posts themselves are hashed


def test_data_hash_does_not_depend_on_the_name_of_the_corpus(corpus: Corpus) -> None:
    other = CorpusLabel(name="other", synthetic=False)
    renamed = build_manifest(corpus.source, other, PLAIN, FOLDS, COUNTS, CHECKED, **FRAMES)
    assert renamed["data_hash"] == manifest_of(corpus, FRAMES)["data_hash"]


def test_options_are_those_that_a_change_of_which_needs_new_data(corpus: Corpus) -> None:
    assert manifest_of(corpus, FRAMES)["options"] == {
        "cleaning": {"mask": False, "placeholders": list(PLAIN.placeholders)},
        "folds": {
            **{"group_by": "post_id", "duplicates": "group"},
            **{"near_duplicate_threshold": 0.8, "containment_threshold": 0.75},
        },
    }


def test_manifest_lists_files_counts_and_versions(corpus: Corpus, folder: Path) -> None:
    manifest = manifest_of(corpus, FRAMES)
    assert json.loads(json.dumps(manifest)) == manifest
    assert (manifest["corpus"], manifest["synthetic"]) == ("two posts", True)
    assert manifest["source"]["format"] == "redsm5"
    assert manifest["source"]["folder"] == folder.name
    assert manifest["source"]["files"] == [
        {"path": name, "bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        for name in ("redsm5_posts.csv", "redsm5_annotations.csv", "criteria.csv")
        for content in [(folder / name).read_bytes()]
    ]
    assert manifest["counts"] == {
        "posts": 2, "placeholder_posts": 7, "criteria": 2, "pairs": 3, "positive_pairs": 1, "groups": 2
    }  # fmt: skip
    assert manifest["posts_cleaned"] == COUNTS
    assert {"mentallam", "ftfy", "scikit-learn", "pandas"} <= manifest["versions"].keys()
    assert str(folder) not in json.dumps(manifest)


def test_a_changed_file_is_found_and_a_missing_one_is_no_change(folder: Path) -> None:
    manifest = manifest_of(read_corpus("redsm5", folder, folder / "criteria.csv"), FRAMES)
    assert find_changed_file(manifest, folder) is None
    annotations = folder / "redsm5_annotations.csv"
    content = annotations.read_bytes()
    annotations.write_bytes(content.replace(b"FATIGUE,1", b"FATIGUE,0"))  # the same size
    assert find_changed_file(manifest, folder) == annotations
    annotations.write_bytes(content + b"\n")
    assert find_changed_file(manifest, folder) == annotations
    annotations.unlink()
    assert find_changed_file(manifest, folder) is None


def test_criteria_elsewhere_are_found_from_the_corpus(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    criteria = tmp_path_factory.mktemp("elsewhere") / "criteria.csv"
    criteria.write_bytes((folder / "criteria.csv").read_bytes())
    manifest = manifest_of(read_corpus("redsm5", folder, criteria), FRAMES)
    criteria.write_bytes(criteria.read_bytes() + b"\n")
    assert find_changed_file(manifest, folder) == criteria
