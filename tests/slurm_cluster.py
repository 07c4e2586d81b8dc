"""A real SLURM cluster on this machine, for tests: munged, slurmctld and two nodes, in a folder of their own."""

import getpass
import os
import platform
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest

from tests.servers import free_port

NODES = ("node1", "node2")
_DAEMONS = ("munged", "slurmctld", "slurmd")
_DOWN_S = 10  # after so long a node that does not answer is down

# Without accounting, control groups and GPUs. Each node has one core, so it trains one fold at a time.
_CONFIGURATION = """
ClusterName=mentallam
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerParameters=batch_sched_delay=0,sched_interval=2
SlurmdParameters=config_overrides
SlurmdTimeout={down}
ReturnToService=2
KillWait=30
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE OverTimeLimit=0
"""


class SlurmCluster:
    """Two nodes that run.

    Args:
        folder: The place of all files; it must not exist longer than the daemons.
    """

    def __init__(self, folder: Path) -> None:
        self._folder, self._daemons = folder, dict[str, subprocess.Popen[bytes]]()
        lines = _CONFIGURATION.format(
            host=platform.node().partition(".")[0],
            port=free_port(),
            user=getpass.getuser(),
            folder=folder,
            down=_DOWN_S,
        ).splitlines()
        address = "NodeHostname=localhost NodeAddr=127.0.0.1 CPUs=1"
        lines[-1:-1] = (f"NodeName={name} {address} Port={free_port()}" for name in NODES)
        (folder / "slurm.conf").write_text("\n".join([*lines, ""]), encoding="ascii")
        (folder / "cgroup.conf").write_text("CgroupPlugin=cgroup/v1\n", encoding="ascii")
        (folder / "state").mkdir()
        self.environment = {"SLURM_CONF": str(folder / "slurm.conf")}

    def start(self) -> None:
        """Start the daemons, and wait until both nodes are idle."""
        key = self._folder / "munge.key"
        key.write_bytes(os.urandom(128))
        key.chmod(0o600)
        files = {"socket": "munge.socket", "pid-file": "munged.pid", "seed-file": "munge.seed", "key-file": key.name}
        paths = [f"--{name}={self._folder / file}" for name, file in files.items()]
        self._start("munged", "munged", "--foreground", "--force", *paths)
        _wait_until((self._folder / "munge.socket").exists, 30, self.logs)
        self._start("slurmctld", "slurmctld", "-D", "-i", "-c")
        for name in NODES:
            self.start_node(name)
        _wait_until(lambda: self.ask("sinfo", "--noheader", "--format=%T %D").split() == ["idle", "2"], 60, self.logs)

    def start_node(self, name: str) -> None:
        """Start a node, also one that was killed."""
        (self._folder / name).mkdir(exist_ok=True)
        self._start(name, "slurmd", "-D", "-N", name)

    def kill_node(self, name: str) -> None:
        """Kill a node with all that it runs, as a power cut does."""
        steps = list(self._steps(name))
        daemon = self._daemons.pop(name)
        daemon.kill()
        daemon.wait()
        for step in steps:
            for process in [*step.children(recursive=True), step]:
                with suppress(psutil.NoSuchProcess):
                    process.kill()

    def node_of(self, job: str) -> str:
        """Return the node of a job that runs."""
        return self.ask("squeue", "--noheader", "--format=%N", f"--jobs={job}").strip()

    def ask(self, *command: str) -> str:
        """Return what a command of SLURM prints; nothing while the cluster does not answer."""
        return self._run(*command).stdout

    def refuses(self, *command: str) -> bool:
        """Return whether a command of SLURM fails."""
        return self._run(*command).returncode != 0

    def _run(self, *command: str) -> "subprocess.CompletedProcess[str]":
        environment = {**os.environ, **self.environment}
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)

    def stop(self) -> None:
        """End the jobs and the daemons."""
        for name in NODES:
            if name in self._daemons:
                self.kill_node(name)
        for daemon in self._daemons.values():
            daemon.kill()
            daemon.wait()

    def logs(self) -> str:
        """Return the ends of all logs."""
        paths = self._folder.glob("*.log")
        return "\n".join(f"{path.name}:\n{path.read_text(errors='replace')[-2000:]}" for path in paths)

    def _start(self, name: str, program: str, *arguments: str) -> None:
        with (self._folder / f"{name}.out.log").open("ab") as out:
            self._daemons[name] = subprocess.Popen(
                [_found(program) or program, *arguments],
                env={**os.environ, **self.environment},
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def _steps(self, name: str) -> Iterator[psutil.Process]:
        """Yield the processes of a node's steps, which slurmd has let go of; each has its node's log open."""
        for process in psutil.process_iter():
            with suppress(psutil.Error):  # it has just ended
                files = [file.path for file in process.open_files()] if process.name() == "slurmstepd" else []
                if str(self._folder / f"{name}.log") in files:
                    yield process


@contextmanager
def slurm_cluster() -> Iterator[SlurmCluster]:
    """Start a cluster, and end it; a test is skipped where SLURM is not installed."""
    if missing := [name for name in _DAEMONS if not _found(name)]:
        pytest.skip(f"{missing[0]} is not installed (Debian: apt-get install slurm-wlm munge)")
    folder = Path(tempfile.mkdtemp(prefix="slurm-"))
    cluster = SlurmCluster(folder)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()
        shutil.rmtree(folder, ignore_errors=True)


def _found(program: str) -> str | None:
    return shutil.which(program, path=os.pathsep.join([os.environ["PATH"], "/usr/sbin", "/usr/local/sbin"]))


def _wait_until(holds: Callable[[], bool], seconds: float, told: Callable[[], str]) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, told()
        time.sleep(0.2)
