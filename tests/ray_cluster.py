"""A real Ray cluster on this machine, for tests: a head and two nodes, which may see less than the run does."""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest

from tests.samples import PROJECT
from tests.servers import free_port

# Ray takes 127.0.0.1 for the machine's own address, and would listen to a network.
HEAD, NODES = "127.0.0.2", ("127.0.0.3", "127.0.0.4")
_QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "disabled"}
# A node that does not answer for so long is gone.
_FAST = {"RAY_health_check_period_ms": "2000", "RAY_health_check_failure_threshold": "5"}
_STARTS = 5  # Ray gives a busy machine 15 seconds to start a process, and ends otherwise


class RayCluster:
    """Nodes of one core each, and a head that takes no task.

    Args:
        folder: The place of its files; short, since Ray keeps sockets there.
        hidden: A folder that the nodes don't see, as on machines that share none; only root can hide it.
    """

    def __init__(self, folder: Path, hidden: Path | None = None) -> None:
        self._folder, self._hidden = folder, hidden
        self._nodes = dict[str, subprocess.Popen[bytes]]()
        self.address = f"{HEAD}:{free_port()}"
        self.environment = {**_QUIET, **_FAST}

    def start(self) -> None:
        """Start the head and the nodes, one after the other."""
        port = self.address.partition(":")[2]
        head = ("--head", f"--port={port}", f"--temp-dir={self._folder}")
        self._start(HEAD, *head, "--num-cpus=0", "--include-dashboard=false")
        for node in NODES:
            self.start_node(node)

    def start_node(self, node: str) -> None:
        """Start a node, also one that was killed."""
        self._start(node, f"--address={self.address}", "--num-cpus=1")

    def kill_node(self, node: str) -> None:
        """Kill a node with all that it runs, as a power cut does."""
        started = self._nodes.pop(node)
        with suppress(psutil.NoSuchProcess):
            for process in [*psutil.Process(started.pid).children(recursive=True), psutil.Process(started.pid)]:
                with suppress(psutil.NoSuchProcess):
                    process.kill()
        started.wait()

    def node_of(self, process: psutil.Process) -> str:
        """Return the node that a process belongs to."""
        above = {each.pid for each in process.parents()}
        return next(node for node, started in self._nodes.items() if started.pid in above)

    def tasks(self) -> list[psutil.Process]:
        """Return the processes of the nodes that train a fold."""
        found = [each for node in NODES if node in self._nodes for each in self._below(node)]
        return [each for each in found if "ray::run_unit" in "".join(each.cmdline())]

    def stop(self) -> None:
        """Kill all nodes."""
        for node in list(self._nodes):
            self.kill_node(node)

    def _below(self, node: str) -> list[psutil.Process]:
        return psutil.Process(self._nodes[node].pid).children(recursive=True)

    def _start(self, node: str, *options: str) -> None:
        command = [sys.executable, "-m", "ray.scripts.scripts", "start", f"--node-ip-address={node}", *options]
        command += ["--block", "--disable-usage-stats"]
        if self._hidden:
            hide = f"mount -t tmpfs none '{self._hidden}' && exec \"$@\""
            command = ["unshare", "--mount", "sh", "-c", hide, "sh", *command]
        log = self._folder / f"{node}.log"
        for _ in range(_STARTS):
            with log.open("wb") as out:
                self._nodes[node] = subprocess.Popen(
                    command, cwd=PROJECT, env={**os.environ, **self.environment}, stdout=out, stderr=subprocess.STDOUT
                )
            if self._has_started(node, log):
                return
            self.kill_node(node)
        pytest.fail(log.read_text(encoding="utf-8", errors="replace")[-3000:])

    def _has_started(self, node: str, log: Path) -> bool:
        """Wait until a node runs for some seconds, or has ended."""
        runs = 0
        while runs < 5:
            if self._nodes[node].poll() is not None:
                return False
            time.sleep(1)
            runs += "Ray runtime started" in log.read_text(encoding="utf-8", errors="replace")
        return any("raylet" in each.name() for each in self._below(node))


@contextmanager
def ray_cluster(hidden: Path | None = None) -> Iterator[RayCluster]:
    """Start a cluster, and end it; a test is skipped where Ray is not installed, or nothing can be hidden."""
    pytest.importorskip("ray", reason="the extra `ray` is not installed")
    if hidden and (os.geteuid() != 0 or not shutil.which("unshare")):
        pytest.skip("only root can hide a folder from the nodes")
    folder = Path(tempfile.mkdtemp(prefix="ray-"))
    cluster = RayCluster(folder, hidden)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()
        shutil.rmtree(folder, ignore_errors=True)
