"""What runs the project elsewhere: each command in the files of scripts/ exists, and each file that they name.

Neither Docker, Airflow, SkyPilot nor Kubernetes is needed; docs/deployment.md says what was tried with them.
"""

import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import jinja2
import pytest
import yaml
from packaging.requirements import Requirement

from mentallam.pipeline_registry import register_pipelines
from mentallam.variables import CV_FOLDS
from tests.commands import COPIED, WrongCommandError, check, commands
from tests.samples import PROJECT

SCRIPTS = PROJECT / "scripts"
DOCKERFILE = (SCRIPTS / "training.Dockerfile").read_text(encoding="utf-8")
COMPOSE = yaml.safe_load((SCRIPTS / "compose.yml").read_text(encoding="utf-8"))
SKY = yaml.safe_load((SCRIPTS / "skypilot.yml").read_text(encoding="utf-8"))
RAY = yaml.safe_load((SCRIPTS / "rayjob.yml").read_text(encoding="utf-8"))
FILES = [SCRIPTS / name for name in ("training.Dockerfile", "compose.yml", "skypilot.yml", "rayjob.yml")]
PROGRAMS = ("docker", "sky", "kubectl", "kedro")


def check_shell(line: str, place: str) -> None:
    """Refuse a line of a shell that would not work in this project."""
    for command in commands(line.strip().removeprefix("exec "), place):
        check(command)


def git_ignores(path: str) -> bool:
    return subprocess.run(["git", "check-ignore", "--quiet", path], cwd=PROJECT).returncode == 0


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_the_commands_in_the_head_of_a_file_exist(file: Path) -> None:
    head = re.match(r"(#.*\n)+", file.read_text(encoding="utf-8"))
    assert head is not None
    found = [line[2:] for line in head[0].splitlines() if line[2:].startswith(PROGRAMS)]
    assert found
    for line in found:
        check_shell(line, file.name)


# The image


def test_the_image_installs_what_make_installs() -> None:
    makefile = (PROJECT / "Makefile").read_text(encoding="utf-8")
    options = re.findall(r"^(?:PIP|LOCKED) +:= .*?(--.*)$", makefile, re.MULTILINE)
    given = {word for line in options for word in line.split()} - {"--disable-pip-version-check", "--quiet"}
    (installer,) = re.findall(r"locked\(\) \{ python -m pip install (.*) \"\$@\"; \}", DOCKERFILE)
    assert set(installer.split()) == given
    files = re.findall(r"--requirement \"?locks/(\S+)\.txt", DOCKERFILE)
    assert files == ["build", "$TORCH", "requirements", "weights"]
    for torch in {*re.findall(r"^(?:# .*--build-arg |ARG )TORCH=(\S+)", DOCKERFILE, re.MULTILINE)}:
        assert (PROJECT / "locks" / f"{torch}.txt").is_file(), torch
    for file in re.findall(r"locks/(?!\$)\S+\.txt|scripts/\S+\.py", DOCKERFILE):
        assert (PROJECT / file).is_file(), file


def test_the_image_has_the_project_and_no_data() -> None:
    rules = [line for line in (PROJECT / ".dockerignore").read_text("utf-8").splitlines() if not line.startswith("#")]
    assert rules[0] == "*"
    let_in = {rule[1:] for rule in rules if rule.startswith("!")}
    assert {name for name in let_in if not (PROJECT / name).exists()} == set()
    assert not {path.split("/")[0] for path in let_in} & {"data", "mlruns", "notebooks", ".venv", ".git"}
    needed = {"conf", "hydra_configs", "locks", "src", "pyproject.toml", "README.md", "LICENSE"}
    assert needed | set(re.findall(r"scripts/\S+\.py", DOCKERFILE)) == let_in
    # What git does not take, as a user's settings and credentials, the image does not take.
    assert {"conf/local/*", "conf/**/*credentials*"} <= set(rules[-5:])


def test_the_image_runs_as_nobody_in_particular_and_downloads_nothing() -> None:
    users = re.findall(r"^USER (\d+)$", DOCKERFILE, re.MULTILINE)
    assert users == ["10001", "0", "10001"]  # root again for packages of Ray alone
    assert "HF_HUB_OFFLINE=1" in DOCKERFILE
    (default,) = re.findall(r"^CMD \[(.*)\]$", DOCKERFILE, re.MULTILINE)
    check_shell(default.replace('"', "").replace(",", ""), "training.Dockerfile")


# Compose


def test_every_command_of_a_service_exists() -> None:
    own = [service for service in COMPOSE["services"].values() if str(service["image"]).startswith("mentallam")]
    assert len(own) == 3
    for service in own:
        check_shell(shlex.join(service["command"]), "compose.yml")
        assert (PROJECT / service["build"]["dockerfile"]).is_file()
        assert set(service["build"].get("args", {})) <= set(re.findall(r"^ARG (\w+)", DOCKERFILE, re.MULTILINE))
        for volume in service["volumes"]:
            source, target = volume.replace(":-", "?").split(":")[:2]
            assert (SCRIPTS / source).is_dir() or source.startswith("${") or source in COMPOSE["volumes"], volume
            folder = target.removeprefix("/project/")
            assert folder in ("conf", "hydra_configs") or re.search(rf"install --directory .* {folder}\b", DOCKERFILE)


def test_only_this_machine_reaches_the_server_and_studies_know_its_address() -> None:
    services = COMPOSE["services"]
    assert [port for service in services.values() for port in service.get("ports", [])] == ["127.0.0.1:5000:5000"]
    address = services["training"]["environment"]["MLFLOW_TRACKING_URI"]
    assert address == "http://mlflow:5000"
    (allowed,) = (word for word in services["mlflow"]["command"] if word.startswith("--allowed-hosts="))
    assert address.removeprefix("http://") in allowed.partition("=")[2].split(",")
    assert "@postgres/" in shlex.join(services["mlflow"]["command"])


def test_the_password_is_in_no_committed_file() -> None:
    example = (SCRIPTS / "compose.env.example").read_text(encoding="utf-8")
    assert "\nPOSTGRES_PASSWORD=\n" in example
    text = (SCRIPTS / "compose.yml").read_text(encoding="utf-8")
    assert set(re.findall(r"\$\{(\w+)", text)) == set(re.findall(r"^(\w+)=", example, re.MULTILINE))
    assert all(file == "scripts/compose.env" and git_ignores(file) for file in COPIED)
    assert not git_ignores("scripts/compose.env.example")


# SkyPilot and Kubernetes


def test_the_commands_of_the_rented_machine_exist() -> None:
    for key in ("setup", "run"):
        check_shell(SKY[key], "skypilot.yml")
    for folder in re.findall(r"(?:=\$HOME|~)/(\w+)", SKY["run"]):
        assert f"~/{folder}" in SKY["file_mounts"], folder
    assert SKY["envs"]["MLFLOW_TRACKING_URI"] is None  # must be given
    stops = (signal.SIGHUP, signal.SIGTERM)
    assert sorted(SKY["resources"]["job_recovery"]["recover_on_exit_codes"]) == sorted(128 + stop for stop in stops)


def test_the_command_of_the_ray_job_exists() -> None:
    check_shell(RAY["spec"]["entrypoint"], "rayjob.yml")
    cluster = RAY["spec"]["rayClusterSpec"]
    (version,) = re.findall(r"^ARG RAY=(\S+)$", DOCKERFILE, re.MULTILINE)
    assert cluster["rayVersion"] == version
    text = (PROJECT / "pyproject.toml").read_text(encoding="utf-8")
    (extra,) = re.findall(r'^ray = \["(.*)"\]$', text, re.MULTILINE)
    assert version in Requirement(extra).specifier
    (worker,) = cluster["workerGroupSpecs"]
    for group in (cluster["headGroupSpec"], worker):
        (container,) = group["template"]["spec"]["containers"]
        mounts = [mount["mountPath"] for mount in container["volumeMounts"]]
        assert mounts == ["/project/data", "/hub"]
        threads = int(re.findall(r"cluster\.threads=(\d+)", RAY["spec"]["entrypoint"])[0])
        assert int(container["resources"]["requests"]["cpu"]) >= threads  # or the fold would wait for ever
    assert 1 + worker["replicas"] == len(folds_of_the_pipeline())


# Airflow


def folds_of_the_pipeline() -> set[str]:
    namespaces = {node.namespace for node in register_pipelines()["__default__"].nodes if node.namespace}
    return {name for name in namespaces if name.startswith("fold_")}


def rendered(env: str = "local", **given: Any) -> str:
    """Return the DAG that `kedro airflow create` writes, with the environment of Jinja that it has."""
    jinja = jinja2.Environment(autoescape=True, loader=jinja2.FileSystemLoader(SCRIPTS), lstrip_blocks=True)
    pipeline = register_pipelines()["__default__"]
    named = {"dag_name": "mentallam", "env": env, "pipeline": pipeline, "project": "/srv/mentallam"}
    return jinja.get_template("airflow_dag.j2").render(**named, **given)


class Task:
    """A stand-in for Airflow's operator, which notes what follows it."""

    made: "dict[str, Task]"

    def __init__(self, **given: Any) -> None:
        self.given, self.next = given, set[str]()
        Task.made[given["task_id"]] = self

    def __rshift__(self, other: "Task | list[Task]") -> "Task | list[Task]":
        self.next |= {task.given["task_id"] for task in (other if isinstance(other, list) else [other])}
        return other

    def __rrshift__(self, others: "list[Task]") -> "Task":
        for other in others:
            other.next.add(self.given["task_id"])
        return self


class Dag:
    """A stand-in for Airflow's DAG."""

    def __init__(self, **given: Any) -> None:
        self.given = given

    def __enter__(self) -> "Dag":
        return self

    def __exit__(self, *_: object) -> None:
        pass


@pytest.fixture
def tasks(monkeypatch: pytest.MonkeyPatch) -> "dict[str, Task]":
    """Give the DAG's file stand-ins for Airflow, and return where it puts its tasks."""
    Task.made = {}
    for name in ("airflow", "airflow.providers", "airflow.providers.standard", "airflow.providers.standard.operators"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    stand_ins: dict[str, Any] = {
        "airflow.providers.standard.operators.bash": SimpleNamespace(BashOperator=Task),
        "airflow.sdk": SimpleNamespace(DAG=Dag),
    }
    for name, module in stand_ins.items():
        monkeypatch.setitem(sys.modules, name, module)
    return Task.made


@pytest.mark.parametrize(("env", "folds"), [("local", 5), ("test", 3)])
def test_the_dag_has_a_task_per_fold(
    tasks: "dict[str, Task]", monkeypatch: pytest.MonkeyPatch, env: str, folds: int
) -> None:
    monkeypatch.setenv(CV_FOLDS, str(folds))
    exec(compile(rendered(env), "mentallam_dag.py", "exec"), {})
    names = {f"fold_{fold}" for fold in range(folds)}
    assert names == folds_of_the_pipeline()
    assert {name: task.next for name, task in tasks.items()} == {
        "data_processing": {"open_cv_run"},
        "open_cv_run": names,
        **{name: {"report"} for name in names},
        "report": set(),
    }


@pytest.mark.parametrize("env", ["local", "test", "mentallam"])
def test_every_command_of_the_dag_exists(tasks: "dict[str, Task]", env: str) -> None:
    text = rendered(env)
    exec(compile(text, "mentallam_dag.py", "exec"), {})
    for task in tasks.values():
        assert task.given["cwd"] == "/srv/mentallam"
        assert ("--env" in task.given["bash_command"]) == (env != "local")
        check_shell(task.given["bash_command"], "airflow_dag.j2")
    (itself,) = re.findall(r"^    (kedro airflow create .*)$", text, re.MULTILINE)
    check_shell(itself, "airflow_dag.j2")


def test_a_wrong_command_of_a_dag_would_be_found(tasks: "dict[str, Task]") -> None:
    exec(compile(rendered("test").replace("--namespaces", "--namespace"), "mentallam_dag.py", "exec"), {})
    with pytest.raises(WrongCommandError, match="No such option"):
        check_shell(tasks["fold_0"].given["bash_command"], "airflow_dag.j2")
