"""Attempts at a small study, each in a process of its own that is forked from one which has imported everything.

Starting Python and importing torch takes longer than the study itself. Whoever forks must not have connected to a
tracking store before: a connection to SQLite does not survive a fork.
"""

import atexit
import os
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

from tests.faults.corpora import write_corpus
from tests.samples import PROJECT

FOLDS = 2
HUB_MODEL = "lab/tiny"
Fault = Callable[[], None]
"""What is done in the child before the command begins: it patches something, or sends a signal later."""

_OVERRIDES = (
    "experiment=tiny training.max_epochs=2 training.effective_batch_pairs=6 training.save_minutes=1e-6 "
    "baselines.models=[tfidf] retries.base_ms=1 retries.max_attempts=3"
)


@dataclass(frozen=True)
class Study:
    """A folder with results, tracking database and artifacts of one study.

    Attributes:
        folder: The folder.
        shared: Corpus and base model, the same for all studies.
        copied_from: The folder of the study that it is a copy of.
        server: Address of the tracking server in front of the database; the study opens the database itself by default.
        hub: Address of the hub that the base model comes from; made on this machine by default.
    """

    folder: Path
    shared: Path
    copied_from: Path | None = None
    server: str = ""
    hub: str = ""

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def database(self) -> Path:
        return self.folder / "mlflow.db"

    @property
    def variables(self) -> dict[str, str]:
        return {
            "MLFLOW_TRACKING_URI": self.server or f"sqlite:///{self.database}",
            "MENTALLAM_ARTIFACTS": str(self.folder / "mlruns"),
            "TMPDIR": str(self.folder / "tmp"),
        }

    @property
    def params(self) -> dict[str, str]:
        return {
            "data_dir": str(self.data),
            "corpus_dir": str(self.shared / "corpus"),
            "base_models": str((self.folder if self.hub else self.shared) / "base"),
            "overrides": _OVERRIDES + (f" model.source=hub model.path={HUB_MODEL}" if self.hub else ""),
            "folds.dev_splits": "3",
            "uncertainty.resamples": "100",
            "system_metrics_interval": "0.5",
        }

    @property
    def nested_params(self) -> dict[str, Any]:
        nested: dict[str, Any] = {}
        for name, value in self.params.items():
            *groups, key = name.split(".")
            place = nested
            for group in groups:
                place = place.setdefault(group, {})
            place[key] = yaml.safe_load(value)
        return nested

    def command(self, *options: str, without: tuple[str, ...] = (), **params: str) -> list[str]:
        """Return the arguments of `kedro run`, without parameters whose names begin with some words."""
        kept = (
            {name: value for name, value in self.params.items() if not name.startswith(without)}
            if without
            else self.params
        )
        given = ",".join(f"{name}={value}" for name, value in {**kept, **params}.items())
        return ["--env", "pairs", "--verbose", *options, "--params", given]


@dataclass(frozen=True)
class Attempt:
    """How one attempt ended.

    Attributes:
        exit_code: As a shell reports it: 128 and the signal for a process that was killed.
        output: What it printed.
        seconds: How long it took.
        cpu_seconds: The time of the processor that it used.
    """

    exit_code: int
    output: str = field(repr=False)
    seconds: float
    cpu_seconds: float

    @property
    def sentence(self) -> str | None:
        """The one sentence of a `MentallamError`, as click prints it; None without one."""
        lines = [line for line in self.output.splitlines() if line.startswith("Error: ")]
        return lines[0].removeprefix("Error: ") if len(lines) == 1 else None


def make_pipelines() -> None:
    """Make the project's pipelines, for the studies' folds."""
    os.environ |= {"MENTALLAM_CV_FOLDS": str(FOLDS), "COLUMNS": "300", "HF_HUB_OFFLINE": "1", "NO_PROXY": "127.0.0.1"}
    os.chdir(PROJECT)
    from kedro.framework.project import pipelines
    from kedro.framework.startup import bootstrap_project

    bootstrap_project(PROJECT)
    dict(pipelines)


def preload() -> None:
    """Import all that a run needs, and make the pipelines."""
    make_pipelines()
    import sklearn
    import sklearn.feature_extraction.text
    import sklearn.linear_model
    import torch

    torch.set_num_threads(1)
    sklearn.set_config(skip_parameter_validation=True)


def prepare(shared: Path) -> None:
    """Write the corpus and an empty tracking database, of which each study gets a copy: a new one takes seconds."""
    write_corpus(shared / "corpus", lambda p, c: (p + c) % 3 == 0, n_posts=12, n_criteria=2)
    if child := os.fork():
        assert os.waitpid(child, 0)[1] == 0
        return
    from mlflow import MlflowClient

    MlflowClient(f"sqlite:///{shared}/mlflow.db").search_experiments()
    os._exit(0)


def warm_up(study: Study) -> None:
    """Run what needs no tracking store, on a finished study, so that its children need not fill caches again."""
    import mlflow.utils.requirements_utils as requirements
    import sqlalchemy.orm
    from kedro.framework.project import pipelines
    from kedro.framework.session import KedroSession

    from mentallam.tracking import NEEDS_TRACKING

    requirements._init_packages_to_modules_map()
    sqlalchemy.orm.configure_mappers()
    nodes = [node.name for node in pipelines["__default__"].nodes if NEEDS_TRACKING not in node.tags]
    params = {name: value for name, value in study.nested_params.items() if name != "system_metrics_interval"}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in study.variables.items():
            patch.setenv(name, value)
        with KedroSession.create(PROJECT, env="pairs", runtime_params=params) as session:
            session.run(node_names=nodes)


def report_inputs(study: Study) -> list[str]:
    """Return the paths, within a study's data folder, of the files that the reporting pipeline reads."""
    from kedro.framework.project import pipelines
    from kedro.framework.session import KedroSession

    with KedroSession.create(PROJECT, env="pairs", runtime_params=study.nested_params) as session:
        catalog = session.load_context().catalog
        datasets = [catalog.get(name) for name in sorted(pipelines["reporting"].inputs())]
    paths = [Path(str(dataset._filepath)) for dataset in datasets if hasattr(dataset, "_filepath")]
    return [path.relative_to(study.data).as_posix() for path in paths if path.is_relative_to(study.data)]


def new_study(folder: Path, shared: Path) -> Study:
    """Create the folder of a study."""
    folder.mkdir(parents=True)
    shutil.copy(shared / "mlflow.db", folder)
    return Study(folder, shared)


def start(study: Study, *faults: Fault, command: list[str] | None = None) -> int:
    """Start an attempt in a child, and return its process id; what it prints is appended to `log.txt`."""
    (study.folder / "tmp").mkdir(parents=True, exist_ok=True)
    if child := os.fork():
        return child
    try:
        signal.alarm(1800)  # whatever happens, the child ends
        atexit._clear()  # what the parent has registered would remove its temporary folders
        log = os.open(study.folder / "log.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        for stream in (1, 2):
            os.dup2(log, stream)
        os.setsid()
        code = _run(study, faults, command or study.command())
    except BaseException:
        traceback.print_exc()
        code = 70
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def wait(
    study: Study, child: int, began: float, kill_at_cpu: float | None = None, sent: int = signal.SIGKILL
) -> Attempt:
    """Wait for an attempt, and send it a signal when it has used some seconds of the processor."""
    process = psutil.Process(child)
    while True:
        pid, status, usage = os.wait4(child, os.WNOHANG)
        if pid == child:
            break
        if kill_at_cpu is not None and _used(process) >= kill_at_cpu:
            os.kill(child, sent)
            kill_at_cpu = None
        time.sleep(0.01 if kill_at_cpu is None else 0.002)
    code = os.waitstatus_to_exitcode(status)
    output = (study.folder / "log.txt").read_text(encoding="utf-8", errors="replace")
    seconds, cpu_seconds = time.monotonic() - began, usage.ru_utime + usage.ru_stime
    return Attempt(code if code >= 0 else 128 - code, output, seconds, cpu_seconds)


def attempt(
    study: Study,
    *faults: Fault,
    kill_at_cpu: float | None = None,
    sent: int = signal.SIGKILL,
    command: list[str] | None = None,
) -> Attempt:
    """Make an attempt at a study.

    Args:
        study: The study.
        *faults: Run in the child first.
        kill_at_cpu: Seconds of the processor after which it gets a signal; how busy the machine is doesn't matter.
        sent: That signal.
        command: The arguments of `kedro run`; None for the study's own.
    """
    began = time.monotonic()
    return wait(study, start(study, *faults, command=command), began, kill_at_cpu, sent)


def _used(process: psutil.Process) -> float:
    try:
        times = process.cpu_times()
    except psutil.Error:  # it has just ended
        return 0.0
    return float(times.user + times.system)


def _run(study: Study, faults: tuple[Fault, ...], command: list[str]) -> int:
    import tempfile

    import mlflow

    from mentallam.cli import run

    mlflow.set_tracking_uri(None)  # type: ignore[arg-type]  # the warm-up has set it; this removes the variable
    os.environ |= study.variables
    tempfile.tempdir = None
    sys.argv = ["kedro", "run", *command]
    for fault in faults:
        fault()
    code = 0
    try:
        run.main(command, prog_name="kedro run")
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else int(bool(error.code))
    atexit._run_exitfuncs()
    return code


def tree(folder: Path) -> Mapping[str, Path]:
    """Return all files below a folder by their path in it."""
    return {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()}
