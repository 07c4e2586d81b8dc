"""Files of a store, here of fsspec's store in memory, and what becomes of its faults."""

import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest
from kedro.io import DatasetError

from mentallam.datasets import StorageDataset
from mentallam.errors import MentallamError
from mentallam.serving.sources import find_sources
from mentallam.storage import (
    StorageError,
    accessing,
    find,
    is_url,
    local_path,
    open_bytes,
    open_store,
    state_of,
    upload,
)


@pytest.fixture
def store() -> Iterator[Any]:
    fs = fsspec.filesystem("memory")
    yield fs
    fs.rm("/posts", recursive=True)


def fill(store: Any, *names: str) -> None:
    for name in names:
        store.pipe(f"/posts/{name}", b"text\nA post.\n")


def test_an_address_is_told_from_a_path() -> None:
    assert [is_url(given) for given in ("s3://b/x", "memory://x", "file:///x", "/x", "a/b", "-")] == [
        *(True, True),
        *(False, False, False, False),
    ]
    assert (local_path("file:///x/y"), local_path("/x/y")) == ("/x/y", "/x/y")


def test_a_file_a_folder_and_a_pattern_are_found_in_order(store: Any) -> None:
    fill(store, "b.csv", "a.csv", "notes.md", "in/c.csv")
    for given, names in (
        ("memory://posts/a.csv", ["memory://posts/a.csv"]),
        ("memory://posts", [f"memory://posts/{name}" for name in ("a.csv", "b.csv", "notes.md")]),
        ("memory://posts/*.csv", [f"memory://posts/{name}" for name in ("a.csv", "b.csv")]),
        ("memory://posts/**/*.csv", [f"memory://posts/{name}" for name in ("a.csv", "b.csv", "in/c.csv")]),
        ("memory://posts/missing.csv", []),
    ):
        assert [str(path) for path in find(given, {})] == names


def test_sources_of_a_store_are_read_and_labelled_as_files_are(store: Any, tmp_path: Path) -> None:
    fill(store, "a.csv", "in/b.csv", "c.txt", "notes.md")
    (tmp_path / "in").mkdir()
    for name in ("a.csv", "in/b.csv"):
        (tmp_path / name).write_bytes(b"text\nA post.\n")
    there = find_sources("memory://posts/**/*.csv")
    here = find_sources(f"{tmp_path}/**/*.csv")
    assert [(source.label, [*source.rows()]) for source in there] == [
        (source.label, [*source.rows()]) for source in here
    ]
    assert [source.name for source in find_sources("memory://posts")] == [
        "memory://posts/a.csv",
        "memory://posts/c.txt",
    ]
    with pytest.raises(MentallamError, match=r"notes\.md ends in \.md"):
        find_sources("memory://posts/notes.md")
    again = pickle.loads(pickle.dumps(there[0]))  # as a worker gets it
    assert [*again.rows()] == [*there[0].rows()]


def test_the_state_changes_with_the_content_alone(store: Any) -> None:
    fill(store, "a.csv")
    (path,) = find("memory://posts/a.csv", {})
    before = state_of(path)
    assert before == state_of(path)
    store.pipe("/posts/a.csv", b"text\nB post.\n")
    after = state_of(path)
    assert before[0] == after[0] and before[1] != after[1]


def test_a_folder_takes_the_place_of_what_was_there(store: Any, tmp_path: Path) -> None:
    fill(store, "out/part-00000.csv", "out/part-00001.csv")
    (tmp_path / "part-00000.csv").write_text("new")
    upload(tmp_path, "memory://posts/out", {})
    assert store.ls("/posts/out", detail=False) == ["/posts/out/part-00000.csv"]
    assert store.cat("/posts/out/part-00000.csv") == b"new"


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (FileNotFoundError("secret"), r"^s3://b/x does not exist: check the name"),
        (PermissionError("secret"), r"^s3://b/x: the store refuses access; check the entry `storage`"),
        (ConnectionError("secret"), r"does not answer as it should \(ConnectionError\)"),
        (ValueError("secret"), r"does not answer as it should \(ValueError\)"),
    ],
)
def test_a_fault_is_one_sentence_without_the_words_of_a_library(error: Exception, words: str) -> None:
    with pytest.raises(StorageError, match=words) as raised, accessing("s3://b/x"):
        raise error
    assert "secret" not in raised.value.message
    assert raised.value.__cause__ is None


def test_an_unknown_kind_of_store_and_wrong_options_are_one_sentence() -> None:
    with pytest.raises(StorageError, match="^nosuch:// is no kind of store"):
        open_store("nosuch://b/x", {})
    with pytest.raises(StorageError, match=r"^reference://x: the entry `storage` .* does not fit .*\(TypeError\)"):
        open_store("reference://x", {})  # it needs a file


def test_a_store_that_fails_while_a_file_is_read_ends_the_run(store: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Unlike damaged content, which costs the rows behind it: a lost connection must not lose posts."""
    fill(store, "a.csv", "b.csv")
    sources = find_sources("memory://posts")

    def fail(*arguments: Any) -> None:
        raise ConnectionError

    monkeypatch.setattr("fsspec.implementations.memory.MemoryFile.read", fail, raising=False)
    with pytest.raises(StorageError, match=r"memory://posts/a\.csv: the store does not answer"):
        [*sources[0].rows()]
    with pytest.raises(StorageError), open_bytes(sources[0].path) as file:
        file.read(4)


def test_credentials_are_loaded_and_never_described() -> None:
    dataset = StorageDataset(credentials={"key": "k", "secret": "hush"})
    assert dataset.load() == {"key": "k", "secret": "hush"}
    assert "hush" not in f"{dataset} {dataset!r} {dataset._describe()}"
    with pytest.raises(DatasetError):
        dataset.save({})
