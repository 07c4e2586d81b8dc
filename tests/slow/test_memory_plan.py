"""memory_plan's count against the peak memory of real training steps of SmolLM2: `make test-memory`."""

import json
import os
import subprocess
import sys

import pytest

from mentallam.classifier.memory import ALLOWANCE
from mentallam.classifier.weights import prepare_base_model
from mentallam.config import compose_config
from tests.samples import PROJECT
from tests.slow.process_memory import CLEAR_REFS

pytestmark = pytest.mark.slow

CACHE = PROJECT / "data" / "06_models" / "base"
# glibc returns freed memory at once, so that the peak holds no memory that the allocator merely kept.
RETURNED = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}


@pytest.mark.parametrize(
    ("overrides", "environment", "allowance"),
    [
        ("model.dtype=bfloat16", RETURNED, 0.0),
        ("model.dtype=float32", RETURNED, 0.0),
        ("model.dtype=bfloat16 model.gradient_checkpointing=true", RETURNED, 0.0),
        ("model.dtype=bfloat16", {}, ALLOWANCE),
        ("model.dtype=float32", {}, ALLOWANCE),
    ],
)
def test_the_count_is_what_a_step_takes(overrides: str, environment: dict[str, str], allowance: float) -> None:
    if not CLEAR_REFS.exists():
        pytest.skip("peak memory is read from Linux's /proc")
    prepare_base_model(compose_config(PROJECT / "hydra_configs", "smollm2").model, CACHE)
    done = subprocess.run(
        [sys.executable, "-m", "tests.slow.measure_step", str(CACHE), *overrides.split()],
        cwd=PROJECT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    figures = json.loads(done.stdout.splitlines()[-1])
    planned = figures["planned"] * (1 + allowance)
    way = "memory returned at once" if environment else "as it is"
    row = (overrides, way, f"{planned / 1e9:.2f}", f"{figures['measured'] / 1e9:.2f}")
    print(f"\n| {' | '.join(row)} | {figures['measured'] / planned:.2f} |")
    assert figures["measured"] == pytest.approx(planned, rel=0.15)
