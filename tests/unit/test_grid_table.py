import json
from pathlib import Path

import pandas as pd
import pytest

from mentallam.errors import MentallamError
from mentallam.evaluation.resampling import UncertaintyOptions
from mentallam.grid_table import write_table


def finished(folder: Path, oof: pd.DataFrame, options: UncertaintyOptions, seconds: float) -> str:
    """Write what the table reads of a finished run."""
    contents = {
        "07_model_output/cv_outcome.json": {"folds": [{"seconds": seconds}, {"seconds": 2 * seconds}]},
        "08_reporting/cv_summary.json": {"synthetic": True, "data_hash": "ab"},
        "08_reporting/uncertainty.json": {"method": {**options.model_dump(), "interval": "percentile"}},
    }
    for name, content in contents.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(json.dumps(content), encoding="utf-8")
    oof.to_parquet(folder / "07_model_output" / "oof_predictions.parquet", index=False)
    return str(folder)


def test_the_table_has_each_configuration_with_its_report_and_a_figure(
    oof: pd.DataFrame, options: UncertaintyOptions, tmp_path: Path
) -> None:
    # A prediction must not contradict its threshold.
    eager = oof.assign(threshold=0.0, prediction=1)
    runs = {
        name: {seed: finished(tmp_path / name / seed, table, options, seconds) for seed in ("7", "8")}
        for name, table, seconds in (("adapter.r=4", oof, 10.0), ("adapter.r=8 x=<b>", eager, 20.0))
    }
    page = write_table("seeds-7-8-grid-ab", runs, tmp_path / "grid")
    grid = json.loads((tmp_path / "grid" / "grid.json").read_text())
    assert grid["seeds"] == ["7", "8"]
    assert [row["seconds"] for row in grid["configurations"]] == [30.0, 60.0]
    assert grid["configurations"][0]["report"] == str(tmp_path / "adapter.r=4" / "7" / "08_reporting" / "report.html")
    text = (tmp_path / "grid" / "grid.md").read_text()
    rows = [line for line in text.splitlines() if line.startswith("| ") and line[2].isdigit()]
    assert len(rows) == 2
    assert "| - | - | 0:00:30 |" in rows[0]
    assert "SYNTHETIC DATA" in text
    assert "`mentallam.study` = `seeds-7-8-grid-ab`" in text
    content = page.read_text()
    assert 'id="figure-f1"' in content
    assert "x=<b>" not in content


def test_a_run_without_its_table_is_named(tmp_path: Path) -> None:
    with pytest.raises(MentallamError, match="there is no file .*seed_1"):
        write_table("s", {"a": {"1": str(tmp_path / "seed_1")}}, tmp_path / "grid")
