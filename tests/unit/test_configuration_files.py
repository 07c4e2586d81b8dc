from pathlib import Path

import pytest

from mentallam.configuration_files import environment_folders, environment_variables, interpolated_names
from mentallam.errors import MentallamError


@pytest.fixture
def conf(tmp_path: Path) -> Path:
    (tmp_path / "catalog.yml").write_text(
        "# ${runtime_params:commented}\n_a: ${in_project:${runtime_params:data_dir,x}}\n"
        "b: [{c: '${runtime_params: d.e}'}]\n"
    )
    (tmp_path / "mlflow.yml").write_text("uri: ${oc.env:MENTALLAM_ARTIFACTS,${oc.env:OTHER}}\n")
    return tmp_path


def test_names_that_configuration_files_read(conf: Path) -> None:
    assert interpolated_names([conf]) == {"data_dir", "d.e"}


def test_a_file_that_is_no_yaml_is_named_with_its_line(conf: Path) -> None:
    (conf / "parameters.yml").write_text("a: 1\nb: [1\nc: 2\n")
    with pytest.raises(MentallamError, match=r"parameters.yml line \d is not valid YAML"):
        interpolated_names([conf])


def test_variables_that_configuration_files_read(conf: Path) -> None:
    assert environment_variables([conf]) == {"MENTALLAM_ARTIFACTS"}


def test_folders_of_a_run(tmp_path: Path) -> None:
    for name in ("base", "local", "test"):
        (tmp_path / name).mkdir()
    assert environment_folders(tmp_path, "base", "test", named=True) == [tmp_path / "base", tmp_path / "test"]
    assert environment_folders(tmp_path, "base", "base", named=True) == [tmp_path / "base"]
    assert environment_folders(tmp_path, "base", "nope", named=False) == [tmp_path / "base"]
    assert environment_folders(tmp_path / "conf.zip", "base", "test", named=True) == []
    with pytest.raises(
        MentallamError, match=r"--env tset: there is no folder tset in .*; there are: base, local, test$"
    ):
        environment_folders(tmp_path, "base", "tset", named=True)
