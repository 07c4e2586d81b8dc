import json
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from kedro.config import OmegaConfigLoader
from kedro.io import DataCatalog, MemoryDataset
from kedro.runner import SequentialRunner

from mentallam.pipelines.reporting import create_pipeline, nodes
from mentallam.registry import RegistryOptions

CATALOG = Path(__file__).parents[3] / "conf" / "base" / "catalog_reporting.yml"


class RecordedRun:
    """Stands in for `tracking.Run` and keeps what was logged."""

    logged: dict[str, Any]

    def __init__(self, run_id: str) -> None:
        RecordedRun.logged = {"run_id": run_id}

    def _log(self, content: Any, artifact_file: str) -> None:
        self.logged[artifact_file] = content

    log_dict = log_text = log_figure = _log

    def log_metrics(self, metrics: dict[str, float | None]) -> None:
        self.logged["metrics"] = metrics


@pytest.fixture
def catalog(
    tmp_path: Path,
    folds: list[pd.DataFrame],
    cv_outcome: dict[str, Any],
    data_statistics: dict[str, Any],
    training_config: dict[str, Any],
    criteria: pd.DataFrame,
) -> DataCatalog:
    """The project's own catalog of this pipeline over an empty data folder, and its inputs in memory."""
    base = tmp_path / "conf" / "base"
    base.mkdir(parents=True)
    shutil.copy(CATALOG, base)
    (base / "catalog.yml").write_text(f"_data: {tmp_path / 'data'}\n", encoding="utf-8")
    entries = OmegaConfigLoader(str(tmp_path / "conf"), base_env="base", default_run_env="base")["catalog"]
    catalog = DataCatalog.from_config(entries)
    inputs = {f"fold_{fold}_predictions": frame for fold, frame in enumerate(folds)}
    inputs |= {"cv_outcome": cv_outcome, "data_statistics": data_statistics}
    inputs |= {"training_config": training_config, "criteria": criteria}
    inputs |= {"params:registry": RegistryOptions(model="none", use="none"), "params:base_models": str(tmp_path)}
    for name, data in inputs.items():
        catalog[name] = MemoryDataset(data)
    return catalog


def test_reporting_writes_everything_and_attaches_it_to_the_parent(
    catalog: DataCatalog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nodes.tracking, "Run", RecordedRun)
    SequentialRunner().run(create_pipeline(5), catalog)

    reporting = tmp_path / "data" / "08_reporting"
    written = {path.name for path in reporting.iterdir()}
    figures = {"oof_precision_recall.png", "oof_confusion.png", "f1_per_criterion.png"}
    assert written == {"cv_summary.json", "thresholds.json", "report.md", "model_card.md"} | figures
    assert len(pd.read_parquet(tmp_path / "data" / "07_model_output" / "oof_predictions.parquet")) == 540

    logged = RecordedRun.logged
    assert logged["run_id"] == "parent"
    assert {name.removeprefix("reporting/") for name in logged} - {"run_id", "metrics"} == written
    summary = json.loads((reporting / "cv_summary.json").read_text(encoding="utf-8"))
    assert logged["reporting/cv_summary.json"] == summary
    assert logged["reporting/report.md"] == (reporting / "report.md").read_text(encoding="utf-8")
    assert logged["metrics"]["pooled_f1"] == summary["pooled"]["f1"]
    assert logged["metrics"]["selection_optimism"] == summary["selection_optimism"]


def test_every_output_has_a_layer_in_viz(catalog: DataCatalog) -> None:
    for name in create_pipeline(5).outputs() | {"oof_predictions", "cv_summary", "thresholds", "report", "model_card"}:
        assert catalog[name].metadata["kedro-viz"]["layer"] in {"model_output", "reporting"}


def test_the_number_of_folds_decides_what_is_read() -> None:
    assert {name for name in create_pipeline(3).inputs() if name.startswith("fold_")} == {
        f"fold_{fold}_predictions" for fold in range(3)
    }
