"""Time and peak memory of the twin's generator and of data_processing at 1, 10 and 100 times ReDSM5's size.

python benchmarks/data_processing.py [--scales 1 10 100]

Each figure comes from one fresh process and includes the start of Python and Kedro. Processor seconds count only what
the process itself used, so they are also valid on a busy machine.
"""

# Nothing large is imported here: on Linux the peak of a process is at least the memory of the one that starts it.

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]
RESULTS = PROJECT / "benchmarks" / "results" / "data_processing.json"
POSTS, CRITERIA, POSITIVE = 1484, 9, 1292


def measured(command: list[str], environment: dict[str, str], log: Path) -> dict[str, float]:
    """Run a command in a fresh process and return its time and peak memory; its output goes to `log`."""
    start = time.perf_counter()
    with log.open("w") as output:
        process = subprocess.Popen(command, cwd=PROJECT, env=environment, stdout=output, stderr=output)
    _, status, usage = os.wait4(process.pid, 0)  # getrusage(RUSAGE_CHILDREN) would mix the processes
    if status:
        sys.exit(f"{' '.join(command)} failed:\n{log.read_text()[-3000:]}")
    peak = usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return {
        "seconds": round(time.perf_counter() - start, 1),
        "processor_seconds": round(usage.ru_utime + usage.ru_stime, 1),
        "peak_mib": round(peak / 2**20),
    }


def at_scale(scale: int, folder: Path) -> dict[str, object]:
    """Measure generator and data_processing on `scale` times the twin, in an empty folder."""
    raw, data = folder / "raw", folder / "data"
    raw.mkdir()
    shutil.copy(PROJECT / "data" / "01_raw" / "dsm5_criteria.csv", raw)
    environment = {
        **os.environ,
        "MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db",
        "MENTALLAM_ARTIFACTS": str(folder / "mlruns"),
    }
    generate = ["mentallam.corpus.synthetic", "--corpus", "twin", "--scale", str(scale), "--out", str(raw / "twin")]
    posts = scale * POSTS
    params = [
        f"raw_dir={raw}",
        f"data_dir={data}",
        f"expectation.posts={posts}",
        f"expectation.pairs={posts * CRITERIA}",
        f"expectation.positive={scale * POSITIVE}",
    ]
    process = ["kedro", "run", "--env", "twin", "--pipeline", "data_processing", "--params", ",".join(params)]
    return {
        "scale": scale,
        "posts": posts,
        "pairs": posts * CRITERIA,
        "generator": measured([sys.executable, "-m", *generate], environment, folder / "generate.log"),
        "corpus_mib": round(sum(file.stat().st_size for file in (raw / "twin").glob("redsm5_*")) / 2**20, 1),
        "data_processing": measured([sys.executable, "-m", *process], environment, folder / "kedro.log"),
    }


def main() -> None:
    """Print the table and write benchmarks/results/data_processing.json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--scales", type=int, nargs="+", default=[1, 10, 100], help="multiples of ReDSM5's size (default 1 10 100)"
    )
    rows = []
    for scale in parser.parse_args().scales:
        with tempfile.TemporaryDirectory() as folder:
            rows.append(at_scale(scale, Path(folder)))
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps({"command": "python benchmarks/data_processing.py", "rows": rows}, indent=2) + "\n")
    print("| scale | posts | pairs | corpus MiB | | seconds | processor seconds | peak MiB |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for row in rows:
        for name in ("generator", "data_processing"):
            figures = " | ".join(str(figure) for figure in row[name].values())
            print(
                f"| {row['scale']} | {row['posts']:,} | {row['pairs']:,} | {row['corpus_mib']} | {name} | {figures} |"
            )


if __name__ == "__main__":
    main()
