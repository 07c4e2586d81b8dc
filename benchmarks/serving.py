"""Requests per second, response time and memory of a model behind `mlflow models serve`.

Some clients send posts of the synthetic sample with all criteria, each as soon as it has the answer to its request
before. Memory is that of the server's processes together, after a warm-up of ten seconds and at the end. The server
answers on this machine, so the clients take a part of its cores.

python benchmarks/serving.py models:/mentallam-smollm2@champion [--clients 8] [--posts 1] [--seconds 60] [--workers 1]
    [--threads 2]
"""

import argparse
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.client import HTTPConnection
from itertools import cycle, islice
from pathlib import Path

import numpy as np
import pandas as pd
import psutil

POSTS = Path(__file__).parents[1] / "data" / "01_raw" / "sample" / "redsm5_posts.csv"
WARM_UP = 10.0


@contextmanager
def served(model: str, workers: int, threads: int) -> Iterator[tuple[int, psutil.Process]]:
    """Serve a model, and yield the port and the process."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = ["--env-manager", "local", "--port", str(port), "--workers", str(workers)]
    variables = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",  # MLflow starts uvicorn by its name
        "OMP_NUM_THREADS": str(threads),
    }
    server = subprocess.Popen(
        [sys.executable, "-m", "mlflow", "models", "serve", "-m", model, *options],
        env=variables,
        stdout=subprocess.DEVNULL,  # one line per request
    )
    try:
        while not answers(port):
            assert server.poll() is None, "the server did not start; its error is above"
            time.sleep(0.5)
        yield port, psutil.Process(server.pid)
    finally:
        for process in (*psutil.Process(server.pid).children(recursive=True), server):
            process.terminate()
        server.wait()


def answers(port: int) -> bool:
    """Return whether the server answers."""
    try:
        connection = HTTPConnection("127.0.0.1", port, timeout=5)
        connection.request("GET", "/ping")
        return connection.getresponse().status == 200
    except OSError:
        return False


def client(port: int, bodies: Iterator[bytes], until: float) -> list[tuple[float, float]]:
    """Send requests until a time, and return when each ended and the seconds it took."""
    connection = HTTPConnection("127.0.0.1", port, timeout=600)
    taken = []
    while (began := time.perf_counter()) < until:
        connection.request("POST", "/invocations", next(bodies), {"Content-Type": "application/json"})
        response = connection.getresponse()
        answer = response.read()
        assert response.status == 200, answer
        ended = time.perf_counter()
        taken.append((ended, ended - began))
    return taken


def usage(server: psutil.Process) -> tuple[float, float]:
    """Return the resident memory in MiB and the CPU seconds of the server's processes."""
    processes = [server, *server.children(recursive=True)]
    seconds = sum(sum(process.cpu_times()[:2]) for process in processes)  # user and system
    return sum(process.memory_info().rss for process in processes) / 2**20, seconds


def main() -> None:
    """Print a row of the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="the model's URI")
    parser.add_argument("--clients", type=int, default=8, help="clients that send at the same time (default 8)")
    parser.add_argument("--posts", type=int, default=1, help="posts in a request (default 1)")
    parser.add_argument("--seconds", type=float, default=60, help="seconds to measure (default 60)")
    parser.add_argument("--workers", type=int, default=1, help="processes of the server (default 1)")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="PyTorch threads of each (default: cores)")
    arguments = parser.parse_args()

    rows = pd.read_csv(POSTS)[["text"]].to_dict("records")
    batches = [rows[start : start + arguments.posts] for start in range(0, len(rows), arguments.posts)]
    bodies = [json.dumps({"dataframe_records": batch}).encode() for batch in batches]
    with served(arguments.model, arguments.workers, arguments.threads) as (port, server):
        began = time.perf_counter() + WARM_UP
        until = began + arguments.seconds
        with ThreadPoolExecutor(arguments.clients) as pool:
            running = [
                pool.submit(client, port, islice(cycle(bodies), number, None), until)
                for number in range(arguments.clients)
            ]
            time.sleep(WARM_UP)
            before, cpu_before = usage(server)
            taken = [seconds for sent in running for ended, seconds in sent.result() if began <= ended < until]
        after, cpu_after = usage(server)
    median, high = np.percentile(taken, [50, 95]) * 1000
    figures = {
        "clients": arguments.clients,
        "posts each": arguments.posts,
        "workers": arguments.workers,
        "threads": arguments.threads,
        "requests/s": round(len(taken) / arguments.seconds, 1),
        "median ms": round(median),
        "95 % ms": round(high),
        "CPU ms per request": round((cpu_after - cpu_before) / len(taken) * 1000),
        "MiB before": round(before),
        "MiB after": round(after),
    }
    for cells in (figures, ["---"] * len(figures), map(str, figures.values())):
        print(f"| {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
