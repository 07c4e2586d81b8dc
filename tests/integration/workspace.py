"""A folder for results and tracking, in which a test runs the project's commands."""

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from kedro.framework.session import KedroSession
from kedro.framework.startup import bootstrap_project
from mlflow import MlflowClient

from tests.integration.forked_commands import run_forked
from tests.samples import PROJECT


@dataclass(frozen=True)
class Workspace:
    """A separate place for results and runs.

    `command` starts a process as a user does. `forked` runs the same in a forked process, which is faster.
    """

    folder: Path
    server: str | None = None  # the address of a tracking server; without one the folder holds runs and artifacts

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def environment(self) -> dict[str, str]:
        return {
            **os.environ,
            "MLFLOW_TRACKING_URI": self.server or f"sqlite:///{self.folder}/mlflow.db",
            "MENTALLAM_ARTIFACTS": "" if self.server else str(self.folder / "mlruns"),  # empty counts as unset
            "COLUMNS": "300",  # Kedro's log wraps lines at the terminal's width
        }

    def kedro(
        self, *arguments: str, env: str = "test", forked: bool = True, **variables: str
    ) -> subprocess.CompletedProcess[str]:
        params = [a.removeprefix("--params=") for a in arguments if a.startswith("--params=")]
        rest = [a for a in arguments if not a.startswith("--params=")]
        params.append(f"data_dir={self.data}")
        start = self.forked if forked else self.command
        return start("kedro", "run", "--env", env, *rest, "--params", ",".join(params), **variables)

    def run(
        self, pipeline: str, env: str = "test", *, selected: dict[str, list[str]] | None = None, **params: object
    ) -> None:
        """Run a pipeline in this process, which is many times faster where the terminal doesn't matter."""
        bootstrap_project(PROJECT)
        with pytest.MonkeyPatch.context() as patch:
            for name in ("MLFLOW_TRACKING_URI", "MENTALLAM_ARTIFACTS"):
                patch.setenv(name, self.environment[name])
            again = {"overwrite": True} if pipeline == "inference" else {}
            runtime_params = {"data_dir": str(self.data), **again, **params}
            with KedroSession.create(PROJECT, env=env, runtime_params=runtime_params) as session:
                session.run(pipeline_names=[pipeline], **(selected or {}))  # type: ignore[attr-defined]

    def forked(self, module: str, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        return run_forked((module, *arguments), {**self.environment, **variables}, PROJECT)

    def command(self, module: str, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        return self.python("-m", module, *arguments, **variables)

    def python(self, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, *arguments],
            cwd=PROJECT,
            env={**self.environment, **variables},
            capture_output=True,
            text=True,
            timeout=600,
        )

    def client(self) -> MlflowClient:
        return MlflowClient(self.environment["MLFLOW_TRACKING_URI"])
