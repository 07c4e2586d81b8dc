"""Training that was killed or stopped by a signal, in processes of their own, ends in the bits of one that was not."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.samples import PROJECT

pytestmark = pytest.mark.slow

SHORT = (
    "training.max_epochs=2 training.effective_batch_pairs=8 training.tokens_per_pass=400 training.learning_rate=1e-2 "
)
CASES = {
    "float32": ("tiny", "model.dtype=float32"),
    "bfloat16": ("tiny", "model.dtype=bfloat16"),
    "dropout": ("tiny", "adapter.dropout=0.2"),
    "compiled": ("tiny", "model.compile_on_cpu=true"),
    "compiled, bfloat16": ("tiny", "model.compile_on_cpu=true model.dtype=bfloat16"),
    "SmolLM2": ("smollm2", "model.dtype=bfloat16"),
}


def train_part(case: str, states: Path, compiled: Path, minutes: float, stop: str = "") -> tuple[int, str]:
    """Train in a new process with an empty cache of compiled code; return its exit code and last line."""
    experiment, overrides = CASES[case]
    options = f"{SHORT} {overrides} training.save_minutes={minutes}"
    done = subprocess.run(
        [sys.executable, "-m", "tests.slow.train_part", experiment, options, str(states), *([stop] if stop else [])],
        cwd=PROJECT,
        env={**os.environ, "TORCHINDUCTOR_CACHE_DIR": str(compiled)},
        capture_output=True,
        text=True,
        timeout=1800,
    )
    assert stop or done.returncode == 0, done.stderr[-3000:]
    return done.returncode, (done.stdout.splitlines() or [""])[-1]


# Eight log calls: three steps and the dev scores of each of two epochs. Below zero it is a SIGTERM, else a SIGKILL.
@pytest.mark.parametrize("stops", [["3"], ["4"], ["2", "-3"], ["-6"]], ids=str)
@pytest.mark.parametrize("case", CASES)
def test_it_ends_in_the_same_bits(case: str, stops: list[str], tmp_path: Path) -> None:
    _, expected = train_part(case, tmp_path / "whole", tmp_path / "compiled", 1e6)
    for number, stop in enumerate(stops):
        code, _ = train_part(case, tmp_path / "parts", tmp_path / f"compiled_{number}", 1e-9, stop)
        assert code == (-9 if int(stop) > 0 else 1)
    assert list((tmp_path / "parts").glob("step_*"))
    _, found = train_part(case, tmp_path / "parts", tmp_path / "compiled_last", 1e-9)
    assert json.loads(found) == json.loads(expected)
