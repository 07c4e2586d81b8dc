"""What the commands may import before they need it: each of these packages takes half a second to some seconds."""

import subprocess
import sys
from importlib.metadata import version

import pytest
from packaging.version import Version

NOT_FOR_AN_ANSWER = {"datasets", "gguf", "kedro.framework", "mlflow", "peft", "plotly", "sklearn"}
if Version(version("transformers")) < Version("5.21"):  # the last ones for Python 3.10 import it
    NOT_FOR_AN_ANSWER -= {"sklearn"}
NOT_FOR_HELP = {*NOT_FOR_AN_ANSWER, "hydra", "pandas", "pyarrow", "torch", "transformers"}


@pytest.mark.parametrize(
    ("module", "without"),
    [
        ("mentallam.serving.command_line", NOT_FOR_HELP),
        ("mentallam.serving.predictor", NOT_FOR_AN_ANSWER),
        # A worker sets its number of threads before torch reads it: two workers with all threads each stand still.
        ("mentallam.runner.engines", {"torch", "numpy"}),
        ("mentallam.fold_queue", {"torch", "numpy"}),
    ],
)
def test_a_command_starts_without_what_it_may_not_need(module: str, without: set[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-c", f"import sys, {module}; print(*sys.modules)"], capture_output=True, text=True, check=True
    )
    assert without & set(done.stdout.split()) == set()
