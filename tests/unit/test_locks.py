"""The supply chain: locks with hashes, and a workflow that can do little and runs what was read."""

import re
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from tests.samples import PROJECT

LOCKS = ("build", "docs", "requirements", "tools", "torch", "torch-cpu", "weights")
PYTHONS = ("3.10.0", "3.11.0", "3.11.4", "3.12.0", "3.13.0")
WORKFLOWS = sorted(PROJECT.glob(".github/workflows/*.yml"))


def pins(lock: str) -> dict[Requirement, list[str]]:
    """Return the requirements of a lock with their hashes."""
    text = (PROJECT / "locks" / f"{lock}.txt").read_text(encoding="utf-8")
    lines = re.sub(r"^#.*\n", "", text, flags=re.MULTILINE).replace("\\\n", " ").splitlines()
    return {Requirement(line.partition(" --hash")[0]): re.findall(r"--hash=(\S+)", line) for line in lines}


def direct_requirements() -> list[Requirement]:
    """Return what pyproject.toml asks for; Python 3.10 has no reader of TOML."""
    text = (PROJECT / "pyproject.toml").read_text(encoding="utf-8")
    lists = re.findall(r"^(?:dependencies|quantization|dev|mutation) = \[(.*?)\]$", text, re.MULTILINE | re.DOTALL)
    found = [Requirement(quoted) for names in lists for quoted in re.findall(r'"([^"]+)"', names)]
    return [requirement for requirement in found if requirement.name != "mentallam"]


def holds_for(pin: Requirement, python: str) -> bool:
    environment = {"python_version": python.rpartition(".")[0], "python_full_version": python, "sys_platform": "linux"}
    return pin.marker is None or pin.marker.evaluate(environment)


def version(pin: Requirement) -> str:
    return next(iter(pin.specifier)).version


@pytest.mark.parametrize("lock", LOCKS)
def test_every_locked_package_has_one_version_per_python_and_hashes(lock: str) -> None:
    assert pins(lock)
    for pin, hashes in pins(lock).items():
        assert re.fullmatch(r"==[^,*]+", str(pin.specifier)), pin
        assert hashes, pin
        assert [found for found in hashes if not re.fullmatch(r"sha256:[0-9a-f]{64}", found)] == [], pin
    for python in PYTHONS:
        names = [pin.name for pin in pins(lock) if holds_for(pin, python)]
        assert len(names) == len(set(names))


@pytest.mark.parametrize("python", PYTHONS)
def test_every_direct_dependency_is_locked_within_its_range(python: str) -> None:
    locked = {
        canonicalize_name(pin.name): version(pin)
        for lock in ("requirements", "torch")
        for pin in pins(lock)
        if holds_for(pin, python)
    }
    wanted = [requirement for requirement in direct_requirements() if holds_for(requirement, python)]
    assert len(wanted) > 50
    missing = [str(requirement) for requirement in wanted if canonicalize_name(requirement.name) not in locked]
    assert missing == [], "run `make lock`"
    outside = [
        str(requirement)
        for requirement in wanted
        if not requirement.specifier.contains(locked[canonicalize_name(requirement.name)], prereleases=True)
    ]
    assert outside == [], "run `make lock`"


@pytest.mark.parametrize("group", ["docs", "tools"])
def test_the_lock_of_a_group_has_what_it_asks_for(group: str) -> None:
    text = (PROJECT / "pyproject.toml").read_text(encoding="utf-8")
    asked, *_ = re.findall(rf"^{group} = \[(.*)\]$", text.partition("[dependency-groups]")[2], re.MULTILINE)
    locked = {canonicalize_name(pin.name): version(pin) for pin in pins(group) if holds_for(pin, "3.11.0")}
    for requirement in map(Requirement, re.findall(r'"([^"]+)"', asked)):
        assert requirement.specifier.contains(locked[canonicalize_name(requirement.name)]), "run `make lock`"


def test_only_the_lock_of_torch_names_torch_and_its_cuda_libraries() -> None:
    assert [
        pin.name for pin in pins("requirements") if re.match("torch$|triton|cuda-|nvidia-(?!ml-py)", pin.name)
    ] == []
    (release,) = [version(pin) for pin in pins("torch") if pin.name == "torch"]
    (cpu,) = [version(pin) for pin in pins("torch-cpu")]
    assert cpu == f"{release}+cpu"


def test_what_torch_shares_with_other_packages_has_one_version() -> None:
    everything = {(pin.name, str(pin.marker or "")): version(pin) for pin in pins("requirements")}
    shared = {(pin.name, str(pin.marker or "")): version(pin) for pin in {**pins("torch"), **pins("build")}}
    both = everything.keys() & shared.keys()
    assert ("setuptools", "") in both
    assert {key: everything[key] for key in both} == {key: shared[key] for key in both}


def test_installed_pins_admit_every_python_that_is_promised() -> None:
    """Pins for another Python are not installed, so each of CI's Pythons checks the pins that it has."""
    refused, looked_at = [], 0
    for pin in pins("requirements"):
        try:
            found = metadata.distribution(pin.name)
        except metadata.PackageNotFoundError:
            continue
        if not pin.specifier.contains(found.version, prereleases=True):
            continue
        looked_at += 1
        admitted = SpecifierSet(found.metadata.get("Requires-Python") or "")
        refused += [(str(pin), python) for python in PYTHONS if holds_for(pin, python) and python not in admitted]
    assert refused == []
    assert looked_at > 100


def test_every_finding_that_stays_has_a_date_and_a_reason() -> None:
    lines = (PROJECT / "locks" / "findings.txt").read_text(encoding="utf-8").splitlines()
    for line in lines:
        assert re.fullmatch(r"#.*|[A-Z]+-\S+ \d{4}-\d\d-\d\d [\w.-]+: \S.{20,}", line), line


def workflow(path: Path) -> dict[Any, Any]:
    loaded: dict[Any, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return loaded


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_a_workflow_may_only_read_and_ends(path: Path) -> None:
    assert workflow(path)["permissions"] == {"contents": "read"}
    assert workflow(path)["concurrency"]
    assert "pull_request_target" not in workflow(path)[True]  # YAML reads the key `on` as true
    for name, job in workflow(path)["jobs"].items():
        assert "permissions" not in job or (path.name, name) == ("release.yml", "attach")
        assert job["timeout-minutes"] <= 120


def test_the_job_that_may_write_runs_no_code_of_the_repository() -> None:
    (release,) = (path for path in WORKFLOWS if path.name == "release.yml")
    assert workflow(release)[True] == {"push": {"tags": ["v*"]}}
    job = workflow(release)["jobs"]["attach"]
    assert job["permissions"] == {"contents": "write"}
    assert [step["uses"].partition("@")[0] for step in job["steps"] if "uses" in step] == ["actions/download-artifact"]
    commands = [step["run"] for step in job["steps"] if "run" in step]
    assert [command.split()[0] for command in commands] == ["sha256sum", "gh"]
    assert "${{" not in "".join(commands)  # a tag's name is no code


def test_every_command_of_a_workflow_is_a_target_of_make() -> None:
    targets = set(re.findall(r"^([a-z-]+):.*##", (PROJECT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    steps = [step for path in WORKFLOWS for job in workflow(path)["jobs"].values() for step in job["steps"]]
    called = {match[1] for step in steps if (match := re.match(r"make ([a-z-]+)", step.get("run", "")))}
    assert called == {"test", "test-dist", "test-all", "docs", "licences", "sbom", "audit"} <= targets


def test_a_report_of_a_bug_asks_for_the_doctor_and_never_for_a_text() -> None:
    forms = sorted((PROJECT / ".github" / "ISSUE_TEMPLATE").glob("*.yml"))
    assert [form.stem for form in forms] == ["bug", "config", "question"]
    for form in forms:
        if form.stem != "config":
            assert "**Never paste the text of a post**" in form.read_text(encoding="utf-8")
    asked = {part["id"]: part for part in workflow(forms[0])["body"] if "id" in part}
    assert "`mentallam doctor`" in asked["doctor"]["attributes"]["label"]
    assert asked["doctor"]["validations"]["required"] is True
    assert workflow(forms[1]) == {"blank_issues_enabled": False}


def test_hooks_run_the_tools_of_the_environment_that_lint_runs() -> None:
    (local,) = workflow(PROJECT / ".pre-commit-config.yaml")["repos"]
    assert local["repo"] == "local"
    assert {hook["language"] for hook in local["hooks"]} == {"system"}
    tools = {hook["entry"].split()[0] for hook in local["hooks"]}
    assert tools == {f".venv/bin/{name}" for name in ("ruff", "mypy", "codespell", "nbstripout")}
    makefile = (PROJECT / "Makefile").read_text(encoding="utf-8")
    lint = makefile.partition("\nlint: ")[2].partition("\n\n")[0]
    assert {tool.rpartition("/")[2] for tool in tools} < set(re.findall(r"^\t\$\(BIN\)/([\w-]+)", lint, re.MULTILINE))


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_an_action_is_named_by_its_commit_and_keeps_no_credentials(path: Path) -> None:
    steps = [step for job in workflow(path)["jobs"].values() for step in job["steps"]]
    actions = [step for step in steps if "uses" in step]
    assert actions
    for step in actions:
        assert re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40}", step["uses"])
        if step["uses"].startswith("actions/checkout@"):
            assert step["with"]["persist-credentials"] is False


def test_the_workflow_runs_the_command_of_the_readme_and_of_ci() -> None:
    commands = [
        step.get("run") for path in WORKFLOWS for job in workflow(path)["jobs"].values() for step in job["steps"]
    ]
    assert "make test" in commands
    assert (PROJECT / ".ci" / "run").read_text(encoding="utf-8").splitlines()[-1] == "make test"
    assert "make test    #" in (PROJECT / "README.md").read_text(encoding="utf-8")
