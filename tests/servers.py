"""Servers that a test starts on free ports of this machine: MLflow's, and PostgreSQL behind it."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.request import urlopen

import pytest

from tests.samples import PROJECT

# A busy machine starts one worker in seconds; the default of four are stopped as unhealthy before they have begun.
_ONE_WORKER = {"MLFLOW_WORKERS": "1", "UVICORN_TIMEOUT_WORKER_HEALTHCHECK": "120"}
_ADMINISTRATOR = "mentallam"


@contextmanager
def serving(*command: str, log: Path, **variables: str) -> Iterator[str]:
    """Start a module's command that serves MLflow's pages, and yield their address.

    Args:
        command: The module and its arguments; `--port` is added.
        log: File for the output.
        variables: Environment variables.
    """
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    with log.open("w", encoding="utf-8") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", *command, "--port", str(port)],
            cwd=PROJECT,
            env={**os.environ, **_ONE_WORKER, **variables},
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        _wait_for(lambda: urlopen(f"{address}/health", timeout=5).close(), process, log)
        yield address
    finally:
        # With the processes that the command has started; one that may end by itself waits seconds for its clients.
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@contextmanager
def mlflow_server(folder: Path, database: str) -> Iterator[str]:
    """Start `mlflow server`, which also keeps the artifacts, and yield its address.

    Args:
        folder: Place of its log and, in `kept`, of the artifacts.
        database: Address of its database.
    """
    stores = ("--backend-store-uri", database, "--artifacts-destination", str(folder / "kept"))
    with serving("mlflow", "server", *stores, log=folder / "server.txt") as address:
        yield address


@contextmanager
def postgres() -> Iterator[str]:
    """Start PostgreSQL in a new folder below the temporary one, and yield the address of an empty database.

    A test is skipped if PostgreSQL, its driver or, for root, the user `postgres` is missing.
    """
    pytest.importorskip("psycopg2", reason="the extra `postgres` is not installed")
    programs = shutil.which("initdb") or next(iter(map(str, Path("/usr/lib/postgresql").glob("*/bin/initdb"))), None)
    if not programs:
        pytest.skip("PostgreSQL is not installed (Debian: apt-get install postgresql)")
    as_user = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []  # PostgreSQL refuses to run as root
    folder, port = Path(tempfile.mkdtemp(prefix="postgres-")), free_port()
    try:
        if as_user:
            shutil.chown(folder, "postgres")
        data, bin_folder = folder / "data", Path(programs).parent
        new = [str(bin_folder / "initdb"), "--pgdata", str(data), "--username", _ADMINISTRATOR, "--auth", "trust"]
        subprocess.run([*as_user, *new], cwd=folder, check=True, capture_output=True)
        options = ["-D", str(data), "-k", str(folder), "-p", str(port), "-c", "listen_addresses=127.0.0.1"]
        log = folder / "log.txt"
        with log.open("w", encoding="utf-8") as out:
            process = subprocess.Popen(
                [*as_user, str(bin_folder / "postgres"), *options], cwd=folder, stdout=out, stderr=subprocess.STDOUT
            )
        try:
            _wait_for(lambda: socket.create_connection(("127.0.0.1", port), timeout=5).close(), process, log)
            yield f"postgresql+psycopg2://{_ADMINISTRATOR}@127.0.0.1:{port}/postgres"
        finally:
            process.terminate()  # runuser passes it on
            process.wait()
    finally:
        shutil.rmtree(folder)


def free_port() -> int:
    """Return a port of this machine that nobody listens at."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def _wait_for(connect: Callable[[], None], process: subprocess.Popen[bytes], log: Path) -> None:
    for _ in range(480):
        assert process.poll() is None, log.read_text(encoding="utf-8")
        try:
            return connect()
        except OSError:
            time.sleep(0.5)
    pytest.fail(f"no answer after minutes: {log.read_text(encoding='utf-8')}")


@contextmanager
def s3_server() -> Iterator[str]:
    """Start moto's S3 in a thread of this process, and yield its address; it takes any credentials by itself."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    try:
        yield f"http://{host}:{port}"
    finally:
        server.stop()
