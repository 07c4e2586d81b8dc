"""The notebooks, run as they are on the results of the shared cross-validation."""

import shutil
from typing import Any

import nbformat
import pandas as pd
import pytest

from tests.integration.workspace import Workspace
from tests.samples import PROJECT

NOTEBOOKS = sorted((PROJECT / "notebooks").glob("*.ipynb"))


@pytest.fixture(scope="module")
def executed(trained: Workspace, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Run all notebooks by nbmake in a project whose test environment has the shared results; return them by name."""
    project = tmp_path_factory.mktemp("project")
    shutil.copytree(PROJECT / "notebooks", project / "notebooks", ignore=shutil.ignore_patterns(".*"))
    shutil.copy(PROJECT / "pyproject.toml", project)
    (project / "src").mkdir()  # Kedro looks for it; the package is that of the tests
    for name in ("conf", "hydra_configs", "data/01_raw", "data/06_models/base"):
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        (project / name).symlink_to(PROJECT / name)
    (project / "data" / "test").symlink_to(trained.data)
    done = trained.python(
        *("-m", "pytest", "--nbmake", "--overwrite", "-p", "no:cacheprovider", str(project / "notebooks")),
        KEDRO_ENV="test",
    )
    assert done.returncode == 0, done.stdout[-5000:]
    return {path.name: nbformat.read(path, 4) for path in (project / "notebooks").glob("*.ipynb")}


def code_cells(notebook: Any) -> list[Any]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def shown(notebook: Any) -> str:
    """Return all outputs of a notebook as text."""
    return "\n".join(str(output) for cell in code_cells(notebook) for output in cell.outputs)


def test_every_notebook_runs_and_its_first_cell_is_silent(executed: dict[str, Any]) -> None:
    assert sorted(executed) == [path.name for path in NOTEBOOKS]
    for name, notebook in executed.items():
        first, *others = code_cells(notebook)
        assert first.outputs == [], name
        assert any(cell.outputs for cell in others), name


def test_no_cell_shows_a_line_of_log_or_a_warning(executed: dict[str, Any]) -> None:
    for name, notebook in executed.items():
        streams = [output for cell in code_cells(notebook) for output in cell.outputs if output.output_type == "stream"]
        assert not [output.text for output in streams if output.name != "stdout"], name
        assert not [word for word in ("INFO", "WARNING", "Loading data from") if word in shown(notebook)], name


def test_the_fold_by_hand_has_the_metrics_of_the_pipeline(executed: dict[str, Any]) -> None:
    assert "fold 0 of the pipeline has the same metrics" in shown(executed["02_one_fold.ipynb"])


def test_own_criteria_are_marked(executed: dict[str, Any]) -> None:
    assert "untrained wording, uncalibrated" in shown(executed["04_own_posts.ipynb"])


def test_posts_are_printed_where_reading_them_is_the_point_and_figures_load_nothing(
    executed: dict[str, Any], trained: Workspace
) -> None:
    posts = pd.read_parquet(trained.data / "02_intermediate" / "posts.parquet")["text"]
    found = {name for name, notebook in executed.items() if any(text[:25] in shown(notebook) for text in posts)}
    assert found == {"01_data_audit.ipynb"}
    for name, notebook in executed.items():
        assert "application/vnd.plotly.v1+json" in shown(notebook), name
        assert "https://cdn" not in shown(notebook), name
