"""Folds without a positive or without a negative pair: defined figures and named warnings to the end of the report."""

import json
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from tests.faults.corpora import write_corpus
from tests.integration.workspace import Workspace

pytestmark = pytest.mark.slow

OTHER = {"positive": "negative", "negative": "positive"}
UNDEFINED = ("roc_auc", "mcc", "balanced_accuracy")  # they need both labels


@pytest.fixture(params=["positive", "negative"])
def rare(request: pytest.FixtureRequest) -> str:
    """Name the label that few pairs have."""
    return str(request.param)


def run(workspace: Workspace, corpus: Path) -> None:
    workspace.folder.mkdir()
    settings = {"corpus_dir": str(corpus), "overrides": "experiment=tiny", "uncertainty": {"resamples": 100}}
    workspace.run("__default__", env="pairs", **settings)


def figures(value: Any) -> Iterator[Any]:
    """Yield each number below a JSON value."""
    if isinstance(value, dict | list):
        for part in value.values() if isinstance(value, dict) else value:
            yield from figures(part)
    elif isinstance(value, float):
        yield value


def without(workspace: Workspace, label: str) -> dict[str, list[int]]:
    statistics = json.loads((workspace.data / "08_reporting/data_statistics.json").read_text())
    parts: dict[str, list[int]] = statistics["folds"][f"without_{label}s"]
    return parts


def refuse_constant(name: str) -> None:
    raise AssertionError(f"{name} is in a result")


def check_results(workspace: Workspace) -> dict[str, Any]:
    """Check that all results are there and that no figure is NaN or infinite; return the summary."""
    for path in sorted(workspace.data.rglob("*.json")):
        content = json.loads(path.read_text(), parse_constant=refuse_constant)
        assert all(map(math.isfinite, figures(content))), path
    table = pd.read_parquet(workspace.data / "07_model_output/oof_predictions.parquet")
    assert len(table) == 90
    assert table["probability"].between(0, 1).all()
    for run in workspace.client().search_runs([e.experiment_id for e in workspace.client().search_experiments()]):
        assert run.info.status == "FINISHED"
        assert all(map(math.isfinite, run.data.metrics.values())), run.data.metrics
    page = (workspace.data / "08_reporting/report.md").read_text()
    assert not re.search(r"\b([Nn]a[Nn]|inf|None|null)\b", page.split("## Configuration")[0])
    drawn = {path.stem for path in (workspace.data / "08_reporting/figures").iterdir()}
    assert {"roc", "precision_recall", "reliability", "threshold_curves", "confusion", "criterion_f1"} <= drawn
    return json.loads((workspace.data / "08_reporting/cv_summary.json").read_text())  # type: ignore[no-any-return]


def test_dev_and_held_out_parts_without_a_label(
    workspace: Workspace, tmp_path: Path, rare: str, caplog: pytest.LogCaptureFixture
) -> None:
    corpus = write_corpus(tmp_path / "corpus", lambda p, c: (p < 3 and c < 2) == (rare == "positive"))
    run(workspace, corpus)
    parts = without(workspace, rare)
    assert not parts["train"]
    assert parts["dev"] and parts["held_out"]
    summary = check_results(workspace)
    for fold in summary["folds"]:
        one_label = fold["fold"] in parts["held_out"]
        assert all((fold[metric] is None) == one_label for metric in UNDEFINED)
        assert (fold["dev_f1"] is None) == (fold["fold"] in parts["dev"])
        if fold["fold"] in parts["dev"]:
            assert (fold["slope"], fold["intercept"], fold["threshold"]) == (1, 0, 0.5)
        without_positives = one_label and rare == "positive"
        assert all((fold[metric] is None) == without_positives for metric in ("precision", "recall", "f1"))
    report = (workspace.data / "08_reporting/report.md").read_text()
    assert f"No held-out pair of fold {', '.join(map(str, parts['held_out']))} is {rare}" in report
    assert f"**All dev pairs of fold {', '.join(map(str, parts['dev']))} have the same label**" in report
    assert f"Some parts hold no {rare} pair" in caplog.text
    for fold in parts["dev"]:
        assert f"the dev pairs of fold {fold} are all " in caplog.text


def test_a_train_part_without_a_label(
    workspace: Workspace, tmp_path: Path, rare: str, caplog: pytest.LogCaptureFixture
) -> None:
    corpus = write_corpus(tmp_path / "corpus", lambda p, c: (p == 0 and c == 0) == (rare == "positive"))
    run(workspace, corpus)
    [unlearnt] = without(workspace, rare)["train"]
    summary = check_results(workspace)
    assert f"their train parts hold no {rare} pair: {unlearnt};" in caplog.text
    report = (workspace.data / "08_reporting/report.md").read_text()
    assert f"**No training pair of fold {unlearnt} is {rare}**" in report
    assert summary["n_positive"] == (1 if rare == "positive" else 89)
