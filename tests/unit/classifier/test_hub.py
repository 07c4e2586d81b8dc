"""Downloads from a faulty hub: what is tried again, what is not, and what lies on the disk afterwards."""

import logging
import time
from collections.abc import Iterator
from pathlib import Path

import huggingface_hub
import pytest
from huggingface_hub import constants

from mentallam import retries
from mentallam.classifier import hub as module
from mentallam.classifier.hub import download
from mentallam.config import RetriesConfig
from mentallam.errors import MentallamError
from tests.unit.classifier.fake_hub import Hub, fake_hub

WEIGHTS = bytes(range(256)) * 40  # above ten of the chunks below


@pytest.fixture
def policy() -> Iterator[None]:
    retries.configure(RetriesConfig(base_ms=1, max_attempts=4))
    yield
    retries.configure(RetriesConfig())


@pytest.fixture
def hub(tmp_path: Path, policy: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """Start a hub and point huggingface_hub at it, which reads its variables only when it is imported."""
    folder = tmp_path / "repository"
    folder.mkdir()
    (folder / "config.json").write_text('{"model_type": "llama"}')
    (folder / "model.safetensors").write_bytes(WEIGHTS)
    (folder / "model.onnx").write_bytes(b"not wanted")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with fake_hub("lab/tiny", folder) as server:
        monkeypatch.setattr(constants, "ENDPOINT", server.address)
        template = server.address + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_PROGRESS_BARS", True)
        monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 1000)
        monkeypatch.setattr(constants, "HF_HUB_DOWNLOAD_TIMEOUT", 0.5)
        monkeypatch.setattr(module, "_TIMEOUT_S", 0.5)
        sleep = time.sleep
        monkeypatch.setattr(time, "sleep", lambda seconds: sleep(min(seconds, 0.01)))  # the library's fixed second
        huggingface_hub.close_session()
        yield server
        huggingface_hub.close_session()


def fetch(tmp_path: Path, revision: str = "main") -> dict[str, bytes]:
    folder = download("lab/tiny", revision, tmp_path / "records")
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def wanted(hub: Hub) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in hub.folder.iterdir() if file.suffix != ".onnx"}


PLACES = {"revision": "/revision/", "list": "/tree/", "metadata": "HEAD", "file": "GET /lab/tiny/resolve"}


@pytest.mark.parametrize("fault", [429, 503, "reset"])
@pytest.mark.parametrize("place", PLACES)
def test_a_fault_that_passes_ends_well_wherever_it_happens(
    hub: Hub, tmp_path: Path, fault: int | str, place: str
) -> None:
    before = retries.count()
    hub.only, hub.faults = PLACES[place], [fault] * 3  # the library itself asks for metadata twice
    assert fetch(tmp_path) == wanted(hub)
    assert hub.faults == []
    assert retries.count() > before or fault == "reset"  # the library goes on with a file by itself after a reset


@pytest.mark.parametrize("place", ["revision", "list", "file"])
def test_a_hub_that_does_not_answer_is_asked_again(hub: Hub, tmp_path: Path, place: str) -> None:
    hub.only, hub.faults = PLACES[place], ["silence"]
    assert fetch(tmp_path) == wanted(hub)
    assert hub.faults == []


def test_a_truncated_file_goes_on_where_it_broke_off(hub: Hub, tmp_path: Path) -> None:
    hub.only, hub.faults = "GET /lab/tiny/resolve/" + hub.commit + "/model", ["cut off", "cut off"]
    ranges: list[str] = []
    original = hub.RequestHandlerClass._file  # type: ignore[attr-defined]

    def note(handler: object, *arguments: object) -> None:
        ranges.append(handler.headers.get("Range", ""))  # type: ignore[attr-defined]
        original(handler, *arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hub.RequestHandlerClass, "_file", note)
        assert fetch(tmp_path) == wanted(hub)
    resumed = [int(each.removeprefix("bytes=").rstrip("-")) for each in ranges if each]
    assert len(resumed) == 2
    assert 0 < resumed[0] < resumed[1] < len(WEIGHTS)


def test_a_corrupted_file_is_downloaded_again(hub: Hub, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name in ("model.safetensors", "config.json"):
        hub.commit = name.encode().hex().ljust(40, "0")[:40]
        hub.only, hub.faults = f"GET /lab/tiny/resolve/{hub.commit}/{name}", ["corrupted"]
        (hub.folder / name).write_bytes((hub.folder / name).read_bytes() + b" ")  # not in the cache yet
        assert fetch(tmp_path) == wanted(hub)
        assert hub.faults == []
        assert f"{name} differs from the hub's hash, attempt 1 of 4" in caplog.text


def test_a_file_that_stays_corrupted_is_refused(hub: Hub, tmp_path: Path) -> None:
    hub.only, hub.faults = "GET /lab/tiny/resolve", ["corrupted"] * 20
    with pytest.raises(MentallamError, match=r"differs from the hub's hash, again and again"):
        fetch(tmp_path)


def test_a_commit_makes_no_request_once_it_is_there(hub: Hub, tmp_path: Path) -> None:
    first = fetch(tmp_path, hub.commit)
    hub.requests.clear()
    assert fetch(tmp_path, hub.commit) == first
    assert hub.requests == []


def test_a_branch_is_what_it_was_while_the_hub_is_away(hub: Hub, tmp_path: Path) -> None:
    first = fetch(tmp_path)
    hub.always = 503
    assert fetch(tmp_path) == first


@pytest.mark.parametrize("revision", ["main", "01" * 20])
def test_offline_needs_no_hub(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, revision: str) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(MentallamError, match=r"HF_HUB_OFFLINE is set, and they are not all on this machine\): unset"):
        fetch(tmp_path, revision)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    first = fetch(tmp_path, revision)
    hub.requests.clear()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert fetch(tmp_path, revision) == first
    assert hub.requests == []


def test_a_file_that_decays_on_the_disk_is_noticed(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = download("lab/tiny", hub.commit, tmp_path / "records")
    (folder / "model.safetensors").resolve().write_bytes(WEIGHTS[:-1] + b"?")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(MentallamError, match=r"model\.safetensors differs .* without HF_HUB_OFFLINE"):
        fetch(tmp_path, hub.commit)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    assert fetch(tmp_path, hub.commit) == wanted(hub)


def test_a_file_is_compared_once(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[str] = []
    is_sound = module._is_sound
    monkeypatch.setattr(module, "_is_sound", lambda file: compared.append(file.name) or is_sound(file))
    download("lab/tiny", hub.commit, tmp_path / "records", ["config.json"])
    fetch(tmp_path, hub.commit)
    fetch(tmp_path, hub.commit)
    assert compared == ["config.json", "model.safetensors"]
    next((tmp_path / "records").iterdir()).write_text("{")
    fetch(tmp_path, hub.commit)
    assert len(compared) == 4


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        (401, r"a private one\): check model\.path; for a private one log in with `hf auth login` or set HF_TOKEN"),
        (403, r"\(gated\): accept the licence at http://127.*/lab/tiny, then log in with `hf auth login` or set HF_"),
        ("gated", r"\(gated\): accept the licence at http://127.*/lab/tiny, then log in"),
        (404, r"\(no such repository\): check model\.path"),
        ("captive portal", r"Error\): check model\.path and the network"),
    ],
)
def test_what_will_not_pass_is_said_at_once(hub: Hub, tmp_path: Path, fault: int | str, says: str) -> None:
    before, hub.always = retries.count(), fault
    with pytest.raises(MentallamError, match=says) as error:
        fetch(tmp_path)
    assert retries.count() == before
    assert "overrides=model.path=/path/to/folder" in error.value.message
    assert "\n" not in error.value.message


def test_an_unknown_revision_is_said_at_once(hub: Hub, tmp_path: Path) -> None:
    before = retries.count()
    with pytest.raises(MentallamError, match=r"\(no such revision\): check model\.revision=v9"):
        fetch(tmp_path, "v9")
    assert retries.count() == before


def test_a_hub_that_stays_away_is_one_sentence_after_all_attempts(
    hub: Hub, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_SECRET")
    hub.always, hub.headers = 429, {"Retry-After": "0"}
    with (
        caplog.at_level(logging.WARNING, "mentallam"),
        pytest.raises(MentallamError, match=r"\(HTTP 429, again and again\): check the network and try later"),
    ):
        fetch(tmp_path)
    lines = [record.getMessage() for record in caplog.records if record.name == "mentallam.retries"]
    assert [line.partition(";")[0] for line in lines] == [
        f"the download of lab/tiny failed (HTTP 429, attempt {n} of 4)" for n in (1, 2, 3)
    ]
    assert "SECRET" not in caplog.text
