from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from mentallam.checksums import write_checksums
from mentallam.fold_results import FoldResults, load_fold_results, save_fold_results
from mentallam.tracking import Run, open_cv_run


@pytest.fixture
def results(tmp_path: Path) -> FoldResults:
    checkpoint = tmp_path / "attempt" / "checkpoint"
    checkpoint.mkdir(parents=True)
    (checkpoint / "adapter_model.safetensors").write_bytes(b"weights")
    write_checksums(checkpoint)
    tables = [pd.DataFrame({"post_id": ["p1", "007"], "logit": [0.1, value]}) for value in (1 / 3, 2.0, 3.0)]
    return FoldResults(checkpoint, *tables, {"fold": 1, "metrics": {"f1": 1 / 3, "roc_auc": None}})


@pytest.fixture
def run(experiment: str, results: FoldResults) -> Run:
    run = Run(open_cv_run("a fold", experiment, "token")["run_id"])
    save_fold_results(run, results)
    return run


def test_results_come_back_as_they_were(run: Run, results: FoldResults, tmp_path: Path) -> None:
    kept = load_fold_results(run.run_id, tmp_path)
    assert kept is not None
    assert (kept.checkpoint / "adapter_model.safetensors").read_bytes() == b"weights"
    for saved, found in zip(results.outputs()[1:4], kept.outputs()[1:4], strict=True):
        pd.testing.assert_frame_equal(found, saved, check_exact=True)
    assert kept.result == results.result


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def zero(path: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))


@pytest.mark.parametrize("damage", [truncate, zero, flip, Path.unlink])
def test_damage_is_named_and_nothing_is_taken(
    run: Run, tmp_path: Path, damage: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    artifacts = tmp_path / "mlruns" / run.run_id / "artifacts"
    files = [path for path in artifacts.rglob("*") if path.is_file()]
    assert len(files) == (1 + 1) + (3 + 1 + 1)  # each folder with its checksums
    for path in files:
        before = path.read_bytes()
        damage(path)
        assert load_fold_results(run.run_id, tmp_path) is None, path
        [message] = caplog.messages
        assert message.startswith(f"the results of run {run.run_id} are not kept")
        assert message.endswith("it is trained anew")
        caplog.clear()
        path.write_bytes(before)
    assert load_fold_results(run.run_id, tmp_path) is not None


def test_a_run_without_results_has_none(experiment: str, tmp_path: Path) -> None:
    assert load_fold_results(open_cv_run("another", experiment, "other")["run_id"], tmp_path) is None
