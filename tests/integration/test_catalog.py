"""Every dataset that a run writes can be loaded by its name, as in a notebook."""

import json
from pathlib import Path

import pandas as pd
import pytest
from kedro.framework.project import pipelines
from kedro.framework.session import KedroSession
from kedro.framework.startup import bootstrap_project
from kedro.io import DataCatalog

from mentallam.console import LOG_FILE
from tests.integration.workspace import Workspace
from tests.samples import PROJECT

ODD_IDS = ["0012", "1e5", "NA", "N/A", "nan", "null", "true", "-5", "=1+1", "1700000000"]


@pytest.fixture(scope="module")
def catalog(trained: Workspace) -> DataCatalog:
    """Return the catalog after all pipelines except compare, which needs a second cross-validation."""
    posts = trained.folder / "posts.jsonl"
    rows = [json.dumps({"post_id": post_id, "text": "I am tired.", "criterion_id": "A.4"}) for post_id in ODD_IDS]
    posts.write_text("\n".join(rows) + "\n", encoding="utf-8")
    trained.run("inference", input=str(posts))
    trained.run("memory_plan")
    bootstrap_project(PROJECT)
    with pytest.MonkeyPatch.context() as patch:
        for name in ("MLFLOW_TRACKING_URI", "MENTALLAM_ARTIFACTS"):
            patch.setenv(name, trained.environment[name])
        with KedroSession.create(PROJECT, env="test", runtime_params={"data_dir": str(trained.data)}) as session:
            return session.load_context().catalog  # type: ignore[attr-defined]


def test_every_entry_that_a_run_writes_loads_again(catalog: DataCatalog, trained: Workspace) -> None:
    written = {name for pipeline in pipelines.values() for name in pipeline.all_outputs() if catalog.exists(name)}
    assert {"posts", "fold_0_checkpoint", "label_audit", "report", "predictions", "memory_plan"} <= written
    for name in sorted(written):
        assert catalog.load(name) is not None, name
    files = {path for path in trained.data.rglob("*") if path.is_file() and path.name != LOG_FILE}
    described = [Path(str(catalog[name]._describe().get("filepath", "?"))) for name in written]
    apart = (trained.data / "06_models", trained.data / ".locks")  # checkpoints and attempts; nobody reads the locks
    forgotten = {path for path in files - set(described) if not any(map(path.is_relative_to, apart))}
    assert not forgotten


def test_predictions_keep_their_ids(catalog: DataCatalog) -> None:
    predictions = catalog.load("predictions")
    assert predictions["post_id"].tolist() == ODD_IDS
    assert predictions["run_id"].map(len).unique().tolist() == [32]
    assert predictions["probability"].between(0, 1).all()
    assert isinstance(predictions, pd.DataFrame)
