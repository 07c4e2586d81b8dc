"""Importing the package switches off MLflow's reports to its makers, unless the user has decided."""

import os
import subprocess

import pytest


@pytest.mark.parametrize(("given", "expected"), [({}, "true"), ({"MLFLOW_DISABLE_TELEMETRY": "false"}, "false")])
def test_mlflow_reports_nothing(python: str, given: dict[str, str], expected: str) -> None:
    program = "import os, mentallam; print(os.environ['MLFLOW_DISABLE_TELEMETRY'])"
    kept = {name: value for name, value in os.environ.items() if name != "MLFLOW_DISABLE_TELEMETRY"}
    done = subprocess.run([python, "-c", program], env={**kept, **given}, capture_output=True, text=True)
    assert done.stdout.strip() == expected
