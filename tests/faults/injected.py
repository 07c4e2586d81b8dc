"""Faults that a child of the campaign injects into itself; the product has no hook for any of them."""

import errno
import importlib
import json
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.faults.forked import Fault

# Where a process is killed, by what it does there: module or class, then the function.
PLACES: dict[str, tuple[str, ...]] = {
    "saving a training state": (
        "mentallam.classifier.training:save_state",
        "mentallam.classifier.training_states:replacing_folder",
        "mentallam.classifier.training_states:_contents",
    ),
    "replacing a file or folder": (
        "mentallam.files:force_to_disk",
        "mentallam.files:_aside",
        "pathlib:Path.replace",
        "shutil:rmtree",
    ),
    "saving a dataset": (
        "mentallam.datasets:replacing_file",
        "mentallam.datasets:replacing_folder",
        "mentallam.datasets:AtomicFile._get_save_path",
    ),
    "beginning and ending a fold": (
        "mentallam.pipelines.cv_training.nodes:begin",
        "mentallam.resumption:replacing_file",
        "mentallam.pipelines.cv_training.nodes:save_checkpoint",
        "mentallam.pipelines.cv_training.nodes:save_fold_results",
        "mentallam.pipelines.cv_training.nodes:clear",
        "mentallam.tracking:open_cv_run",
        "mentallam.tracking:open_fold_run",
        "mentallam.tracking:Run.finish",
        "mentallam.tracking:download_checkpoint",
        "mentallam.tracking:keep_report_inputs",
    ),
    "scoring": (
        "mentallam.pipelines.cv_training.nodes:score_fold",
        "mentallam.pipelines.cv_training.nodes:load_checkpoint",
        "mentallam.classifier.fold:score_pairs",
        "mentallam.classifier.training:score_pairs",
    ),
    "writing to MLflow": tuple(
        f"mlflow:MlflowClient.{name}"
        for name in (
            *("create_run", "log_batch", "log_artifacts", "log_artifact", "log_dict", "log_text"),
            *("log_inputs", "log_outputs", "set_terminated", "set_tag", "create_experiment"),
        )
    ),
    "between nodes": (
        "mentallam.hooks:ProjectHooks.before_node_run",
        "mentallam.tracking_hooks:TrackingHooks.after_node_run",
        "mentallam.tracking_hooks:TrackingHooks.before_pipeline_run",
        "mentallam.tracking_hooks:TrackingHooks._end",
    ),
    "reporting": (
        "mentallam.pipelines.reporting.nodes:summarise",
        "mentallam.pipelines.reporting.nodes:report_figures",
        "mentallam.pipelines.reporting.nodes:render_model_card",
        "mentallam.tracking:Run.log_text",
    ),
    "registering the model": (
        "mentallam.registry:_register",
        "mentallam.pipelines.reporting.nodes:save_pyfunc",
        *(
            f"mlflow:MlflowClient.{name}"
            for name in (
                *("create_logged_model", "log_model_artifacts", "finalize_logged_model", "create_registered_model"),
                *("update_registered_model", "create_model_version", "set_registered_model_alias"),
            )
        ),
    ),
}

Act = Callable[[], None]


def asking_hub(address: str, cache: Path) -> Fault:
    """Return what lets a child ask a hub of this machine; its library reads its variables only when it is imported."""

    def fault() -> None:
        import huggingface_hub
        from huggingface_hub import constants

        constants.ENDPOINT = address
        constants.HUGGINGFACE_CO_URL_TEMPLATE = address + "/{repo_id}/resolve/{revision}/{filename}"
        constants.HF_HUB_CACHE, constants.HF_HUB_OFFLINE, constants.HF_HUB_DISABLE_XET = str(cache), False, True
        sleep = time.sleep
        time.sleep = lambda seconds: sleep(min(seconds, 0.05))  # the library's fixed seconds
        huggingface_hub.close_session()

    return fault


def kill() -> None:
    """End this process as the kernel does it when memory runs out: nothing after this line runs."""
    os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(60)


def raising(number: int) -> Act:
    """Return what raises an error of the system."""

    def act() -> None:
        raise OSError(number, os.strerror(number))

    return act


def at_call(place: str, n: int, act: Act = kill, after: bool = False) -> Fault:
    """Return the fault that does something before or after the n-th call of a function."""

    def fault() -> None:
        count = 0

        def before_or_after(original: Callable[..., Any], *args: Any, **named: Any) -> Any:
            nonlocal count
            count += 1
            now = count == n
            if now and not after:
                act()
            result = original(*args, **named)
            if now and after:
                act()
            return result

        _wrap(place, before_or_after)

    return fault


def from_call(place: str, n: int, act: Act, times: int = 10**9) -> Fault:
    """Return the fault that does something before the n-th call of a function, and before those that follow it."""

    def fault() -> None:
        count = 0

        def before(original: Callable[..., Any], *args: Any, **named: Any) -> Any:
            nonlocal count
            count += 1
            if n <= count < n + times:
                act()
            return original(*args, **named)

        _wrap(place, before)

    return fault


def counting(places: list[str], file: Path) -> Fault:
    """Return what writes to a file, at the end, how often each place was called."""

    def fault() -> None:
        counts: Counter[str] = Counter()
        parent = os.getpid()

        def counter(place: str) -> Callable[..., Any]:
            def count(original: Callable[..., Any], *args: Any, **named: Any) -> Any:
                counts[place] += 1
                return original(*args, **named)

            return count

        for place in places:
            _wrap(place, counter(place))
        import atexit

        atexit.register(lambda: file.write_text(json.dumps(counts)) if os.getpid() == parent else None)

    return fault


def clock_jumps(random_: random.Random) -> Fault:
    """Return what sets the clock back by an hour after some readings of it."""
    after = random_.randrange(2000)

    def fault() -> None:
        seconds, nanoseconds, readings = time.time, time.time_ns, 0

        def jumped() -> int:
            nonlocal readings
            readings += 1
            return 3600 if readings > after else 0

        time.time = lambda: seconds() - jumped()
        time.time_ns = lambda: nanoseconds() - 10**9 * jumped()

    return fault


def _wrap(place: str, around: Callable[..., Any]) -> None:
    module, _, path = place.partition(":")
    owner: Any = importlib.import_module(module)
    *classes, name = path.split(".")
    for part in classes:
        owner = getattr(owner, part)
    original = getattr(owner, name)

    def wrapper(*args: Any, **named: Any) -> Any:
        return around(original, *args, **named)

    wrapper.__dict__ |= original.__dict__  # pluggy marks the functions of hooks
    wrapper.__wrapped__ = original  # type: ignore[attr-defined]  # and reads their arguments' names
    wrapper.__name__ = name
    setattr(owner, name, wrapper)


# --- damage to files -------------------------------------------------------------------------------------------------


def truncate(path: Path, random_: random.Random) -> None:
    """Cut a file somewhere."""
    content = path.read_bytes()
    path.write_bytes(content[: random_.randrange(len(content))] if content else b"")


def zero(path: Path, random_: random.Random) -> None:
    """Overwrite a part of a file, at most a page, by zeros, as a crash of the system may leave it."""
    content = bytearray(path.read_bytes())
    start = random_.randrange(0, max(1, len(content)), 4096)
    end = min(len(content), start + 4096)
    content[start:end] = bytes(end - start)
    path.write_bytes(content)


def flip(path: Path, random_: random.Random) -> None:
    """Flip one bit of a file."""
    content = bytearray(path.read_bytes())
    if content:
        content[random_.randrange(len(content))] ^= 1 << random_.randrange(8)
        path.write_bytes(content)


def empty(path: Path, random_: random.Random) -> None:
    """Leave nothing of a file but its name."""
    path.write_bytes(b"")


DAMAGES: dict[str, Callable[[Path, random.Random], None]] = {
    "truncated": truncate,
    "zeroed": zero,
    "bit flipped": flip,
    "emptied": empty,
}

ERRORS = {name: getattr(errno, name) for name in ("ENOSPC", "EACCES", "EROFS", "EIO")}
