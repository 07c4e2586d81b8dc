"""Speed and memory over time of inference on Ray Data and in one process: `python benchmarks/volume.py`.

It needs the model of `kedro run --env test`, of which one fold answers. The posts are those of streaming.py, in a
Parquet file of many row groups. Memory is that of all processes of the run together, of the run's own, and of its
largest actor, every second.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
import pyarrow.json
import pyarrow.parquet as pq
from streaming import write_posts
from workload import save_result

MIB = 2**20


def measure(posts: int, actors: int, data: str, folder: Path) -> dict[str, object]:
    """Run inference on the posts; 0 actors stand for one process without Ray."""
    params = {
        "data_dir": data,
        "model": "best_fold",
        "input": folder / "posts.parquet",
        "output": folder / f"by_{actors}",
    }
    if actors:
        params |= {"cluster.backend": "ray", "cluster.workers": actors, "cluster.partition_rows": 2048}
    given = ",".join(f"{name}={value}" for name, value in (params | {"output_format": "parquet"}).items())
    command = [sys.executable, "-m", "kedro", "run", "--env", "test", "--pipeline", "inference", "--params", given]
    began, seen = time.monotonic(), []
    with (folder / "log.txt").open("w") as log:
        run = subprocess.Popen(command, stdout=log, stderr=log)
        while run.poll() is None:
            seen.append({"second": round(time.monotonic() - began), **memory(run.pid)})
            time.sleep(1)
    if run.returncode:
        sys.exit((folder / "log.txt").read_text())
    (summary,) = (folder / f"by_{actors}").glob("prediction_summary.json")
    found = json.loads(summary.read_text())
    return {
        "posts": posts,
        "actors": actors,
        "posts_per_second": found["posts_per_second"],
        "seconds": seen[-1]["second"],
        "peak": {name: max(each[name] for each in seen) for name in ("all_mib", "actor_mib", "driver_mib")},
        "over_time": seen[:: max(1, len(seen) // 20)],
    }


def memory(pid: int) -> dict[str, int]:
    """Return resident memory in MiB; pages that processes share count for each of them."""
    sizes: dict[str, list[int]] = {"all_mib": [], "actor_mib": [0], "driver_mib": [0]}
    for process in tree(pid):
        try:
            size, name = process.memory_info().rss // MIB, process.name()
        except psutil.Error:  # it has just ended
            continue
        sizes["all_mib"].append(size)
        if name.startswith("ray::MapWorker"):
            sizes["actor_mib"].append(size)
        if process.pid == pid:
            sizes["driver_mib"].append(size)
    return {"all_mib": sum(sizes["all_mib"]), **{name: max(sizes[name]) for name in ("actor_mib", "driver_mib")}}


def tree(pid: int) -> list[psutil.Process]:
    try:
        process = psutil.Process(pid)
        return [process, *process.children(recursive=True)]
    except psutil.Error:
        return []


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--posts", type=int, default=100_000)
    parser.add_argument("--actors", default="2,0")
    parser.add_argument("--data", default="data/test")
    given = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_posts(folder / "posts.jsonl", given.posts)
        table = pyarrow.json.read_json(folder / "posts.jsonl")
        pq.write_table(table, folder / "posts.parquet", row_group_size=1024)
        for actors in map(int, given.actors.split(",")):
            rows.append(measure(given.posts, actors, given.data, folder))
            print(json.dumps({name: value for name, value in rows[-1].items() if name != "over_time"}), flush=True)
        tables = [
            pq.read_table(folder / f"by_{actors}" / "predictions.parquet")
            for actors in map(int, given.actors.split(","))
        ]
        print("the answers are equal:", all(each.equals(tables[0]) for each in tables))
    save_result("volume", rows)


if __name__ == "__main__":
    main()
