"""The wheel of `make dist` in an empty environment, `make test-dist`: PyPI, 2.3 GB of disk, 11 minutes."""

import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

import mentallam
from mentallam.classifier.weights import BaseModel
from mentallam.config import Config
from tests.outside import Outside, check_commands, save_models
from tests.samples import PROJECT
from tests.unit.trained_folds import make_trained

DIST = PROJECT / "dist"

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install the wheel as docs/prediction.md says, torch first: its build is the machine's choice."""
    wheels = list(DIST.glob(f"mentallam-{mentallam.__version__}-*.whl"))
    assert len(wheels) == 1, "build it first: make dist"
    folder = tmp_path_factory.mktemp("environment") / "venv"
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    constraints = DIST / "constraints.txt"
    for wanted in (*re.findall(r"^torch==.*$", constraints.read_text(), re.MULTILINE), str(wheels[0])):
        began = time.perf_counter()
        install = [folder / "bin" / "python", "-m", "pip", "install", "--quiet", wanted, "--constraint", constraints]
        done = subprocess.run(install, capture_output=True, text=True, cwd=folder)
        assert done.returncode == 0, done.stderr[-3000:]
        print(f"{Path(wanted).name} installed in {time.perf_counter() - began:.0f} s", flush=True)
    return folder


def test_the_files_are_those_that_were_built() -> None:
    assert subprocess.run(["sha256sum", "--check", "--strict", "SHA256SUMS"], cwd=DIST).returncode == 0


def test_it_answers_in_a_folder_that_is_no_project(
    environment: Path, tiny_base: BaseModel, tiny_config: Config, tmp_path: Path
) -> None:
    outside = Outside([str(environment / "bin" / "mentallam")], tmp_path, {})
    assert str(environment) in outside.run("doctor").stdout
    began = time.perf_counter()
    check_commands(outside, mentallam.__version__, save_models(make_trained(tiny_base, tiny_config), tmp_path))
    print(f"answers from both folders in {time.perf_counter() - began:.0f} s", flush=True)


def test_only_what_is_locked_is_installed(environment: Path) -> None:
    frozen = [environment / "bin" / "python", "-m", "pip", "freeze", "--exclude", "mentallam"]
    installed = releases(subprocess.run(frozen, capture_output=True, text=True, check=True).stdout)
    of_torch = re.compile("nvidia-(?!ml-py)|cuda-|triton$")  # torch pins its CUDA libraries itself
    locked = releases((DIST / "constraints.txt").read_text())
    assert len(installed) > 100
    assert {release for release in installed - locked if not of_torch.match(release[0])} == set()


def releases(requirements: str) -> set[tuple[str, str]]:
    """Return names and versions, without the local part of a version (`+cpu`)."""
    lines = map(Requirement, requirements.splitlines())
    return {(canonicalize_name(line.name), Version(next(iter(line.specifier)).version).public) for line in lines}
