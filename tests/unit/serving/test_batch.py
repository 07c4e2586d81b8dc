import json
import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from mentallam.batch_files import BatchFiles, Format
from mentallam.classifier.checkpoint import TrainedFold
from mentallam.datasets import WrittenFileDataset
from mentallam.errors import MentallamError
from mentallam.serving import batch
from mentallam.serving.batch import OutputOptions, Progress, predict_files
from mentallam.serving.output_fields import fields_with
from mentallam.serving.posts import Post
from mentallam.serving.predictor import Predictor
from mentallam.serving.sources import find_sources
from tests.samples import CRITERIA

SECRET = "Marzipan lighthouse"


class KilledError(BaseException):
    """What stands for a kill: nothing catches it."""


@pytest.fixture
def predictor(trained: TrainedFold) -> Predictor:
    return Predictor([trained], tokens_per_pass=400)


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch, "ROWS_PER_BLOCK", 4)


def write(path: Path, *rows: dict[str, Any] | str) -> str:
    path.write_text("".join(f"{row if isinstance(row, str) else json.dumps(row)}\n" for row in rows))
    return str(path)


def many(folder: Path, n: int = 18) -> str:
    rows: list[dict[str, Any] | str] = [
        {"post_id": f"p{number}", "text": f"{SECRET} {number} " * (1 + number % 5)} for number in range(n)
    ]
    rows[5], rows[11] = '{"text": ', {"post_id": "p11", "text": ""}
    return write(folder / "posts.jsonl", *rows)


def run(predictor: Predictor, given: str, folder: Path, format: Format = "jsonl", **options: Any) -> Progress:
    files = BatchFiles(folder, format)
    return predict_files(predictor, find_sources(given), OutputOptions(files, **options), {"model": "one"})


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def pairs(folder: Path) -> list[tuple[str, str]]:
    return [(row["post_id"], row["criterion_id"]) for row in lines(folder / "predictions.jsonl")]


def test_every_good_row_is_answered_and_every_bad_one_named(
    predictor: Predictor, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG):
        progress = run(predictor, many(tmp_path), tmp_path / "out")
    good = [f"p{number}" for number in range(18) if number not in (5, 11)]
    assert pairs(tmp_path / "out") == [(post_id, name) for post_id in good for name in CRITERIA]
    assert [*lines(tmp_path / "out" / "predictions.jsonl")[0]] == [field.name for field in fields_with(explain=False)]
    rejects = lines(tmp_path / "out" / "rejects.jsonl")
    assert [(reject["row"], reject["file"]) for reject in rejects] == [(n, f"{tmp_path}/posts.jsonl") for n in (6, 12)]
    assert "not valid JSON" in rejects[0]["reason"] and "the text is empty" in rejects[1]["reason"]
    tally = progress.tally
    assert (progress.rows, progress.rejected, tally.posts, tally.pairs) == (18, 2, 16, 48)
    assert sum(tally.lengths) == 16
    assert {name: sum(counts.scores) for name, counts in tally.criteria.items()} == dict.fromkeys(CRITERIA, 16)
    yes = [row for row in lines(tmp_path / "out" / "predictions.jsonl") if row["label"] == "yes"]
    assert tally.yes == len(yes)
    written = "".join(path.read_text() for path in (tmp_path / "out").iterdir())
    assert "arzipan" not in written + caplog.text
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["predictions.jsonl", "rejects.jsonl"]


def test_the_answers_are_those_of_the_predictor(predictor: Predictor, tmp_path: Path) -> None:
    given = write(tmp_path / "posts.txt", "I am tired.", "We went to the lake.")
    run(predictor, given, tmp_path)
    table = pd.DataFrame(lines(tmp_path / "predictions.jsonl"))
    expected = pd.DataFrame(predictor.predict([Post("1", "I am tired."), Post("2", "We went to the lake.")]))
    pd.testing.assert_frame_equal(table, expected, check_exact=True)


def killed_in(work: Callable[[], object], monkeypatch: pytest.MonkeyPatch, place: str, call: int) -> None:
    """Do the work until the n-th call of a method of the attempt's store, in the middle of which the process dies."""
    original, count = getattr(batch.Store, place), 0

    def kill(self: Any, *arguments: Any) -> Any:
        nonlocal count
        count += 1
        if count == call:
            original(self, *arguments)
            self._answers.flush()  # what the kernel may have written without being asked
            self._database.rollback()
            raise KilledError
        return original(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(batch.Store, place, kill)
        if place == "commit":  # the process dies before the database has noted the block
            patch.setattr(batch.Store, place, lambda self: _commit_and_die(self, original, call))
        with pytest.raises(KilledError):
            work()


_commits = 0


def _commit_and_die(store: Any, original: Callable[[Any], None], call: int) -> None:
    global _commits
    _commits += 1
    if _commits == call:
        _commits = 0
        store._answers.flush()
        store._rejects.flush()
        store._database.rollback()
        raise KilledError
    original(store)


@pytest.mark.parametrize(("place", "call"), [("write_answers", 1), ("write_answers", 3), ("commit", 1), ("commit", 4)])
@pytest.mark.parametrize("output_format", ["jsonl", "csv", "parquet"])
def test_a_killed_run_goes_on_and_ends_in_the_same_bytes(
    predictor: Predictor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str, call: int, output_format: str
) -> None:
    given = many(tmp_path)
    whole = run(predictor, given, tmp_path / "whole", format=output_format)
    killed_in(lambda: run(predictor, given, tmp_path / "out", format=output_format), monkeypatch, place, call)
    assert not (tmp_path / "out" / f"predictions.{output_format}").exists()
    answered: list[str] = []
    prepare = predictor.prepare
    monkeypatch.setattr(predictor, "prepare", lambda post: answered.append(post.post_id) or prepare(post))
    again = run(predictor, given, tmp_path / "out", format=output_format)
    assert len(answered) == len({*answered}) < 17 or call == 1  # finished blocks are not answered again
    for name in (f"predictions.{output_format}", "rejects.jsonl"):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert replace(again, seconds=0, times=[]) == replace(whole, seconds=0, times=[])


def test_a_kill_while_the_files_are_put_in_place_loses_nothing(
    predictor: Predictor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = many(tmp_path)
    run(predictor, given, tmp_path / "whole")
    copy = batch.shutil.copyfile
    for survivors in (0, 1):

        def die(source: Path, target: Path, left: list[int] = [survivors]) -> None:  # noqa: B006
            if not left[0]:
                raise KilledError
            left[0] -= 1
            copy(source, target)

        with monkeypatch.context() as patch:
            patch.setattr(batch.shutil, "copyfile", die)
            with pytest.raises(KilledError):
                run(predictor, given, tmp_path / "out")
    run(predictor, given, tmp_path / "out")
    for name in ("predictions.jsonl", "rejects.jsonl"):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_other_headings_begin_anew(predictor: Predictor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = ({"text": f"one {n}", "body": f"two {n} and more"} for n in range(12))
    given, options = write(tmp_path / "p.jsonl", *rows), OutputOptions(BatchFiles(tmp_path / "out"))

    def answer(heading: str, folder: Path) -> None:
        predict_files(predictor, find_sources(given, {"text": heading}), replace(options, files=BatchFiles(folder)), {})

    killed_in(lambda: answer("text", tmp_path / "out"), monkeypatch, "commit", 3)
    answer("body", tmp_path / "out")
    answer("body", tmp_path / "whole")
    assert lines(tmp_path / "out" / "predictions.jsonl") == lines(tmp_path / "whole" / "predictions.jsonl")


@pytest.mark.parametrize("changed", ["model", "input"])
def test_another_model_or_input_begins_anew_and_says_so(
    predictor: Predictor,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    changed: str,
) -> None:
    given = many(tmp_path)
    killed_in(lambda: run(predictor, given, tmp_path / "out"), monkeypatch, "commit", 3)
    if changed == "input":
        given = many(tmp_path, n=19)
    with caplog.at_level(logging.INFO):
        options = OutputOptions(BatchFiles(tmp_path / "out"))
        predict_files(predictor, find_sources(given), options, {"model": "two" if changed == "model" else "one"})
    assert "the predictions begin anew: " + ("model" if changed == "model" else "files") in caplog.text
    assert len(pairs(tmp_path / "out")) == 48 + 3 * (changed == "input")


def test_parquet_holds_the_same_as_json_lines(predictor: Predictor, tmp_path: Path) -> None:
    given = many(tmp_path)
    run(predictor, given, tmp_path)
    run(predictor, given, tmp_path, format="parquet")
    table = pd.read_parquet(tmp_path / "predictions.parquet")
    pd.testing.assert_frame_equal(table, pd.DataFrame(lines(tmp_path / "predictions.jsonl")), check_dtype=False)


def test_with_stop_the_first_bad_row_ends_the_run(predictor: Predictor, tmp_path: Path) -> None:
    with pytest.raises(MentallamError, match=r"posts\.jsonl, row 6: not valid JSON"):
        run(predictor, many(tmp_path), tmp_path / "out", on_error="stop")
    assert not (tmp_path / "out" / "predictions.jsonl").exists()


def test_a_file_without_an_answer_is_one_sentence(predictor: Predictor, tmp_path: Path) -> None:
    with pytest.raises(MentallamError, match=r"posts\.txt is empty; it needs at least one post"):
        run(predictor, write(tmp_path / "posts.txt", " "), tmp_path / "out")
    with pytest.raises(MentallamError, match=r"row 1: unknown criterion A\.99.*\(none of 2 rows could be answered\)"):
        given = write(tmp_path / "posts.jsonl", *({"text": SECRET, "criterion_id": "A.99"} for _ in range(2)))
        run(predictor, given, tmp_path / "out")


def test_rejects_of_an_earlier_run_do_not_stay(predictor: Predictor, tmp_path: Path) -> None:
    run(predictor, many(tmp_path), tmp_path / "out")
    run(predictor, write(tmp_path / "posts.txt", "fine"), tmp_path / "out")
    assert not (tmp_path / "out" / "rejects.jsonl").exists()


def test_rows_of_a_post_are_joined_also_across_blocks(predictor: Predictor, tmp_path: Path) -> None:
    asked = [
        ("a", "A.4"),
        ("a", "A.1"),
        ("b", None),
        ("a", "A.4"),
        ("a", "A.6"),
        ("b", "A.1"),
        ("a", "A.1"),
        ("c", "A.1"),
    ]
    given = write(tmp_path / "p.jsonl", *({"post_id": i, "text": i * 3, "criterion_id": c} for i, c in asked))
    progress = run(predictor, given, tmp_path)
    found = pairs(tmp_path)
    assert found == [("a", "A.4"), ("a", "A.1"), *(("b", name) for name in CRITERIA), ("a", "A.6"), ("c", "A.1")]
    assert (progress.rejected, progress.repeated) == (0, 1)  # of the second block only b asks nothing new


def test_a_bad_criterion_costs_its_row_only(predictor: Predictor, tmp_path: Path) -> None:
    asked = [("a", "A.4"), ("a", "A.99"), ("a", CRITERIA["A.4"]), ("b", "A.1"), ("b", None)]
    given = write(tmp_path / "p.jsonl", *({"post_id": i, "text": i * 3, "criterion_id": c} for i, c in asked))
    progress = run(predictor, given, tmp_path)
    assert pairs(tmp_path) == [("a", "A.4"), *(("b", name) for name in CRITERIA)]
    assert [reject["row"] for reject in lines(tmp_path / "rejects.jsonl")] == [2]
    assert progress.rejected == 1


def test_a_post_with_two_texts_is_refused_also_across_blocks(predictor: Predictor, tmp_path: Path) -> None:
    rows = [("a", "one"), ("b", "x"), ("a", "two"), ("c", "x"), ("a", "three"), ("a", "one")]
    given = write(tmp_path / "p.jsonl", *({"post_id": post_id, "text": text} for post_id, text in rows))
    progress = run(predictor, given, tmp_path)
    assert [reject["row"] for reject in lines(tmp_path / "rejects.jsonl")] == [3, 5, 6]
    assert all("post_id 'a' has two texts" in reject["reason"] for reject in lines(tmp_path / "rejects.jsonl"))
    assert progress.tally.posts == 3


def test_several_files_are_one_input(predictor: Predictor, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for name in ("a", "b"):
        write(tmp_path / "in" / f"{name}.txt", *(f"{name} {number}" for number in range(6)))
    (tmp_path / "in" / "c.csv").write_text("body\nno text column\n")
    progress = run(predictor, str(tmp_path / "in"), tmp_path / "out")
    assert [post_id for post_id, name in pairs(tmp_path / "out") if name == "A.1"] == [
        f"{name}.txt:{number}" for name in ("a", "b") for number in range(1, 7)
    ]
    (reject,) = lines(tmp_path / "out" / "rejects.jsonl")
    assert "lacks the column text" in reject["reason"]
    assert progress.rejected == 1
    with pytest.raises(MentallamError, match="lacks the column text"):
        run(predictor, str(tmp_path / "in"), tmp_path / "out", on_error="stop")


def test_a_damaged_attempt_is_one_sentence(
    predictor: Predictor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = many(tmp_path)
    for damage in ("progress.sqlite", "predictions.jsonl"):
        killed_in(lambda: run(predictor, given, tmp_path / "out"), monkeypatch, "commit", 3)
        path = tmp_path / "out" / ".predictions_attempt" / damage
        path.write_bytes(b"x" * 100 if damage == "progress.sqlite" else b"")
        with pytest.raises(MentallamError, match="remove"):
            run(predictor, given, tmp_path / "out")
        for left in path.parent.iterdir():
            left.unlink()
        path.parent.rmdir()


def test_a_csv_holds_the_same_and_no_id_starts_a_formula(predictor: Predictor, tmp_path: Path) -> None:
    given = write(tmp_path / "p.jsonl", *({"post_id": name, "text": "I lie awake"} for name in ("007", "=1+1", "NA")))
    run(predictor, given, tmp_path / "out")
    run(predictor, given, tmp_path / "out", format="csv")
    text = (tmp_path / "out" / "predictions.csv").read_text()
    assert "\n=" not in text
    table = WrittenFileDataset(filepath=str(tmp_path / "out" / "predictions.csv")).load()
    expected = WrittenFileDataset(filepath=str(tmp_path / "out" / "predictions.jsonl")).load()
    pd.testing.assert_frame_equal(table, expected)
