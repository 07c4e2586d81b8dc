import json
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from kedro.config import OmegaConfigLoader
from kedro.io import DataCatalog, MemoryDataset
from kedro.runner import SequentialRunner

from mentallam.config import Config
from mentallam.evaluation.resampling import UncertaintyOptions
from mentallam.pipelines.reporting import create_pipeline, nodes
from mentallam.registry import RegistryOptions
from mentallam.reports.figures import REPORT_FIGURES
from mentallam.reports.tables import REPORT_TABLES
from tests.unit.predictions import ALONE
from tests.unit.seen import drawn_figures

CATALOG = Path(__file__).parents[3] / "conf" / "base" / "catalog_reporting.yml"


class RecordedRun:
    """A replacement for `tracking.Run` that keeps what was logged."""

    logged: dict[str, Any]

    def __init__(self, run_id: str) -> None:
        self.logged["run_id"] = run_id

    def _log(self, content: Any, artifact_file: str) -> None:
        self.logged[artifact_file] = content

    log_dict = log_text = _log

    def log_files(self, files: dict[str, str | bytes], path: str) -> None:
        self.logged |= {f"{path}/{name}": content for name, content in files.items()}

    def describe(self, words: str) -> None:
        self.logged["note"] = words

    def set_tags(self, tags: dict[str, Any]) -> None:
        self.logged["tags"] = tags

    def log_metrics(self, metrics: dict[str, float | None]) -> None:
        self.logged["metrics"] = metrics


@pytest.fixture
def catalog(
    tmp_path: Path,
    folds: list[pd.DataFrame],
    options: UncertaintyOptions,
    cv_outcome: dict[str, Any],
    data_statistics: dict[str, Any],
    training_config: Config,
    criteria: pd.DataFrame,
    baselines: pd.DataFrame,
    monkeypatch: pytest.MonkeyPatch,
) -> DataCatalog:
    """Return the pipeline's catalog over an empty data folder, with the inputs in memory."""
    base = tmp_path / "conf" / "base"
    base.mkdir(parents=True)
    shutil.copy(CATALOG, base)
    (base / "catalog.yml").write_text(f"_data: {tmp_path / 'data'}\n", encoding="utf-8")
    entries = OmegaConfigLoader(str(tmp_path / "conf"), base_env="base", default_run_env="base")["catalog"]
    catalog = DataCatalog.from_config(entries)
    inputs = {f"fold_{fold}_predictions": frame for fold, frame in enumerate(folds)}
    history = [(step, name, 1 / step) for step in (1, 2) for name in ("loss", "dev_loss", "dev_f1")]
    inputs |= {
        f"fold_{fold}_history": pd.DataFrame(history, columns=["step", "metric", "value"]).assign(fold=fold)
        for fold in range(5)
    }
    inputs |= {"cv_outcome": cv_outcome, "data_statistics": data_statistics}
    inputs |= {"training_config": training_config, "criteria": criteria, "baseline_predictions": baselines}
    inputs |= {"params:uncertainty": options, "params:repeats": ""}
    inputs |= {"params:partial": False, "params:print_figures": False, "params:tracking_experiment": "any"}
    inputs |= {"ensemble": None}
    monkeypatch.setattr(nodes.tracking, "find_finished_cv_runs", lambda *_: {})
    monkeypatch.setattr(nodes.tracking, "beginning_of", lambda _: ALONE["this"])
    monkeypatch.setattr(nodes.tracking, "Run", RecordedRun)
    monkeypatch.setattr(RecordedRun, "logged", {}, raising=False)
    inputs |= {"params:registry": RegistryOptions(model="none", use="none"), "params:base_models": str(tmp_path)}
    for name, data in inputs.items():
        catalog[name] = MemoryDataset(data)
    return catalog


def test_reporting_writes_everything_and_attaches_it_to_the_parent(catalog: DataCatalog, tmp_path: Path) -> None:
    SequentialRunner().run(create_pipeline(5), catalog)

    reporting = tmp_path / "data" / "08_reporting"
    written = {path.name for path in reporting.iterdir() if path.is_file()}
    tables = {"cv_summary.json", "thresholds.json", "uncertainty.json", "checks.json", "label_audit.csv"}
    assert written == {*tables, "report.md", "report.html", "model_card.md", "candidates.json"}
    assert {path.name for path in (reporting / "figures").iterdir()} == {f"{name}.json" for name in REPORT_FIGURES}
    assert len(pd.read_parquet(tmp_path / "data" / "07_model_output" / "oof_predictions.parquet")) == 540

    logged = RecordedRun.logged
    assert logged["run_id"] == "parent"
    tables = {f"tables/{name}.{ending}" for name in REPORT_TABLES for ending in ("csv", "tex", "md")}
    attached = {name.removeprefix("reporting/") for name in logged} - {"run_id", "metrics", "note", "tags"}
    assert attached == (written - {"candidates.json"}) | {"figures.html"} | tables
    assert {f"tables/{path.name}" for path in (reporting / "tables").iterdir()} == tables
    for file in tables:
        assert logged[f"reporting/{file}"] == (reporting / file).read_text(encoding="utf-8")
    drawn = drawn_figures(logged["reporting/figures.html"])
    assert drawn.keys() == set(REPORT_FIGURES)
    assert len(drawn["learning_curves"]["data"]) == 5 * 3
    assert [trace["name"] for trace in drawn["roc"]["data"]][-1] == "chance"
    assert logged["reporting/report.html"] == (reporting / "report.html").read_text(encoding="utf-8")
    summary = json.loads((reporting / "cv_summary.json").read_text(encoding="utf-8"))
    assert logged["reporting/cv_summary.json"] == summary
    assert logged["reporting/report.md"] == (reporting / "report.md").read_text(encoding="utf-8")
    assert list(summary["learned_baselines"]) == ["tfidf", "embedding"]
    assert logged["reporting/label_audit.csv"] == (reporting / "label_audit.csv").read_text(encoding="utf-8")
    assert logged["metrics"]["pooled_f1"] == summary["pooled"]["f1"]
    assert f"F1 {summary['pooled']['f1']:.3f}" in logged["note"]
    assert logged["metrics"]["selection_optimism"] == summary["selection_optimism"]
    uncertainty = json.loads((reporting / "uncertainty.json").read_text(encoding="utf-8"))
    assert logged["reporting/uncertainty.json"] == uncertainty
    assert logged["metrics"]["pooled_f1_low"] == uncertainty["headline"]["f1"]["low"]
    baselines = {name: found["headline"]["f1"]["estimate"] for name, found in uncertainty["baselines"].items()}
    assert logged["metrics"]["baseline_tfidf_pooled_f1"] == baselines["tfidf"]
    best = logged["tags"]["mentallam.best_baseline"]
    assert best != "all_positive"
    assert (
        logged["metrics"]["best_baseline_f1"]
        == baselines[best]
        == max(f1 for name, f1 in baselines.items() if f1 is not None and name != "all_positive")
    )
    checks = json.loads((reporting / "checks.json").read_text(encoding="utf-8"))
    assert logged["reporting/checks.json"] == checks
    warned = [check["code"] for check in checks["checks"] if check["status"] == "warning"]
    assert {"MC003", "MC004", "MC007", "MC009", "MC012"} <= set(warned)
    assert list(uncertainty["baselines"]) == ["all_negative", "all_positive", "prior_only", "embedding", "tfidf"]
    assert uncertainty["seeds"] is None


def test_the_last_lines_of_the_log_are_the_checks(catalog: DataCatalog, caplog: pytest.LogCaptureFixture) -> None:
    pipeline = create_pipeline(5)
    assert [node.name for node in pipeline.nodes][-1] == "reporting.warn_of_checks"
    with caplog.at_level("INFO", logger=nodes.__name__):
        SequentialRunner().run(pipeline, catalog)
    checks = RecordedRun.logged["reporting/checks.json"]
    warned = [record for record in caplog.records if record.name == nodes.__name__]
    assert [record.levelname for record in warned] == ["WARNING"] * checks["warnings"] + ["INFO"]
    assert warned[0].message == "MC003 some criteria have fewer than 20 positive pairs"
    counts = f"{checks['passed']} passed, {checks['warnings']} warned, {checks['not_checked']} not checked"
    assert warned[-1].message.startswith(f"checks: {counts}; the report says")


def test_repeats_are_read_and_compared(
    oof: pd.DataFrame,
    baseline: pd.DataFrame,
    training_config: Config,
    options: UncertaintyOptions,
    tmp_path: Path,
) -> None:
    baseline.to_parquet(tmp_path / "oof.parquet", index=False)
    nothing = baseline.assign(model="tfidf")[:0]  # no baseline was configured
    uncertainty = nodes.estimate_uncertainty(oof, nothing, training_config, options, f" {tmp_path / 'oof.parquet'}; ")
    assert list(uncertainty["baselines"]) == ["all_negative", "all_positive", "prior_only"]
    assert uncertainty["seeds"]["repeats"] == ["this run", str(tmp_path / "oof.parquet")]


def test_the_options_of_the_project_are_valid() -> None:
    parameters = yaml.safe_load((CATALOG.parent / "parameters_reporting.yml").read_text(encoding="utf-8"))
    options = UncertaintyOptions.model_validate(parameters["uncertainty"])
    assert (options.resamples, options.confidence) == (2000, 0.95)


def test_every_output_has_a_layer_in_viz(catalog: DataCatalog) -> None:
    for name in create_pipeline(5).all_outputs():
        assert catalog[name].metadata["kedro-viz"]["layer"] in {"07_model_output", "08_reporting"}


def test_the_number_of_folds_decides_what_is_read() -> None:
    assert {name for name in create_pipeline(3).inputs() if name.startswith("fold_")} == {
        f"fold_{fold}_{table}" for fold in range(3) for table in ("predictions", "history")
    }
