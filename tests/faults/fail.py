"""Run pipelines that fail, in a process of their own, and show each failure as Kedro and Python show it.

Usage: python fail.py SPOILT, in the canary project's folder; SPOILT is a folder for spoilt files. Prints the name of
each failure and its exception's class before what is shown.
"""

import json
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import pandas as pd
import torch
from kedro.framework.session import KedroSession
from kedro.framework.startup import bootstrap_project
from transformers import Trainer

from mentallam.classifier import training
from mentallam.corpus.texts import clean_text
from tests.faults.canary import POST

PROJECT = Path.cwd()
SPOILT = Path(sys.argv[1]) if len(sys.argv) > 1 else PROJECT


def raw(name: str) -> Path:
    """Copy the corpus, in order to spoil it."""
    return Path(shutil.copytree(PROJECT / "data/01_raw", SPOILT / name / "01_raw"))


def spoil(name: str, change: Callable[[bytes], bytes], file: str = "sample/redsm5_posts.csv") -> dict[str, Any]:
    folder = raw(name)
    (folder / file).write_bytes(change((folder / file).read_bytes()))
    return {"raw_dir": str(folder)}


def pairs(name: str, posts: bytes, ending: str, truth: str = "p1,c1,yes\n") -> dict[str, Any]:
    """Write a corpus in the format `pairs`."""
    folder = SPOILT / name
    folder.mkdir()
    (folder / f"posts.{ending}").write_bytes(posts)
    (folder / "criteria.csv").write_text("criterion_id,criterion\nc1,It speaks.\n")
    (folder / "groundtruth.csv").write_text(f"post_id,criterion_id,label\n{truth}")
    return {"env": "pairs", "corpus_dir": str(folder)}


def parquet(name: str, table: pd.DataFrame, change: Callable[[bytes], bytes] = bytes) -> dict[str, Any]:
    table.to_parquet(SPOILT / f"{name}.source.parquet")
    return pairs(name, change((SPOILT / f"{name}.source.parquet").read_bytes()), "parquet")


def first_row(content: bytes) -> bytes:
    """Return the header's end, the canary's row and nothing else."""
    return content.splitlines(keepends=True)[1]


def flip(content: bytes) -> bytes:
    middle = len(content) // 3
    return content[:middle] + bytes(byte ^ 0xFF for byte in content[middle : middle + 40]) + content[middle + 40 :]


ONE = json.dumps({"post_id": "p1", "post": POST}).encode() + b"\n"
BAD_DATA: dict[str, Callable[[], dict[str, Any]]] = {
    "duplicate id": lambda: spoil("duplicate", lambda content: content + first_row(content)),
    "undecodable byte": lambda: spoil("byte", lambda content: content.replace(b"zanthoquell", b"zantho\xffquell")),
    "nul": lambda: spoil("nul", lambda content: content.replace(b"counted", b"coun\0ted")),
    "open quote": lambda: spoil("quote", lambda content: content.replace(b"The zanthoquell", b'" The zanthoquell')),
    "text as status": lambda: spoil(
        "status", lambda content: content.replace(b",0,", f",{POST},".encode(), 1), "sample/redsm5_annotations.csv"
    ),
    "text as symptom": lambda: spoil(
        "symptom",
        lambda content: content.replace(b"APPETITE_CHANGE", POST.encode(), 1),
        "sample/redsm5_annotations.csv",
    ),
    "text as label": lambda: pairs("label", ONE, "jsonl", f"p1,c1,{POST}\n"),
    "text as id": lambda: pairs("id", ONE, "jsonl", f"{POST},c1,yes\n"),
    "text as criterion": lambda: pairs("criterion", ONE, "jsonl", f"p1,{POST},yes\n"),
    "text as heading": lambda: pairs("heading", ONE.replace(b'"post"', json.dumps(POST).encode()), "jsonl"),
    "cut line": lambda: pairs("cut", ONE + ONE[:-8], "jsonl"),
    "no JSON": lambda: pairs("no_json", POST.encode(), "jsonl"),
    "lone surrogate": lambda: pairs("surrogate", ONE.replace(b"counted", rb"coun\ud800ted"), "jsonl"),
    "wrong type": lambda: pairs("type", json.dumps({"post_id": "p1", "post": [POST]}).encode(), "jsonl"),
    "extra column": lambda: pairs("extra", f"post_id,post\np1,{POST},{POST}\n".encode(), "csv"),
    "parquet of bytes": lambda: parquet("bytes", pd.DataFrame({"post_id": ["p1"], "post": [POST.encode()]})),
    "parquet of lists": lambda: parquet("lists", pd.DataFrame({"post_id": ["p1"], "post": [[POST]]})),
    "corrupt parquet": lambda: parquet("corrupt", pd.DataFrame({"post_id": ["p1"], "post": [POST]}), flip),
    "no parquet": lambda: pairs("no_parquet", POST.encode(), "parquet"),
}


def failing_clean(text: str) -> tuple[str, set[str]]:
    frame = pd.DataFrame({"text": [text]})
    if POST in text:
        raise ValueError(f"a node with {len(frame)} rows in a variable fails")
    return clean_text(text)


def out_of_memory(self: Trainer, *_: Any, **__: Any) -> None:
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")


def interrupted(self: Trainer, *_: Any, **__: Any) -> None:
    raise KeyboardInterrupt


@contextmanager
def corrupt_posts() -> Iterator[None]:
    path = PROJECT / "data/test/02_intermediate/posts.parquet"
    kept = path.read_bytes()
    path.write_bytes(flip(kept))
    try:
        yield
    finally:
        path.write_bytes(kept)


TRAIN = ("cv_training", {"overrides": "training.max_epochs=1"})
FAILURES: dict[str, tuple[Any, str, dict[str, Any], dict[str, Any]]] = {
    "a node fails": (
        mock.patch("mentallam.corpus.texts.clean_text", failing_clean),
        "data_processing",
        {},
        {},
    ),
    "corrupt posts": (corrupt_posts(), "cv_training", {}, {"from_nodes": ["open_cv_run"]}),
    "diverged": (
        mock.patch.dict("os.environ"),
        "cv_training",
        {"overrides": "training.learning_rate=1e30 training.max_grad_norm=1e30"},
        {},
    ),
    "out of memory": (mock.patch.object(training._PackedTrainer, "training_step", out_of_memory), *TRAIN, {}),
    "interrupted": (mock.patch.object(training._PackedTrainer, "training_step", interrupted), *TRAIN, {}),
}


def show(name: str, pipeline: str, params: dict[str, Any], **selected: Any) -> None:
    env = params.pop("env", "test")
    data = {"data_dir": str(PROJECT / "data" / ("test" if selected else "failed"))}
    try:
        with KedroSession.create(PROJECT, env=env, runtime_params={**data, **params}) as session:
            session.run(pipeline_names=[pipeline], **selected)  # type: ignore[attr-defined]
    except BaseException as error:
        print(f"FAILURE {name}: {type(error).__name__}", flush=True)
        sys.excepthook(*sys.exc_info())  # Kedro's: rich's tracebacks
        sys.__excepthook__(*sys.exc_info())  # type: ignore[arg-type]
    else:
        print(f"NO FAILURE {name}", flush=True)


def main() -> None:
    """Run all failures."""
    bootstrap_project(PROJECT)
    for name, prepare in BAD_DATA.items():
        show(name, "data_processing", prepare())
    for name, (patch, pipeline, params, selected) in FAILURES.items():
        with patch:
            show(name, pipeline, dict(params), **selected)


if __name__ == "__main__":
    main()
