"""Commands in processes that are forked from one with everything imported: half of a small command is imports.

What a user meets, from Python's start on, is for tests that start a process of their own.
"""

import atexit
import multiprocessing
import os
import runpy
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

_SERVER = multiprocessing.get_context("forkserver")
_SERVER.set_forkserver_preload(["tests.integration.preloaded"])


def run_forked(
    arguments: Sequence[str], environment: Mapping[str, str], folder: Path, timeout: float = 600
) -> subprocess.CompletedProcess[str]:
    """Run `python -m MODULE ...` in a forked process.

    Args:
        arguments: The module and its arguments.
        environment: All its environment variables.
        folder: Where it works.
        timeout: Seconds until it is killed.
    """
    with tempfile.TemporaryDirectory() as output:
        process = _SERVER.Process(target=_run, args=(list(arguments), dict(environment), folder, output))
        process.start()
        process.join(timeout)
        if process.exitcode is None:
            process.kill()
            raise subprocess.TimeoutExpired(list(arguments), timeout)
        printed = [Path(output, name).read_text(encoding="utf-8") for name in ("stdout", "stderr")]
        return subprocess.CompletedProcess(list(arguments), process.exitcode, *printed)


def _run(arguments: list[str], environment: dict[str, str], folder: Path, output: str) -> None:
    for stream, name in ((1, "stdout"), (2, "stderr")):
        os.dup2(os.open(Path(output, name), os.O_WRONLY | os.O_CREAT), stream)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    sys.argv[1:] = arguments[1:]
    try:
        runpy.run_module(arguments[0], run_name="__main__", alter_sys=True)
    finally:
        atexit._run_exitfuncs()  # multiprocessing ends a process without them
