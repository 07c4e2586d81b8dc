from pathlib import Path

import pytest

from mentallam.errors import MentallamError
from mentallam.project import current_project, find_project
from tests.samples import PROJECT


def configure(folder: Path) -> Path:
    for name in ("conf/base", "hydra_configs"):
        (folder / name).mkdir(parents=True)
    return folder


def test_the_project_is_found_from_the_folder_upwards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for inside in (PROJECT, PROJECT / "docs" / "adr"):
        assert find_project(inside) == PROJECT
    assert find_project(tmp_path) is None
    checkout = configure(tmp_path / "checkout")
    (checkout / "pyproject.toml").write_text("[tool.kedro]\n")
    assert find_project(checkout / "hydra_configs") == checkout
    monkeypatch.chdir(checkout / "conf")
    assert current_project() == checkout  # whichever copy of the package runs


def test_a_configuration_without_a_checkout_is_a_project(tmp_path: Path) -> None:
    folder = configure(tmp_path / "study")
    assert find_project(folder / "conf") == folder


def test_another_kedro_project_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "pyproject.toml").write_text("[tool.kedro]\n")
    monkeypatch.chdir(tmp_path)
    assert find_project(tmp_path) is None
    with pytest.raises(MentallamError, match="no mentallam project here"):
        current_project()
    assert find_project(configure(tmp_path / "inner")) == tmp_path / "inner"
