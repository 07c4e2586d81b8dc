"""Tests of the reader of tables with files that people have: it reads them, or says in one sentence why not."""

import gzip
import io
import json
import zipfile
from pathlib import Path

import pandas as pd
import pytest

from mentallam.corpus.layouts import Layout, chosen_headings
from mentallam.corpus.refusals import refuse_bad_ids, refuse_blank
from mentallam.corpus.tables import find_table, read_table
from mentallam.errors import MentallamError
from tests.streamed import read_posts

SECRET = "Marzipan lighthouse"
CORPUS = Layout(("post_id", "text"), ("post_id", "text"), "put it there", mappable=("post_id", "text", "author"))
READ_OF_CORPUS = ("post_id", "text")


def zipped() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("xl/workbook.xml", SECRET)
    return file.getvalue()


def parquet() -> bytes:
    return pd.DataFrame({"post_id": ["p1"], "text": [SECRET]}).to_parquet()


LINE = json.dumps({"post_id": "p1", "text": SECRET})
# Faulty files as users of similar projects had them, and what the message says, for corpus and inference alike.
REFUSED = [
    ("posts.csv", f'post_id;text\r\np1;"{SECRET}"\r\n', "semicolons separate its columns; save it with commas"),
    ("posts.csv", f'\ufeff"post_id";"text"\r\n"p1";"{SECRET}"\r\n', "semicolons separate its columns"),
    ("posts.csv", f"post_id\ttext\np1\t{SECRET}\n", "tabs separate its columns"),
    ("posts.csv", f"post_id|text\np1|{SECRET}\n", "vertical bars separate its columns"),
    ("posts.csv", f"sep=;\r\npost_id;text\r\np1;{SECRET}\r\n", "row 1: Excel's line sep=; names a separator; remove"),
    ("posts.csv", f"sep=,\r\npost_id,text\r\np1,{SECRET}\r\n", "row 1: Excel's line sep=, names a separator; remove"),
    ("posts.csv", f"post_id,text\np1,{SECRET}\n".encode("utf-16"), "is UTF-16, not UTF-8; save it as UTF-8"),
    ("posts.csv", f"post_id,text\np1,{SECRET}\n".encode("utf-16-le"), "is probably UTF-16, not UTF-8; save it"),
    ("posts.csv", f"post_id,text\np1,{SECRET}\n".encode("utf-16-be"), "is probably UTF-16, not UTF-8; save it"),
    ("posts.jsonl", f"{LINE}\n".encode("utf-16"), "is UTF-16, not UTF-8; save it as UTF-8"),
    ("posts.csv", f"post_id,text\np1,{SECRET}\u2019s\n".encode("cp1252"), "row 2: not UTF-8, but perhaps Windows-1252"),
    ("posts.csv", b"post_id,text\np1,fine\np2,\x81\n", 'row 3: not UTF-8; save it as UTF-8 ("CSV UTF-8" in Excel)'),
    ("posts.csv", zipped(), 'is an Excel workbook or another ZIP archive; save its sheet as "CSV UTF-8"'),
    ("posts.csv", parquet(), "is a Parquet file; end its name in .parquet"),
    ("posts.jsonl", gzip.compress(LINE.encode(), mtime=0), "is compressed with gzip; unpack it"),
    ("posts.csv", f"<!DOCTYPE html>\n<p>{SECRET}</p>\n", "is a web page; download the file itself"),
    ("posts.parquet", f"post_id,text\np1,{SECRET}\n", "is not a valid Parquet file"),
    ("posts.xlsx", zipped(), 'it must be one of .csv, .parquet, .jsonl, .txt; save its sheet as "CSV UTF-8"'),
    ("posts.tsv", f"post_id\ttext\np1\t{SECRET}\n", "save it as .csv, with commas between the columns"),
    ("posts.json", f"[{LINE}]", "write one object per line, and end its name in .jsonl"),
    ("posts.jsonl", f"[{LINE}]\n", "row 1: an array, not a JSON object; write one object per line"),
    ("posts.jsonl", f'{{"post_id": "p1", "text": "{SECRET}", "text": "more"}}\n', "row 1: a key occurs twice"),
    ("posts.jsonl", f'{{"post_id": "p1", "text": "{SECRET} \\ud83d"}}\n', "row 1: text is not valid Unicode"),
    ("posts.jsonl", f'{{"post_id": true, "text": "{SECRET}"}}\n', "row 1: post_id must be a string; put it in quotes"),
    ("posts.jsonl", f'{{"post_id": 7, "text": "{SECRET}"}}\n', "row 1: post_id must be a string; put it in quotes"),
    (
        "posts.csv",
        f"id,selftext\np1,{SECRET}\n",
        "found 'id', 'selftext'; rename it, or name its heading with --params",
    ),
    ("posts.jsonl", json.dumps({"selftext": SECRET}), "found 'selftext'; rename it, or name its heading with --params"),
    ("posts.csv", f"p1,{SECRET}\np2,{SECRET}\n", "its first row names none of them"),
    ("posts.csv", "Marzipan\nlighthouse\n", "its first row names none of them"),
    ("posts.csv", f"post_id,text,Text\np1,{SECRET},b\n", "row 1: the column text occurs twice; remove one"),
    ("posts.csv", f"post_id,text\n p1,{SECRET}\n", "row 2: post_id has white space around it"),
    ("posts.csv", f'post_id,text\np1,{SECRET} "so"\n', "row 2: not valid CSV (a quote within a value"),
]


# Inference reads row by row, so it does not look at the whole file for another encoding.
OTHERWISE = {
    "row 2: not UTF-8, but perhaps Windows-1252": "row 2: text is not valid UTF-8; save it as UTF-8",
    'row 3: not UTF-8; save it as UTF-8 ("CSV UTF-8" in Excel)': "row 3: text is not valid UTF-8; save it as UTF-8",
    "row 1: text is not valid Unicode": "row 1: text is not valid UTF-8",
}


@pytest.mark.parametrize(("name", "content", "cause"), REFUSED)
@pytest.mark.parametrize("use", ["corpus", "inference"])
def test_the_cause_is_named(tmp_path: Path, name: str, content: str | bytes, cause: str, use: str) -> None:
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(MentallamError) as error:
        read_posts(str(path)) if use == "inference" else checked(path)
    message = error.value.message
    assert (OTHERWISE.get(cause, cause) if use == "inference" else cause.replace(", .txt", "")) in message
    assert message.startswith(str(path))
    assert "\n" not in message
    assert not message.endswith(".")
    assert "arzipan" not in message
    assert error.value.__suppress_context__ or error.value.__context__ is None


def checked(path: Path) -> pd.DataFrame:
    table = read_table(path, CORPUS)
    refuse_bad_ids(table, "post_id", path)
    return table


READ = [
    ("posts.csv", f"Post_ID,Text\np1,{SECRET}\n"),
    ("posts.csv", f" post_id ,TEXT \np1,{SECRET}\n"),
    ("posts.csv", f",post_id,text\n0,p1,{SECRET}\n"),  # the index that pandas writes
    ("posts.CSV", f"post_id,text\np1,{SECRET}\n"),
    ("posts.JSONL", f"{LINE}\n"),
    ("posts.jsonl", json.dumps({"Post_ID": "p1", "TEXT": SECRET})),
    ("posts.csv", f"\n\npost_id,text\n\np1,{SECRET}\n\n"),
    ("posts.jsonl", f"\n \n{LINE}\n\n"),
    ("posts.parquet", parquet()),
    ("posts.parquet", pd.DataFrame({"TEXT": [SECRET], "n": [1], "Post_id": ["p1"]}).to_parquet()),
]


@pytest.mark.parametrize(("name", "content"), READ)
def test_what_is_read(tmp_path: Path, name: str, content: str | bytes) -> None:
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    assert read_table(path, CORPUS)[[*READ_OF_CORPUS]].to_numpy().tolist() == [["p1", SECRET]]
    assert read_posts(str(path))[[*READ_OF_CORPUS]].to_numpy().tolist() == [["p1", SECRET]]


@pytest.mark.parametrize("ending", [".csv", ".jsonl", ".parquet", ".txt"])
def test_a_long_post_is_read_whole(tmp_path: Path, ending: str) -> None:
    text = "kettle again " * 11_000  # 143,000 characters; Python's csv module accepts 131,072 by default
    frame = pd.DataFrame({"text": [text.strip()]})
    path = tmp_path / f"posts{ending}"
    if ending == ".parquet":
        frame.to_parquet(path)
    elif ending == ".jsonl":
        frame.to_json(path, orient="records", lines=True)
    else:
        frame.to_csv(path, index=False, header=ending == ".csv")
    assert read_posts(str(path))["text"].tolist() == [text.strip()]


def test_rows_are_counted_as_a_spreadsheet_shows_them(tmp_path: Path) -> None:
    path = tmp_path / "posts.csv"
    path.write_text('post_id,text\np1,"two\nlines"\n\np2,b\n\n\np3,c\n')
    assert read_table(path, CORPUS).index.tolist() == [2, 4, 7]


def test_rows_are_counted_beyond_what_is_read_at_once(tmp_path: Path) -> None:
    path = tmp_path / "posts.jsonl"
    lines = [json.dumps({"post_id": f"p{number}", "text": "a"}) for number in range(25_000)]
    path.write_text("\n".join([*lines[:12_000], "", *lines[12_000:]]))
    table = read_table(path, CORPUS)
    assert table.index.tolist() == [*range(1, 12_001), *range(12_002, 25_002)]
    assert table["post_id"].iloc[-1] == "p24999"


@pytest.mark.parametrize(
    ("rows", "named"),
    [
        ([3], "row 5: text is empty; fill it in or remove the row"),
        ([0, 3], "rows 2, 5: text is empty"),
        ([0, 1, 2, 3, 4], "rows 2, 3, 4, 5, 6: text is empty"),
        (range(30), "rows 2, 3, 4, 5, 6 and 25 more: text is empty"),
    ],
)
def test_all_empty_texts_are_counted(tmp_path: Path, rows: list[int], named: str) -> None:
    texts = ["" if row in rows else SECRET for row in range(40)]
    path = tmp_path / "posts.csv"
    pd.DataFrame({"post_id": [f"p{row}" for row in range(40)], "text": texts}).to_csv(path, index=False)
    with pytest.raises(MentallamError) as error:
        refuse_blank(read_table(path, CORPUS), "text", path)
    assert f"{path}, {named}" in error.value.message


def test_a_file_by_hand_may_lack_its_last_line_break_and_a_corpus_may_not(tmp_path: Path) -> None:
    path = tmp_path / "posts.csv"
    path.write_text("post_id,text\np1,a")
    assert read_posts(str(path))["text"].tolist() == ["a"]
    with pytest.raises(MentallamError, match="does not end with a line break"):
        read_table(path, CORPUS)


def test_a_nul_passes_in_a_file_by_hand_and_is_damage_in_a_corpus(tmp_path: Path) -> None:
    path = tmp_path / "posts.jsonl"
    path.write_text('{"post_id": "p1", "text": "a\\u0000b"}')
    assert len(read_posts(str(path))) == 1
    with pytest.raises(MentallamError, match="row 1: holds a NUL character"):
        read_table(path, CORPUS)


DUMP = {
    ".csv": "id,author,Title,selftext,post_id\nt1,al,So,fine,other\n",
    ".jsonl": json.dumps({"id": "t1", "author": "al", "title": "So", "selftext": "fine", "post_id": "other"}),
}


@pytest.mark.parametrize("ending", DUMP)
def test_headings_are_mapped(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"dump{ending}"
    path.write_text(DUMP[ending])
    columns = {"text": "selftext", "post_id": "ID", "criterion_id": None}
    assert read_posts(str(path), columns).to_numpy().tolist() == [["t1", "fine", None]]
    layout = CORPUS.mapped({"text": "title", "post_id": "id"})
    assert read_table(path, layout).to_numpy().tolist() == [["t1", "So"]]


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"text": "selftxt"}, "lacks the column selftxt: it must have selftxt, found 'id', 'author', 'Title'"),
        # A chosen heading must exist, even for an optional column.
        ({"text": "selftext", "post_id": "name"}, "lacks the column name"),
        (
            {"txt": "selftext"},
            "columns.txt does not name a column that is read: use one of text, post_id,",
        ),
        ({"text": " "}, "columns.text has no heading; write it as columns.text=HEADING"),
        ({"text": ["selftext"]}, "columns.text has no heading"),
    ],
)
def test_a_mapping_that_fits_nothing_is_refused(tmp_path: Path, columns: dict[str, object], words: str) -> None:
    path = tmp_path / "dump.csv"
    path.write_text(DUMP[".csv"])
    with pytest.raises(MentallamError) as error:
        read_posts(str(path), columns)
    assert words in error.value.message


def test_a_file_without_columns_takes_no_mapping(tmp_path: Path) -> None:
    path = tmp_path / "posts.txt"
    path.write_text("a\n")
    with pytest.raises(MentallamError, match=r"has no columns, so columns\.text has no meaning"):
        read_posts(str(path), {"text": "selftext"})


def test_a_heading_may_look_like_a_number() -> None:
    assert chosen_headings({"text": 2024, "post_id": None}, ["text", "post_id"]) == {"text": "2024"}
    assert chosen_headings(None, ["text"]) == {}


@pytest.mark.parametrize("other", ["posts.xlsx", "posts.tsv", "Posts.csv", "posts.csv.gz"])
def test_what_lies_beside_a_missing_file_is_named(tmp_path: Path, other: str) -> None:
    (tmp_path / other).touch()
    (tmp_path / "postscript.csv").touch()
    for look in (lambda: find_table(tmp_path, "posts", "put it there"), lambda: read_posts(f"{tmp_path}/posts.csv")):
        with pytest.raises(MentallamError) as error:
            look()
        assert f"its folder holds {other}" in error.value.message
        assert "postscript" not in error.value.message


def test_endings_may_be_capitals(tmp_path: Path) -> None:
    (tmp_path / "posts.CSV").touch()
    assert find_table(tmp_path, "posts", "put it there").name == "posts.CSV"
    (tmp_path / "posts.csv").touch()
    if len(list(tmp_path.iterdir())) == 2:  # some file systems ignore case
        with pytest.raises(MentallamError, match=r"posts\.CSV, posts\.csv; keep one of them"):
            find_table(tmp_path, "posts", "put it there")
