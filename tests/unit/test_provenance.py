import platform
import shutil
import subprocess
from importlib.metadata import version
from pathlib import Path

import pytest

from mentallam import __version__, provenance
from mentallam.provenance import code_version, machine_facts, package_versions


def test_versions_are_those_that_are_installed() -> None:
    versions = package_versions()
    assert versions["torch"] == version("torch")
    assert {"mentallam", "mlflow", "transformers"} <= versions.keys()


def test_facts_do_not_name_the_machine() -> None:
    facts = machine_facts()
    assert facts["python"] == platform.python_version()
    assert facts["memory_bytes"] > 2**20
    assert platform.node() not in {str(value) for value in facts.values()}


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a copy of the package in a git checkout of its own."""
    package = Path(shutil.copytree(provenance._PACKAGE, tmp_path / "src" / "mentallam"))
    monkeypatch.setattr(provenance, "_PACKAGE", package)
    for command in (["init", "-q"], ["add", "."], ["-c", "user.name=a", "-c", "user.email=a", "commit", "-qm", "a"]):
        subprocess.run(["git", "-C", tmp_path, *command], check=True)
    return package


def test_code_is_known_by_commit_dirt_and_content(checkout: Path) -> None:
    look = code_version.__wrapped__
    clean = look()
    assert clean["version"] == __version__
    assert (len(clean["commit"]), clean["dirty"]) == (40, False)
    (checkout / "reports" / "report.md.j2").write_text("another report")
    page = look()
    assert (page["dirty"], page["source"]) == (True, clean["source"])  # a page changes no fold
    source = (checkout / "seeds.py").read_text()
    (checkout / "seeds.py").write_text(source + "# another")
    assert look()["source"] != clean["source"]
    (checkout / "seeds.py").write_text(source)
    (checkout / "classifier" / "another.py").write_text("")
    assert look()["source"] != clean["source"]
    assert code_version() is code_version()  # the code that this process runs does not change with the files


def test_a_package_in_somebody_elses_checkout_has_no_commit(checkout: Path) -> None:
    subprocess.run(["git", "-C", checkout, "rm", "-rq", "--cached", "."], check=True)
    assert code_version.__wrapped__().keys() == {"version", "source"}


def test_what_decides_a_fold_imports_nothing_that_is_not_hashed() -> None:
    hashed = {Path(part).parts[0].removesuffix(".py") for part in provenance._DECIDING_CODE} - {"pipelines"}
    found = {
        line.split()[1].split(".")[1] if line.startswith("from mentallam.") else name
        for part in hashed
        for file in [provenance._PACKAGE / f"{part}.py", *(provenance._PACKAGE / part).rglob("*.py")]
        if file.is_file()
        for line in file.read_text(encoding="utf-8").splitlines()
        if line.startswith(("from mentallam.", "from mentallam import "))
        for name in [word.strip(" ,()") for word in line.partition("import ")[2].split(",")]
    }
    # These read, write, check or stop, and compute nothing that a fold's result consists of.
    idle = {"__version__", "checksums", "console", "errors", "files", "interruption"}
    idle |= {"limits", "markdown", "model_folders", "names", "one_training", "resumption", "retries", "tracking"}
    assert found - hashed <= idle
