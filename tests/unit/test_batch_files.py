from pathlib import Path

import pytest

from mentallam.batch_files import BatchFiles, batch_file
from mentallam.errors import MentallamError

KINDS = ("predictions", "rejects", "summary", "metrics")


DEFAULT = ["rejects.jsonl", "prediction_summary.json", "prediction_metrics.prom"]


@pytest.mark.parametrize(
    ("output", "output_format", "names"),
    [
        ("june", "", ["predictions.jsonl", *DEFAULT]),
        ("june/", "", ["predictions.jsonl", *DEFAULT]),
        ("june", "csv", ["predictions.csv", *DEFAULT]),
        ("june/predictions.csv", "csv", ["predictions.csv", *DEFAULT]),
        ("june/a.1.parquet", "", ["a.1.parquet", "a.1_rejects.jsonl", "a.1_summary.json", "a.1_metrics.prom"]),
    ],
)
def test_the_files_of_an_output(output: str, output_format: str, names: list[str]) -> None:
    assert [batch_file(kind, output, output_format) for kind in KINDS] == [f"june/{name}" for name in names]


def test_two_files_of_one_folder_share_none() -> None:
    one, two = (BatchFiles.named(f"june/{name}.csv", "") for name in ("a", "predictions"))
    kinds = (*KINDS, "attempt")
    assert len({getattr(files, kind) for files in (one, two) for kind in kinds}) == 2 * len(kinds)


def test_an_ending_that_is_no_format_is_a_folders() -> None:
    assert BatchFiles.named("results/v1.2", "").predictions == Path("results/v1.2/predictions.jsonl")


@pytest.mark.parametrize(
    ("output", "output_format", "sentence"),
    [
        ("june", "xlsx", "output_format=xlsx is not one of jsonl, csv, parquet"),
        ("june.csv", "jsonl", "output=june.csv does not fit output_format=jsonl: leave one of them out"),
    ],
)
def test_a_contradiction_is_refused(output: str, output_format: str, sentence: str) -> None:
    with pytest.raises(MentallamError, match=sentence):
        BatchFiles.named(output, output_format)


@pytest.mark.parametrize(
    ("output", "predictions", "rejects"),
    [
        ("s3://bucket/out", "s3://bucket/out/predictions.jsonl", "s3://bucket/out/rejects.jsonl"),
        ("s3://bucket/out/", "s3://bucket/out/predictions.jsonl", "s3://bucket/out/rejects.jsonl"),
        ("s3://bucket/june.csv", "s3://bucket/june.csv", "s3://bucket/june_rejects.jsonl"),
        ("s3://bucket", "s3://bucket/predictions.jsonl", "s3://bucket/rejects.jsonl"),
    ],
)
def test_files_for_a_store_wait_in_a_folder_of_this_machine(output: str, predictions: str, rejects: str) -> None:
    files = BatchFiles.named(output, "", "waiting")
    assert (files.place(files.predictions), files.place(files.rejects)) == (predictions, rejects)
    assert files.folder.parent == Path("waiting/uploads")
    assert BatchFiles.named("s3://other/out", "", "waiting").folder != files.folder


def test_files_of_this_machine_are_where_they_are() -> None:
    files = BatchFiles.named("june", "csv")
    assert files.place(files.predictions) == "june/predictions.csv"
