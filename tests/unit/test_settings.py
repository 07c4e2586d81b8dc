from pathlib import Path

import pytest

from mentallam import config_loading, project
from mentallam.errors import MentallamError
from mentallam.project import project_path


@pytest.mark.parametrize(("given", "folds"), [(None, 5), ("", 5), (" ", 5), ("2", 2), (" 10 ", 10)])
def test_number_of_folds(monkeypatch: pytest.MonkeyPatch, given: str | None, folds: int) -> None:
    monkeypatch.delenv("MENTALLAM_CV_FOLDS", raising=False)
    if given is not None:
        monkeypatch.setenv("MENTALLAM_CV_FOLDS", given)
    assert config_loading.cv_folds() == folds


@pytest.mark.parametrize("given", ["abc", "2.0", "0", "1", "-3", "1e1", "²", "٣"])
def test_no_number_of_folds_names_the_variable(monkeypatch: pytest.MonkeyPatch, given: str) -> None:
    monkeypatch.setenv("MENTALLAM_CV_FOLDS", given)
    with pytest.raises(MentallamError, match=f"^MENTALLAM_CV_FOLDS is '{given}'; it takes a whole number from 2 on"):
        config_loading.cv_folds()


def test_a_relative_folder_is_below_the_project(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert project.in_project("out 2/%25") == str(project_path() / "out 2/%25")
    assert project.in_project("/elsewhere") == "/elsewhere"
    assert project.in_project("~/out") == str(tmp_path / "out")
