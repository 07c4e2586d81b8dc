"""Partitions of a batch, answered one by one here, give what one process gives; with Ray: test_volume.py."""

import json
import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mentallam.batch_files import BatchFiles
from mentallam.classifier.checkpoint import TrainedFold
from mentallam.serving import batch, partitions
from mentallam.serving.batch import OutputOptions, Progress, predict_files
from mentallam.serving.partitions import Partition, divide, settle
from mentallam.serving.predictor import Predictor
from mentallam.serving.sources import find_sources, parts_of_rows
from tests.samples import CRITERIA


@pytest.fixture
def predictor(trained: TrainedFold) -> Predictor:
    return Predictor([trained], tokens_per_pass=1)  # each post by itself, so that its company does not matter


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (batch, partitions):
        monkeypatch.setattr(module, "ROWS_PER_BLOCK", 4)


@given(st.lists(st.integers(0, 50), max_size=8), st.integers(1, 80), st.sampled_from([1, 4, 64]))
def test_the_parts_of_a_table_hold_each_row_once_and_divide_no_block(
    groups: list[int], rows: int, multiple: int
) -> None:
    ends = [sum(groups[: place + 1]) for place in range(len(groups))]
    parts = parts_of_rows(ends, rows, multiple)
    assert parts[0][0] == 0 and parts[-1][1] is None
    assert all(before[1] == after[0] for before, after in pairwise(parts))
    cuts = [start for start, _ in parts[1:]]
    assert all(cut % multiple == 0 and cut < sum(groups) for cut in cuts)
    assert all(after - before >= rows for before, after in pairwise([0, *cuts]))


def messy(folder: Path, seed: int) -> str:
    """Write files in which posts occur again: with other criteria, with other texts, in other files, and bad rows."""
    draw = random.Random(seed)
    folder.mkdir()
    for name in ("a.parquet", "b.jsonl", "c.parquet"):
        rows = [
            {
                "post_id": f"p{draw.randrange(12)}",
                "text": draw.choice(["One text.", "One text.", "One text.", "Another text.", "", "\u200b"]),
                "criterion_id": draw.choice([*CRITERIA, None, "nonsense"]),
            }
            for _ in range(draw.randrange(1, 30))
        ]
        if name == "b.jsonl":
            (folder / name).write_text("".join(f"{json.dumps(row)}\n" for row in [*rows, [1]]))
        else:
            table = pa.Table.from_pylist(rows, pa.schema([(key, pa.string()) for key in rows[0]]))
            pq.write_table(table, folder / name, row_group_size=draw.randrange(1, 9))
    return str(folder)


def in_partitions(predictor: Predictor, given: str, folder: Path) -> tuple[list[Partition], Progress]:
    parts = divide(find_sources(given), OutputOptions(BatchFiles(folder)), 5)
    folder.joinpath(".predictions_attempt").mkdir(parents=True)
    for part in reversed(parts):  # in whichever order
        part.look_through(predictor.choice)
    settle(parts, folder / ".predictions_attempt")
    total = Progress()
    for part in reversed(parts):
        part.answer(predictor)
        total.add(part.finished() or Progress())
    return parts, total


@pytest.mark.parametrize("seed", range(12))
def test_all_partitions_together_give_what_one_process_gives(predictor: Predictor, tmp_path: Path, seed: int) -> None:
    given = messy(tmp_path / "in", seed)
    alone = predict_files(predictor, find_sources(given), OutputOptions(BatchFiles(tmp_path / "alone")), {})
    parts, total = in_partitions(predictor, given, tmp_path / "parts")
    assert len(parts) >= 3
    answers = b"".join(part.answers.read_bytes() for part in parts if part.answers.exists())
    assert answers == (tmp_path / "alone" / "predictions.jsonl").read_bytes()
    rejects = b"".join((part.folder / "rejects.jsonl").read_bytes() for part in parts)
    assert rejects == (tmp_path / "alone" / "rejects.jsonl").read_bytes()
    sums = {name: pytest.approx(counts.score_sum) for name, counts in alone.tally.criteria.items()}
    assert {name: counts.score_sum for name, counts in total.tally.criteria.items()} == sums
    for progress in (alone, total):
        for counts in progress.tally.criteria.values():
            counts.score_sum = 0
    unlike = {"files": 0, "source": 0, "row": 0, "predictions": 0, "seconds": 0, "times": []}
    assert replace(total, **unlike) == replace(alone, **unlike)


def test_a_finished_partition_is_not_answered_again_and_a_killed_one_goes_on(
    predictor: Predictor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = messy(tmp_path / "in", 3)
    whole, _ = in_partitions(predictor, given, tmp_path / "whole")
    largest = max(whole, key=lambda part: len(part.answers.read_bytes()) if part.answers.exists() else 0)
    parts = divide(find_sources(given), OutputOptions(BatchFiles(tmp_path / "again")), 5)
    (tmp_path / "again" / ".predictions_attempt").mkdir(parents=True)
    for part in parts:
        part.look_through(predictor.choice)
    settle(parts, tmp_path / "again" / ".predictions_attempt")
    part, commit = parts[largest.number], batch.Store.commit

    def die(store: Any) -> None:
        commit(store)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(batch.Store, "commit", die)
        part.answer(predictor)
    assert part.finished() is None
    settle(parts, tmp_path / "again" / ".predictions_attempt")  # does nothing to what has begun
    part.answer(predictor)
    assert part.answers.read_bytes() == largest.answers.read_bytes()
    monkeypatch.setattr(predictor, "answer", None)  # finished: nothing is asked
    part.answer(predictor)


@pytest.mark.parametrize("place", ["before the beginning is there", "before it counts as settled"])
def test_a_kill_while_partitions_are_settled_changes_nothing(
    predictor: Predictor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    given = messy(tmp_path / "in", 5)
    whole, _ = in_partitions(predictor, given, tmp_path / "whole")
    attempt = tmp_path / "again" / ".predictions_attempt"
    attempt.mkdir(parents=True)
    parts = divide(find_sources(given), OutputOptions(BatchFiles(tmp_path / "again")), 5)
    for part in parts:
        part.look_through(predictor.choice)
    original, count = partitions.replacing_file, 0

    @contextmanager
    def kill(file: Path) -> Iterator[Path]:
        nonlocal count
        count += 1
        with original(file) as unfinished:
            yield unfinished
            if count == 2 and place.startswith("before the beginning"):
                raise KeyboardInterrupt
        if count == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(partitions, "replacing_file", kill)
        settle(parts, attempt)
    settle(parts, attempt)
    for one, other in zip(parts, whole, strict=True):
        one.answer(predictor)
        assert one.answers.exists() == other.answers.exists()
        assert not other.answers.exists() or one.answers.read_bytes() == other.answers.read_bytes()
