"""The real shape in the profile mentallam, `make test-7b`: about 14 GB of disk, 16 GB of memory, 10 minutes."""

import json
import math
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from safetensors import safe_open

from tests.samples import PROJECT
from tests.slow.process_memory import CLEAR_REFS

GB = 10**9
DISK, MEMORY = 15 * GB, 16 * GB
# 7 projections in each of 32 layers: A, B and magnitude; and the head.
N_SAVED = 7 * 32 * 3 + 1

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Yield the model's folder, which the first test fills and the second reads."""
    place = tmp_path_factory.mktemp("real_shape")
    if not CLEAR_REFS.exists():
        pytest.skip("peak memory by phase is read from Linux's /proc")
    disk, memory = shutil.disk_usage(place).free, psutil.virtual_memory().available
    if disk < DISK or memory < MEMORY:
        pytest.skip(
            f"needs {DISK / GB:.0f} GB of disk and {MEMORY / GB:.0f} GB of memory; "
            f"free are {disk / GB:.0f} GB in {place} and {memory / GB:.0f} GB"
        )
    yield place
    shutil.rmtree(place)  # pytest would keep 13 GB for three more runs


def run(command: str, folder: Path, *overrides: str) -> dict[str, dict[str, float]]:
    # tests/conftest.py asks for one thread; a large model gains from more.
    environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    arguments = [sys.executable, "-m", "tests.slow.real_shape", command, str(folder), *overrides]
    done = subprocess.run(arguments, cwd=PROJECT, env=environment, capture_output=True, text=True, timeout=1800)
    assert done.returncode == 0, done.stderr[-3000:]
    phases = [json.loads(line) for line in done.stdout.splitlines() if line.startswith('{"phase"')]
    for figures in phases:
        print(
            f"| {figures['phase']} | {figures['seconds']:.0f} | {figures['peak_rss'] / GB:.1f} | "
            f"{figures['peak_anonymous'] / GB:.1f} |",
            flush=True,
        )
    return {figures.pop("phase"): figures for figures in phases}


def test_a_7b_model_is_loaded_trained_saved_and_read_again(folder: Path) -> None:
    print("\n| phase | seconds | peak GB | of it anonymous |\n| --- | --- | --- | --- |")
    run("write", folder)
    weights = sum(path.stat().st_size for path in (folder / "llama").glob("*.safetensors"))
    assert weights > 13 * GB
    trained = run("train", folder)
    again = run("predict", folder)
    # A second copy of the weights would reach 2; the rest is Python with torch, and one layer in float32.
    for phases, name in ((trained, "load and add DoRA"), (again, "reload")):
        assert phases[name]["peak_rss"] < 1.2 * weights, name
    with safe_open(folder / "checkpoint" / "adapter_model.safetensors", framework="pt") as saved:
        assert len(saved.keys()) == N_SAVED
        # B starts at zero, so a value other than zero shows that the step reached the layer.
        assert all(saved.get_tensor(name).count_nonzero() for name in saved.keys() if "lora_B" in name)  # noqa: SIM118
    logits = json.loads((folder / "logits.json").read_text())
    assert len(logits) == 9
    assert all(map(math.isfinite, logits))
    assert json.loads((folder / "logits_again.json").read_text()) == logits


def test_its_adapter_is_merged_layer_by_layer(folder: Path) -> None:
    if not (folder / "checkpoint").is_dir():
        pytest.skip("no checkpoint: the test before this one writes it")
    merged = run("merge", folder)
    weights = sum(path.stat().st_size for path in (folder / "llama").glob("*.safetensors"))
    # All weights in float32 would reach 2 and not fit.
    assert merged["reload and merge"]["peak_anonymous"] < 1.2 * weights
    logits = [json.loads((folder / name).read_text()) for name in ("logits.json", "logits_merged.json")]
    assert logits[1] == pytest.approx(logits[0], abs=0.5)  # each is rounded to bfloat16 at a different step
