"""Hundreds of corruptions of corpus files: each is read like the clean file, or refused in one sentence.

The tests compare ids, texts, criteria, labels and explicit negatives after reading and after the check of counts. The
counts detect files that lack whole rows but are otherwise valid. No reader can detect that one character of a text was
replaced by another.
"""

import csv
import io
import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mentallam.corpus.pairs import Expectation, check_counts
from mentallam.corpus.readers import (
    ANNOTATION_COLUMNS,
    CRITERION_COLUMNS,
    POST_COLUMNS,
    Corpus,
    read_corpus,
)
from mentallam.corpus.texts import clean_text
from mentallam.errors import MentallamError

Rows = list[list[str]]

# All words of a post begin with zq, and no message may contain one.
TEXTS = [
    "zqone zqtwo.",
    'zqthree, "zqfour" zqfive',
    "zqcafé zqsix\nzqseven",
    "zqeight \U0001f642 zqnine",
    "zqten\u2019s",
]
REDSM5: dict[str, Rows] = {
    "redsm5_posts.csv": [list(POST_COLUMNS), *([f"s_{n}_1", text] for n, text in enumerate(TEXTS, start=1))],
    "redsm5_annotations.csv": [
        list(ANNOTATION_COLUMNS),
        ["s_1_1", "s_1_1_1", "zqone zqtwo.", "FATIGUE", "1", "zqé."],
        ["s_1_1", "s_1_1_1", "zqone zqtwo.", "ANHEDONIA", "0", "zqwhy."],
        ["s_2_1", "s_2_1_1", "zqthree", "SPECIAL_CASE", "1", "zqwhy, zqso."],
        ["s_4_1", "s_4_1_1", "zqeight", "FATIGUE", "0", "zqwhy."],
        ["s_5_1", "s_5_1_1", "zqten", "ANHEDONIA", "1", 'zq"why".'],
    ],
    "criteria.csv": [
        list(CRITERION_COLUMNS), ["A.2", "ANHEDONIA", "No joy, naïvely put."], ["A.6", "FATIGUE", "Tired."]
    ],
}  # fmt: skip
PAIRS: dict[str, Rows] = {
    "posts.csv": [["post_id", "post"], *([f"p{n}", text] for n, text in enumerate(TEXTS, start=1))],
    "criteria.csv": [["criterion_id", "criterion"], ["social", "People, naïvely."], ["physical", "The body."]],
    "groundtruth.csv": [
        ["post_id", "criterion_id", "label"],
        *([f"p{n}", name, ("yes", "no", "1", "0")[n % 4]] for n in range(1, 6) for name in ("social", "physical")),
    ],
}  # fmt: skip
TABLES = {"redsm5": REDSM5, "pairs": PAIRS}
EXPECTED = {
    "redsm5": Expectation(posts=5, criteria=2, pairs=10, positive=2, explicit_negative=2),
    "pairs": Expectation(posts=5, criteria=2, pairs=10, positive=4, explicit_negative=0),
}
LABEL_COLUMNS = ("status", "label")
OUTCOMES: Counter[str] = Counter()


@dataclass(frozen=True)
class Fault:
    """Files that replace clean ones (None: there is no such file), and the row that the message names."""

    name: str
    format: str
    files: dict[str, bytes | None]
    row: int | None = None

    @property
    def id(self) -> str:
        return f"{self.format}: {'+'.join(name for name, content in self.files.items() if content)}: {self.name}"


def csv_bytes(rows: Sequence[Sequence[str]], **options: Any) -> bytes:
    file = io.StringIO()
    csv.writer(file, **({"lineterminator": "\n"} | options)).writerows(rows)
    return file.getvalue().encode()


def csv_faults(rows: Rows) -> Iterator[tuple[str, bytes, int | None]]:
    """Yield name, bytes and row of each corruption of a CSV."""
    clean = csv_bytes(rows)
    text = clean.decode()
    header, body = rows[0], rows[1:]
    for encoding in ("latin-1", "cp1252", "cp437", "utf-16", "utf-16-le", "utf-16-be", "utf-32"):
        yield f"saved as {encoding}", text.encode(encoding, errors="replace"), None
    yield "UTF-8 taken for cp1252", clean.decode("cp1252", errors="replace").encode(), None
    yield "byte order mark", b"\xef\xbb\xbf" + clean, None
    yield "two byte order marks", b"\xef\xbb\xbf" * 2 + clean, None
    for share in (0, 0.3, 0.6, 0.95):
        for name, byte in (("no UTF-8", b"\xff"), ("a NUL", b"\0"), ("half a character", b"\xc3"), ("a quote", b'"')):
            at = int(share * len(clean))
            yield f"{name} at {at}", clean[:at] + byte + clean[at:], None
    yield "NULs at the end", clean + b"\0" * 100, None
    yield "NULs for the end", clean[:-40] + b"\0" * 40, None

    yield "lines end in CRLF", csv_bytes(rows, lineterminator="\r\n"), None
    yield "lines and texts in CRLF", clean.replace(b"\n", b"\r\n"), None
    yield "lines and texts in CR", clean.replace(b"\n", b"\r"), None
    yield "blank lines at the end", clean + b"\n\r\n\n", None
    yield "a line of spaces at the end", clean + b"  \n", len(rows) + 1
    yield "a blank line", csv_bytes([*rows[:2], [], *rows[2:]]), None
    yield "no line break at the end", clean[:-1], None

    yield "everything quoted", csv_bytes(rows, quoting=csv.QUOTE_ALL), None
    yield "backslashes for quotes", csv_bytes(rows, doublequote=False, escapechar="\\"), None
    yield "no quotes", csv_bytes(rows, quoting=csv.QUOTE_NONE, escapechar="\\"), None
    yield "single quotes", csv_bytes(rows, quotechar="'", quoting=csv.QUOTE_ALL), None
    yield "a quote never closed", clean + b'"never', len(rows) + 1
    yield "a quote closed too early", clean + b'"a"b,c\n', len(rows) + 1
    for name, delimiter in (("semicolons", ";"), ("tabs", "\t"), ("bars", "|")):
        yield name, csv_bytes(rows, delimiter=delimiter), None
    yield "spaces behind commas", csv_bytes([[row[0], *(f" {value}" for value in row[1:])] for row in rows]), None
    yield "a comma behind each row", csv_bytes([[*row, ""] for row in rows]), None
    yield (
        "a comma behind one row",
        csv_bytes([*rows[:3], [*rows[3], ""]] if len(rows) > 3 else [header, [*body[0], ""]]),
        None,
    )

    yield "huge further column", csv_bytes([["huge", *header], *(["zq" * 200_000, *row] for row in body)]), None
    yield "columns in another order", csv_bytes([row[::-1] for row in rows]), None
    yield "no header", csv_bytes(body), None
    yield "header alone", csv_bytes([header]), None
    yield "header twice", csv_bytes([header, *rows]), None
    yield "header in capitals", csv_bytes([[name.upper() + "S" for name in header], *body]), None
    yield "values moved one column on", csv_bytes([header, *([row[-1], *row[:-1]] for row in body)]), None
    for place, name in enumerate(header):
        others = [[value for other, value in enumerate(row) if other != place] for row in rows]
        yield f"no {name}", csv_bytes(others), None
        yield f"{name} renamed", csv_bytes([[*header[:place], f"my_{name}", *header[place + 1 :]], *body]), None
        yield f"{name} with a space", csv_bytes([[*header[:place], f" {name}", *header[place + 1 :]], *body]), None
        yield f"{name} twice", csv_bytes([[*row, row[place]] for row in rows]), 1
    for place, name in enumerate(header):
        values = ["", " "]
        if name not in ("text", "post", *CRITERION_COLUMNS):
            values += ["zqelse zqwhere zqon"]
        if name.endswith("_id"):
            values += [f"{body[0][place]} ", f"\t{body[0][place]}", f"{body[0][place]}\u200b"]
        # ReDSM5's files don't name the ids of criteria, so a wrong one can't be detected.
        if name.endswith("_id") and "symptom" not in header:
            values += ["unknown", "NA"]
        if name in (*LABEL_COLUMNS, "DSM5_symptom", "symptom"):
            values += ["2", "-1", "1.0", " 1", "true", "evidence", "DEPRESED_MOOD", "nan", "01", "\uff11"]
        for value in values if name not in ("sentence_text", "explanation") else []:
            changed = [*body[0][:place], value, *body[0][place + 1 :]]
            yield f"{name} {value!r}", csv_bytes([header, changed, *body[1:]]), None
    for place in range(len(body)):
        yield f"row {place + 2} twice", csv_bytes([*rows, body[place]]), None
        yield f"row {place + 2} lost", csv_bytes([row for row in rows if row is not body[place]]), None
        yield f"row {place + 2} short", csv_bytes([row[:-1] if row is body[place] else row for row in rows]), place + 2
    yield "rows in another order", csv_bytes([header, *body[::-1]]), None
    yield "empty", b"", None
    yield "white space", b" \n\n", None
    yield "a web page", b"<!DOCTYPE html>\n<html><body>Sign in, please</body></html>\n", None
    yield "a Parquet file", table_bytes(rows, ".parquet"), None
    step = max(1, len(clean) // 12)
    for at in range(1, len(clean), step):
        yield f"cut off at {at}", clean[:at], None


def table_bytes(rows: Rows, ending: str) -> bytes:
    frame = pd.DataFrame(rows[1:], columns=rows[0], dtype=str)
    if ending == ".jsonl":
        return frame.to_json(orient="records", lines=True).encode()
    return parquet_bytes(pa.Table.from_pandas(frame))


def parquet_bytes(table: pa.Table) -> bytes:
    file = io.BytesIO()
    pq.write_table(table, file, write_page_checksum=True)
    return file.getvalue()


def parquet_faults(rows: Rows) -> Iterator[tuple[str, bytes, int | None]]:
    table = pa.Table.from_pandas(pd.DataFrame(rows[1:], columns=rows[0], dtype=str))
    clean, header = parquet_bytes(table), rows[0]
    yield "clean", clean, None
    yield "two row groups", parquet_bytes(pa.concat_tables([table.slice(0, 1), table.slice(1)])), None
    for share in range(12):
        yield f"cut off, part {share}", clean[: share * len(clean) // 12], None
    random = Random(0)
    for at in random.sample(range(4, len(clean) - 8), 12):
        flipped = bytes([clean[at] ^ (1 << random.randrange(8))])
        if damages(clean, flipped, at):
            yield f"flipped bit at {at}", clean[:at] + flipped + clean[at + 1 :], None
    yield "a CSV", csv_bytes(rows), None
    yield "no row", parquet_bytes(table.slice(0, 0)), None
    yield "a further column", parquet_bytes(table.append_column("more", pa.nulls(len(table)))), None
    for place, name in enumerate(header):
        column = table[name]
        yield f"no {name}", parquet_bytes(table.drop_columns(name)), None
        yield f"{name} renamed", parquet_bytes(table.rename_columns({name: f"my_{name}"})), None
        for what, same in (
            ("large strings", pa.large_string()),
            ("categories", pa.dictionary(pa.int32(), pa.string())),
        ):
            yield f"{name} as {what}", parquet_bytes(table.set_column(place, name, column.cast(same))), None
        if name in ("sentence_text", "explanation"):
            continue
        n = len(table)
        for what, other in {
            "nulls": pa.nulls(n),
            "a null": pa.array([None, *column.to_pylist()[1:]]),
            "floats": pa.array([0.0] * n),
            "booleans": pa.array([True] * n),
            "times": pa.array([0] * n, pa.timestamp("s")),
            "lists": pa.array([["zqone"]] * n),
            "bytes": column.cast(pa.binary()),
            "integers": pa.array(range(7, 7 + n)),
            "bytes called strings": pa.Array.from_buffers(
                pa.string(), n, pa.array([b"\xff\xfe"] * n, pa.binary()).buffers()
            ),
        }.items():
            yield f"{name} as {what}", parquet_bytes(table.set_column(place, name, other)), None


def damages(clean: bytes, flipped: bytes, at: int) -> bool:
    """Tell whether a flipped bit changes the columns; the rest of the footer names the writer of the file and so on."""
    data_ends = len(clean) - 8 - int.from_bytes(clean[-8:-4], "little")
    return at < data_ends and flipped != clean[at : at + 1]


def jsonl_faults(rows: Rows) -> Iterator[tuple[str, bytes, int | None]]:
    clean = table_bytes(rows, ".jsonl")
    lines = clean.decode().splitlines(keepends=True)
    objects = [dict(zip(rows[0], row, strict=True)) for row in rows[1:]]

    def with_second(line: str) -> bytes:
        return "".join([lines[0], line.rstrip("\n") + "\n", *lines[2:]]).encode()

    yield "clean", clean, None
    yield "not escaped", "".join(json.dumps(o, ensure_ascii=False) + "\n" for o in objects).encode(), None
    yield "byte order mark", b"\xef\xbb\xbf" + clean, None
    yield "lines end in CRLF", clean.replace(b"\n", b"\r\n"), None
    yield "lines end in CR", clean.replace(b"\n", b"\r"), None
    yield "blank lines at the end", clean + b"\n \n", None
    yield "no line break at the end", clean.rstrip(b"\n"), None
    yield "keys in another order", "".join(json.dumps(dict(reversed(o.items()))) + "\n" for o in objects).encode(), None
    yield "a further key", "".join(json.dumps(o | {"more": [1, {"a": 2}]}) + "\n" for o in objects).encode(), None
    yield "a blank line", with_second("\n" + lines[1]), None
    yield "one array", json.dumps(objects).encode(), 1
    yield "indented", json.dumps(objects[0], indent=2).encode(), 1
    yield "an array in a row", with_second(json.dumps(list(objects[1].items()))), 2
    yield "a string in a row", with_second('"zqone"'), 2
    yield "a number in a row", with_second("7"), 2
    yield "an empty object", with_second("{}"), 2
    yield "a comma behind a row", with_second(lines[1].rstrip("\n") + ","), 2
    yield "single quotes", with_second(lines[1].replace('"', "'")), 2
    yield "two objects in a row", with_second(lines[1].rstrip("\n") + lines[1]), 2
    yield "deep", with_second("[" * 100_000), 2
    yield "empty", b"", None
    yield "blank", b"\n\n", None
    yield "a CSV", csv_bytes(rows), 1
    for encoding in ("latin-1", "utf-16"):
        plain = "".join(json.dumps(o, ensure_ascii=False) + "\n" for o in objects)
        yield f"saved as {encoding}", plain.encode(encoding, errors="replace"), None
    for at in range(1, len(clean), len(clean) // 6):
        yield f"cut off at {at}", clean[:at], None
    for name in rows[0]:
        if name in ("sentence_text", "explanation"):
            continue
        pair = f'"{name}":{json.dumps(objects[1][name])}'
        others = {key: value for key, value in objects[1].items() if key != name}
        yield f"no {name}", with_second(json.dumps(others)), 2
        yield f"{name} twice", with_second(lines[1].replace("{", "{" + pair + ",", 1)), 2
        values: dict[str, str] = {
            "null": "null", "nested": '{"a": "zqone"}', "list": '["zqone"]', "not a number": "NaN", "float": "1.0",
            "true": "true", "half a character": '"\\ud800"', "NUL": '"zqone\\u0000"', "empty": '""', "integer": "7",
            "huge": "9" * 5_000,
        }  # fmt: skip
        for what, value in values.items():
            # These are valid labels, so only the count of labels detects them.
            row = None if name == "label" and what in ("true", "float") else 2
            yield f"{name} {what}", with_second(json.dumps(others)[:-1] + f', "{name}": {value}}}'), row


def faults() -> Iterator[Fault]:
    for format, tables in TABLES.items():
        for name, rows in tables.items():
            for what, content, row in csv_faults(rows):
                yield Fault(what, format, {name: content}, row)
            yield Fault("missing", format, {name: None})
            if name == "criteria.csv" and format == "redsm5":
                continue  # the catalog names this file by its full name
            for ending, make in ((".parquet", parquet_faults), (".jsonl", jsonl_faults)):
                other = name.replace(".csv", ending)
                yield Fault("beside the CSV", format, {name: csv_bytes(rows), other: table_bytes(rows, ending)})
                for what, content, row in make(rows):
                    yield Fault(what, format, {name: None, other: content}, row)
        names = list(tables)
        for first in names:
            for second in names:
                if first != second:
                    yield Fault(f"holds {second}", format, {first: csv_bytes(tables[second])})
        yield Fault("all in CRLF", format, {n: csv_bytes(r).replace(b"\n", b"\r\n") for n, r in tables.items()})


def is_clean(fault: Fault) -> bool:
    tables = TABLES[fault.format]
    return all(name in tables and csv_bytes(tables[name]) == content for name, content in fault.files.items())


# Without repetitions and without faults that change nothing, such as Latin-1 in a file of plain ASCII.
FAULTS = list({(fault.format, *fault.files.items()): fault for fault in faults() if not is_clean(fault)}.values())


def write(folder: Path, format: str, changes: dict[str, bytes | None]) -> None:
    folder.mkdir(parents=True)
    for name, content in ({name: csv_bytes(rows) for name, rows in TABLES[format].items()} | changes).items():
        if content is not None:
            (folder / name).write_bytes(content)


def read(folder: Path, format: str) -> Corpus:
    corpus = read_corpus(format, folder, folder / "criteria.csv" if format == "redsm5" else None)
    check_counts(corpus.posts, corpus.criteria, corpus.pairs, EXPECTED[format])
    return corpus


def content_of(corpus: Corpus, cleaned: bool) -> tuple[dict[Any, Any], ...]:
    posts, criteria, pairs = corpus.posts, corpus.criteria, corpus.pairs
    texts = [clean_text(text)[0] if cleaned else text for text in posts["text"]]
    wording = [clean_text(text)[0] if cleaned else text for text in criteria["criterion"]]
    labels = zip(pairs["label"], pairs["explicit_negative"], strict=True)
    return (
        dict(zip(posts["post_id"], texts, strict=True)),
        dict(zip(criteria["criterion_id"], zip(criteria["symptom"], wording, strict=True), strict=True)),
        dict(zip(zip(pairs["post_id"], pairs["criterion_id"], strict=True), labels, strict=True)),
    )


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Corpus]:
    folder = tmp_path_factory.mktemp("clean")
    for format in TABLES:
        write(folder / format, format, {})
    return {format: read(folder / format, format) for format in TABLES}


def test_there_are_enough_faults() -> None:
    assert len(FAULTS) >= 200


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.id)
def test_fault(fault: Fault, clean: dict[str, Corpus], tmp_path: Path) -> None:
    write(tmp_path / "corpus", fault.format, fault.files)
    try:
        found = read(tmp_path / "corpus", fault.format)
    except MentallamError as error:
        OUTCOMES["refused"] += 1
        message = error.message
        assert "\n" not in message
        assert "zq" not in re.sub(r"\\x00|\W", "", message)
        assert error.__cause__ is None
        assert error.__suppress_context__ or error.__context__ is None
        names_file = any(Path(name).stem in message for name in fault.files)
        assert names_file or message.startswith("the data hold")
        assert fault.row is None or f"row {fault.row}:" in message
    else:
        OUTCOMES["read identically"] += 1
        # Cleaning undoes these faults.
        cleaned = fault.name in ("UTF-8 taken for cp1252", "spaces behind commas")
        assert content_of(found, cleaned) == content_of(clean[fault.format], cleaned)
        assert fault.row is None
