"""The latency of the shared run's model."""

import json

import pytest

from mentallam.errors import MentallamError
from mentallam.pipelines.latency import nodes
from tests.integration.workspace import Workspace

FEW = {"repeats": 20, "warm_up": 1}


def test_a_model_over_the_limit_fails_after_its_figures_are_saved(trained: Workspace) -> None:
    with pytest.raises(MentallamError, match=r"above latency\.limit_ms=0\.001: "):
        trained.run("latency", latency={**FEW, "limit_ms": 0.001})
    folder = trained.data / "08_reporting" / "latency"
    summary = json.loads((folder / "latency_summary.json").read_text())
    assert summary["over_limit"]
    assert 0 < summary["pair"]["p50_ms"] <= summary["all_criteria"]["p99_ms"]
    assert summary["cold_start_s"] > 0
    assert summary["post_tokens"]["max"] <= 256
    assert {trace["name"] for trace in json.loads((folder / "latency.json").read_text())["data"]} == {
        *("all criteria", "pair")
    }

    run = trained.client().get_run(summary["model"]["run_id"])
    assert run.data.metrics["latency_cpu_ms_p95"] == summary["all_criteria"]["p95_ms"]
    assert run.data.metrics["latency_cpu_ms_pair_p50"] == summary["pair"]["p50_ms"]
    assert run.data.metrics["cold_start_s"] == summary["cold_start_s"]
    assert run.info.status == "FINISHED"
    logged = {item.path for item in trained.client().list_artifacts(run.info.run_id, "latency")}
    assert logged == {"latency/latency.html", "latency/latency_summary.json"}


def test_a_reason_is_recorded(trained: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nodes, "cold_start", lambda model, environment: 1.0)
    trained.run("latency", model="ensemble", latency={**FEW, "limit_ms": 0.001, "override_reason": "an old laptop"})
    summary = json.loads((trained.data / "08_reporting" / "latency" / "latency_summary.json").read_text())
    cv_run = json.loads((trained.data / "06_models" / "cv_run.json").read_text())
    assert summary["model"]["run_id"] == cv_run["run_id"]
    run = trained.client().get_run(cv_run["run_id"])
    assert run.data.tags["mentallam.latency_override_reason"] == "an old laptop"
    assert run.data.metrics["latency_cpu_ms_p99"] == summary["all_criteria"]["p99_ms"]
