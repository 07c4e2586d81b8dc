import shutil
from pathlib import Path
from typing import Any

import mlflow
import pytest

from mentallam import __version__
from mentallam.config import ModelConfig
from mentallam.config_loading import CORPUS_FOLDER, DATA_FOLDER, TRACKING_URI
from mentallam.serving import doctor
from mentallam.serving.doctor import Finding, examine_machine, examine_project

GIB = 2**30


@pytest.fixture
def parameters(tmp_path: Path) -> dict[str, Any]:
    (tmp_path / "corpus").mkdir()
    (tmp_path / "corpus/posts.csv").touch()
    return {
        DATA_FOLDER: str(tmp_path / "data"),
        CORPUS_FOLDER: str(tmp_path / "corpus"),
        TRACKING_URI: f"sqlite:///{tmp_path}/mlflow.db",
    }


def found(parameters: dict[str, Any], source: str = "random", path: str = "") -> dict[str, Finding]:
    model = ModelConfig(name="tiny", source=source, path=path)
    return {finding.what: finding for finding in (*examine_machine(), *examine_project(parameters, model))}


def test_a_sound_machine_has_no_fault_and_nothing_is_written(parameters: dict[str, Any], tmp_path: Path) -> None:
    findings = found(parameters)
    machine, project = (
        {"mentallam", "Python", "memory", "compute"},
        {"disk", "corpus", "weights", "tracking", "results"},
    )
    assert {*findings} == machine | project
    assert findings["mentallam"].found.startswith(f"{__version__} in ")
    assert not [finding for finding in findings.values() if finding.state == "fault"]
    assert findings["results"].way_out == "kedro run"
    assert [path.name for path in tmp_path.iterdir()] == ["corpus"]


def test_what_is_missing_is_a_fault_with_its_way_out(parameters: dict[str, Any], tmp_path: Path) -> None:
    shutil.rmtree(tmp_path / "corpus")
    (tmp_path / "mlflow.db").write_text("no database")
    findings = found(parameters, "wheel", "no-such-package")
    faults = {what: finding.way_out for what, finding in findings.items() if finding.state == "fault"}
    assert faults["corpus"].startswith("docs/your-own-data.md") and faults["weights"] == "make weights"
    assert "mlflow.db" in faults["tracking"]
    assert len(faults) == 3


def test_little_space_and_memory_are_noted(parameters: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    memory = doctor.psutil.virtual_memory()._replace(available=GIB)
    monkeypatch.setattr(doctor.psutil, "virtual_memory", lambda: memory)
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(GIB, 0, GIB))  # type: ignore[attr-defined]
    findings = found(parameters)
    assert (findings["memory"].state, findings["disk"].state) == ("note", "note")


def test_a_model_of_the_hub_is_found_in_the_cache_or_will_be_downloaded(
    parameters: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub

    for cached, offline, state in (("file", False, "ok"), (None, False, "note"), (None, True, "fault")):
        monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda *_, cached=cached, **__: cached)
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", offline)
        assert found(parameters, "hub", "lab/model")["weights"].state == state


def test_a_report_and_a_store_that_are_there_are_named(parameters: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "data/08_reporting").mkdir(parents=True)
    (tmp_path / "data/08_reporting/report.html").touch()
    before = mlflow.get_tracking_uri()
    findings = found({**parameters, TRACKING_URI: before})
    assert "mentallam report" in findings["results"].found and findings["tracking"].state == "ok"
