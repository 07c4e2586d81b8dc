"""A given parameter that does not fit the saved results is refused; nothing is trained here."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.integration.workspace import Workspace

FOLD_2 = ("--pipelines", "cv_training", "--namespaces", "fold_2")


@pytest.fixture
def copy(trained: Workspace, tmp_path: Path) -> Workspace:
    return Workspace(Path(shutil.copytree(trained.folder, tmp_path / "copy")))


@pytest.mark.parametrize(
    ("arguments", "params", "sentence"),
    [
        (FOLD_2, "overrides=training.nonsense=1", "'nonsense' not in 'TrainConfig'"),
        (FOLD_2, "overrides=adapter.r=4", "adapter.r has changed from 8 to 4 since training_config was saved"),
        (FOLD_2, "profile=smollm2", "since training_config was saved"),
        (
            ("--pipelines", "cv_training", "--from-nodes", "fold_2.train_and_score"),
            "overrides=adapter.r=4",
            "adapter.r has changed from 8 to 4",
        ),
        (("--pipelines", "reporting"), "overrides=adapter.r=4", "adapter.r has changed from 8 to 4"),
        (("--pipelines", "cv_training", "--only-missing-outputs"), "overrides=adapter.r=4", "has changed from 8 to 4"),
        (("--pipelines", "cv_training", "--only-missing-outputs"), "folds.seed=7", "folds.seed has changed from 42"),
        (("--pipelines", "cv_training", "--only-missing-outputs"), "cleaning.mask=true", "cleaning.mask has changed"),
        (
            ("--pipelines", "cv_training", "--only-missing-outputs"),
            "system_metrics_interval=3",
            "system_metrics_interval would change nothing in this run",
        ),
        (("--pipelines", "reporting", "--only-missing-outputs"), "", "nothing says whether it still fits"),
    ],
)
def test_saved_results_are_not_taken_for_what_was_asked(
    trained: Workspace, kedro_run: Callable[..., str], arguments: tuple[str, ...], params: str, sentence: str
) -> None:
    assert sentence in kedro_run(trained, *arguments, params=params)


def test_the_same_parameters_again_are_no_change(copy: Workspace, kedro_run: Callable[..., str]) -> None:
    params = "overrides=adapter.r=8,folds.seed=42,profile=tiny"
    fold = ("--pipelines", "cv_training", "--nodes", "fold_2.train_and_score")
    assert kedro_run(copy, *fold, params=params) == ""
    assert kedro_run(copy, "--pipelines", "cv_training", "--only-missing-outputs", params=params) == ""


def test_rebuilt_folds_do_not_fit_what_was_trained_before(copy: Workspace, kedro_run: Callable[..., str]) -> None:
    assert kedro_run(copy, "--pipelines", "data_processing", params="folds.seed=7") == ""
    words = "has changed since fold"
    for arguments in (
        ("--pipelines", "reporting"),
        ("--pipelines", "cv_training", "--from-nodes", "close_cv_run"),
        ("--pipelines", "cv_training", "--only-missing-outputs"),
    ):
        assert words in kedro_run(copy, *arguments, params="folds.seed=7")


def test_results_without_their_record(copy: Workspace, kedro_run: Callable[..., str]) -> None:
    resume = ("--pipelines", "cv_training", "--only-missing-outputs")
    (copy.data / "06_models" / "training_config.yml").unlink()
    assert "exists without training_config" in kedro_run(copy, *resume)
    (copy.data / "03_primary" / "manifest.json").unlink()
    assert "exists without data_manifest" in kedro_run(copy, *resume)
