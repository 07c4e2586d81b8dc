"""Batches beside the training posts, and what a batch leaves for those who watch it."""

import csv
import json
import logging
from collections.abc import Iterable
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from mentallam.errors import MentallamError, RejectedRowsError
from tests.integration.workspace import Workspace
from tests.samples import PROJECT

SECRET = "Marzipan lighthouse"
GERMAN = (
    "Ich kann seit Wochen nicht mehr schlafen und bin ständig erschöpft.",
    "Gestern haben wir den Zug verpasst und sind zu Fuß durch die Stadt gelaufen.",
    "Mein Bruder hat mir ein Fahrrad geschenkt, das quietscht.",
    "Übermorgen beginnt die Prüfung, und ich habe kaum gelernt.",
)


def sample() -> list[str]:
    with (PROJECT / "data" / "01_raw" / "sample" / "redsm5_posts.csv").open(encoding="utf-8", newline="") as file:
        return [row["text"] for row in csv.DictReader(file)]


def monitored(workspace: Workspace, folder: Path, texts: Iterable[str], **params: object) -> dict:
    """Answer posts, monitor the batch, and return what monitoring saved."""
    path = folder / "posts.jsonl"
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts), encoding="utf-8")
    workspace.run("inference", input=str(path))
    workspace.run("monitor", **params)
    return json.loads((workspace.data / "08_reporting" / "monitor.json").read_text())


def test_posts_of_the_same_sample_raise_no_alert(trained: Workspace, tmp_path: Path) -> None:
    found = monitored(trained, tmp_path, sample(), monitor={"latency_ms": 60_000, "fail": True})
    assert found["alerts"] == []
    assert len(found["rates"]) == 9
    report = (trained.data / "08_reporting" / "monitor.md").read_text()
    assert "No alert." in report


def test_a_shifted_batch_is_told_apart(
    trained: Workspace, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger("mentallam"), "propagate", True)  # Kedro's logging stops there
    with caplog.at_level(logging.WARNING, "mentallam"):
        found = monitored(trained, tmp_path, [f"{text} " * 6 for text in sample()])
    assert any("other lengths than the training posts" in sentence for sentence in found["alerts"])
    assert not any("language" in sentence for sentence in found["alerts"])
    warned = [record.getMessage() for record in caplog.records if record.name.endswith("monitor.nodes")]
    assert warned == found["alerts"]

    found = monitored(trained, tmp_path, [f"{first} {second}" for first in GERMAN for second in GERMAN * 3])
    assert any("another language" in sentence for sentence in found["alerts"])
    assert not any(text in json.dumps(found) for text in GERMAN)
    with pytest.raises(MentallamError, match=r"alerts \(monitor\.fail=true\): "):
        trained.run("monitor", monitor={"fail": True})


def test_another_summary_is_named_by_its_file(trained: Workspace, tmp_path: Path) -> None:
    with pytest.raises(MentallamError, match="none.json does not exist"):
        trained.run("monitor", summary=str(tmp_path / "none.json"))


def test_rejected_rows_end_the_run_with_code_3_once_all_is_saved(trained: Workspace, tmp_path: Path) -> None:
    path, output = tmp_path / "posts.jsonl", tmp_path / "out"
    path.write_text(json.dumps({"text": SECRET}) + "\nno object\n", encoding="utf-8")
    with pytest.raises(RejectedRowsError) as error:
        trained.run("inference", input=str(path), output=str(output))
    assert error.value.message == f"1 of 2 rows could not be answered: see {output / 'rejects.jsonl'}"
    assert error.value.exit_code == 3
    assert {file.name for file in output.iterdir()} == {
        *("predictions.jsonl", "rejects.jsonl", "prediction_summary.json", "prediction_metrics.prom")
    }
    metrics = (output / "prediction_metrics.prom").read_text()
    read = {
        sample.name: sample.value for family in text_string_to_metric_families(metrics) for sample in family.samples
    }
    assert (read["mentallam_batch_rows"], read["mentallam_batch_rejected_rows"]) == (2, 1)
    assert SECRET not in metrics


def test_a_batch_is_logged_to_mlflow_only_if_the_user_wants_it(trained: Workspace, tmp_path: Path) -> None:
    client = trained.client()
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]

    def runs() -> dict[str, str]:
        return {run.info.run_id: run.info.status for run in client.search_runs(experiments)}

    path = tmp_path / "a_person.txt"
    path.write_text(SECRET)
    before = runs()
    trained.run("inference", input=str(path))
    assert runs() == before

    trained.run("inference", input=str(path), log_to_mlflow=True)
    [new] = runs().keys() - before.keys()
    run = client.get_run(new)
    assert (run.info.run_name, run.info.status) == ("inference", "FINISHED")
    assert run.data.metrics["posts"] == run.data.metrics["files"] == 1
    assert run.data.metrics["posts_per_second"] > 0
    assert run.data.tags["mentallam.model_run_id"] in before
    artifacts = Path(run.info.artifact_uri.removeprefix("file://"))
    assert [file.name for file in artifacts.iterdir()] == ["prediction_summary.json"]
    kept = (artifacts / "prediction_summary.json").read_text() + json.dumps(run.to_dictionary())
    assert SECRET not in kept
    assert "a_person" not in kept
