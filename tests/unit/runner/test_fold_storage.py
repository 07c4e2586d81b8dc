import json
import shutil
from pathlib import Path

import pytest
from fsspec.implementations.local import LocalFileSystem

from mentallam.errors import MentallamError
from mentallam.runner import fold_storage
from mentallam.runner.fold_storage import FoldStorage, publish

ATTEMPT, RESULTS = "06_models/fold_1_attempt", ("06_models/fold_1", "07_model_output/fold_1_result.json")


@pytest.fixture
def place(tmp_path: Path) -> FoldStorage:
    """Return the place of a fold whose inputs have been published."""
    data = tmp_path / "data"
    write(data / "02_intermediate/posts.parquet", b"posts")
    write(data / "06_models/base_model.json", b"{}")
    address = f"file://{tmp_path}/bucket/run"
    publish(data, ["02_intermediate/posts.parquet", "06_models/base_model.json"], address, {})
    return FoldStorage(address, {}, "fold_1", "06_models/base_model.json", f"{ATTEMPT}/record.json", RESULTS)


def write(file: Path, content: bytes) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)
    return file


def save_state(data: Path, step: int) -> None:
    folder = data / ATTEMPT / f"step_{step:08d}"
    write(folder / "weights.safetensors", b"weights %d" % step)
    write(folder / "manifest.json", b"{}")


def states(data: Path) -> dict[str, bytes]:
    found = (data / ATTEMPT).glob("step_*/weights.safetensors")
    return {path.parent.name: path.read_bytes() for path in found}


def begin_and_die(place: FoldStorage, record: bytes, *steps: int) -> None:
    """Work on a fold until its machine stops it after some steps."""
    with pytest.raises(ZeroDivisionError), place.working_folder() as data:
        shutil.rmtree(data / ATTEMPT, ignore_errors=True)  # it begins anew
        write(data / ATTEMPT / "record.json", record)
        for step in steps:
            save_state(data, step)
        raise ZeroDivisionError


def bucket(tmp_path: Path) -> set[str]:
    return {str(path.relative_to(tmp_path / "bucket")) for path in (tmp_path / "bucket").rglob("*") if path.is_file()}


def test_a_fold_reads_what_was_published_and_its_results_come_back(place: FoldStorage, tmp_path: Path) -> None:
    with place.working_folder() as data:
        assert (data / "02_intermediate/posts.parquet").read_bytes() == b"posts"
        assert data.stat().st_mode & 0o077 == 0  # posts are private
        write(data / ATTEMPT / "record.json", b"1")
        save_state(data, 3)
        write(data / RESULTS[0] / "adapter/weights", b"adapter")
        write(data / RESULTS[1], b"result")
        write(data / "run.log", b"not asked for")
    assert not data.exists()
    home = tmp_path / "data"
    place.collect(home)
    assert (home / RESULTS[0] / "adapter/weights").read_bytes() == b"adapter"
    assert (home / RESULTS[1]).read_bytes() == b"result"
    assert (home / ATTEMPT / "record.json").read_bytes() == b"1"
    assert not states(home)
    assert not (home / "run.log").exists()
    assert bucket(tmp_path) == {f"run/inputs/{name}" for name in storage_inputs()}
    place.remove_all()
    assert not bucket(tmp_path)


def storage_inputs() -> set[str]:
    return {"02_intermediate/posts.parquet", "06_models/base_model.json", "SHA256.json"}


def test_the_next_machine_gets_the_newest_state_and_no_result_of_a_fold_that_was_stopped(
    place: FoldStorage, tmp_path: Path
) -> None:
    begin_and_die(place, b"1", 3, 7)
    assert not [name for name in bucket(tmp_path) if "results" in name]
    with place.working_folder() as data:
        assert states(data) == {"step_00000007": b"weights 7"}
        assert (data / ATTEMPT / "record.json").read_bytes() == b"1"


def test_a_state_is_put_while_the_fold_works_and_replaces_the_older_one(
    place: FoldStorage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fold_storage, "_LOOK_S", 0.01)
    with place.working_folder() as data:
        write(data / ATTEMPT / "record.json", b"1")
        for step in (3, 7):
            save_state(data, step)
            manifest = f"run/fold_1/attempt/step_{step:08d}/manifest.json"
            for _ in range(3000):
                if manifest in bucket(tmp_path):
                    break
                fold_storage.threading.Event().wait(0.01)
        assert manifest in bucket(tmp_path)
        write(data / RESULTS[1], b"result")
    assert not [name for name in bucket(tmp_path) if "step_00000003" in name]


def test_a_state_whose_machine_died_while_it_was_put_is_ignored(place: FoldStorage, tmp_path: Path) -> None:
    begin_and_die(place, b"1", 3)
    write(tmp_path / "bucket/run/fold_1/attempt/step_00000009/weights.safetensors", b"half")
    with place.working_folder() as data:
        assert states(data) == {"step_00000003": b"weights 3"}


def test_states_of_another_attempt_are_removed(place: FoldStorage) -> None:
    begin_and_die(place, b"1", 9)
    begin_and_die(place, b"2")
    with place.working_folder() as data:
        assert not states(data)
        assert (data / ATTEMPT / "record.json").read_bytes() == b"2"


def test_a_file_that_was_changed_at_the_address_is_refused(place: FoldStorage, tmp_path: Path) -> None:
    write(tmp_path / "bucket/run/inputs/02_intermediate/posts.parquet", b"other")
    with pytest.raises(MentallamError, match=r"posts\.parquet came from cluster\.storage otherwise"):
        place.working_folder().__enter__()


@pytest.mark.parametrize("name", ["../../escaped", "/tmp/escaped"])
def test_a_name_outside_the_data_folder_is_refused(place: FoldStorage, tmp_path: Path, name: str) -> None:
    write(tmp_path / "bucket/run/inputs/SHA256.json", json.dumps({name: "0"}).encode())
    with pytest.raises(MentallamError, match="lies outside the data folder"):
        place.working_folder().__enter__()


@pytest.mark.parametrize(
    ("address", "sentence"),
    [
        ("nowhere://bucket", "nowhere:// is no kind of store that fsspec knows: use s3://, for one"),
        (
            "file:///proc/nothing",
            "cluster.storage=file:///proc/nothing/inputs does not exist: check the name, and that of its bucket",
        ),
    ],
)
def test_an_address_that_can_not_be_used_is_one_sentence_without_its_credentials(
    tmp_path: Path, address: str, sentence: str
) -> None:
    write(tmp_path / "posts", b"posts")
    with pytest.raises(MentallamError) as refused:
        publish(tmp_path, ["posts"], address, {"key": "secret"})
    assert refused.value.message == sentence
    assert "secret" not in repr(FoldStorage("", {"key": "secret"}, "", "", "", ()))


def test_what_a_library_says_of_a_store_is_not_passed_on(
    place: FoldStorage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may quote an address with a password, or a header."""

    def refuse(*given: object, **options: object) -> None:
        raise RuntimeError("401 for https://name:secret@store")

    monkeypatch.setattr(LocalFileSystem, "get_file", refuse)
    with pytest.raises(MentallamError, match=r"^cluster\.storage=.*answer as it should \(RuntimeError\)") as refused:
        place.working_folder().__enter__()
    assert "secret" not in refused.value.message
