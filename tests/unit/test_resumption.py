import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mentallam import resumption
from mentallam.config import Config
from mentallam.errors import MentallamError
from mentallam.resumption import begin, changed, clear, fingerprint, first_difference

MANIFEST = {
    "data_hash": "a",
    "frames": {"posts": "b"},
    "options": {"folds": {"seed": 1}},
    "corpus": "c",
    "synthetic": True,
}
BASE = {"name": "tiny", "source": "random", "folder": "/here", "fingerprint": "f"}


def test_work_goes_on_with_the_same_fingerprint_alone(tmp_path: Path) -> None:
    first = begin(tmp_path / "work", {"data": {"hash": "a"}, "rank": 8})
    (tmp_path / "work" / "step_1").mkdir()
    again = begin(tmp_path / "work", {"data": {"hash": "a"}, "rank": 8})
    assert (first.goes_on, first.change, again.goes_on, again.token) == (False, None, True, first.token)
    assert (tmp_path / "work" / "step_1").is_dir()
    other = begin(tmp_path / "work", {"data": {"hash": "a"}, "rank": 4})
    assert (other.goes_on, other.change) == (False, "rank has changed from 8 to 4")
    assert other.token != first.token
    assert not (tmp_path / "work" / "step_1").exists()  # what is stale is never taken for fresh


def test_fresh_begins_anew(tmp_path: Path) -> None:
    first = begin(tmp_path / "work", {"rank": 8})
    again = begin(tmp_path / "work", {"rank": 8}, fresh=True)
    assert (again.goes_on, again.change) == (False, "fresh=true")
    assert first.token != again.token


@pytest.mark.parametrize("damage", ["", "{", "[]", "null", "{}", '{"fingerprint": {"rank": 8}}', "\x00" * 40])
def test_a_damaged_record_begins_anew_and_is_named(tmp_path: Path, damage: str) -> None:
    begin(tmp_path / "work", {"rank": 8})
    (tmp_path / "work" / "record.json").write_text(damage)
    again = begin(tmp_path / "work", {"rank": 8})
    assert not again.goes_on
    assert "record.json can't be read" in str(again.change)
    assert begin(tmp_path / "work", {"rank": 8}).goes_on


def test_what_is_done_leaves_its_record_alone(tmp_path: Path) -> None:
    first = begin(tmp_path / "work", {"rank": 8})
    (tmp_path / "work" / "step_1").mkdir()
    (tmp_path / "work" / "file").touch()
    clear(tmp_path / "work")
    assert [path.name for path in (tmp_path / "work").iterdir()] == ["record.json"]
    assert begin(tmp_path / "work", {"rank": 8}).token == first.token


def test_a_folder_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "work").write_text("a file")
    with pytest.raises(MentallamError, match="can't be written"):
        begin(tmp_path / "work" / "fold", {"rank": 8})


NESTED = st.recursive(
    st.integers() | st.text(max_size=3),  # a key that is missing counts as null
    lambda inner: st.dictionaries(st.text(max_size=2), inner),
    max_leaves=6,
)


@given(NESTED, NESTED)
def test_a_difference_is_found_exactly_where_there_is_one(one: object, other: object) -> None:
    assert (first_difference(one, other) is None) == (one == other)
    assert first_difference(one, json.loads(json.dumps(one))) is None


def test_hashes_are_shortened() -> None:
    assert changed("code.source", "a" * 64, "b" * 64) == "code.source has changed from aaaaaaaa... to bbbbbbbb..."


def test_everything_that_decides_a_result_is_in_the_fingerprint(monkeypatch: pytest.MonkeyPatch) -> None:
    config = Config()
    before = fingerprint(config, BASE, MANIFEST, split="s")
    assert before == json.loads(json.dumps(before))
    assert first_difference(before, fingerprint(config, {**BASE, "folder": "/there"}, MANIFEST, split="s")) is None

    def change(**changes: object) -> str:
        given = {"config": config, "base_model": BASE, "data_manifest": MANIFEST, "split": "s", **changes}
        found = first_difference(before, fingerprint(**given))  # type: ignore[arg-type]
        return found[0] if found else "nothing"

    assert change(split="t") == "split"
    assert change(base_model={**BASE, "fingerprint": "g"}) == "base_model.fingerprint"
    assert change(data_manifest={**MANIFEST, "data_hash": "z"}) == "data.data_hash"
    assert change(data_manifest={**MANIFEST, "frames": {"posts": "z"}}) == "data.frames.posts"
    other = Config()
    other.training.seed, other.model.prompt.suffix = 7, "{criterion}!"
    assert change(config=other) == "model.prompt.suffix"
    other.model.prompt.suffix = config.model.prompt.suffix
    assert change(config=other) == "training.seed"
    versions = resumption.package_versions()
    for name in resumption.DECIDING_PACKAGES:
        monkeypatch.setattr(resumption, "package_versions", lambda name=name: {**versions, name: "0"})
        assert change() == f"packages.{name}"
    monkeypatch.undo()
    code = resumption.code_version()
    for name in ("version", "source"):
        monkeypatch.setattr(resumption, "code_version", lambda name=name: {**code, name: "0"})
        assert change() == f"code.{name}"
