from collections.abc import Callable
from pathlib import Path

import pytest

from mentallam.corpus.readers import Corpus, read_corpus
from mentallam.errors import MentallamError

POSTS, ANNOTATIONS, CRITERIA = "redsm5_posts.csv", "redsm5_annotations.csv", "criteria.csv"
# A word that stands in the text of the posts and may never show up in a message.
SECRET = "quiet"


def read(folder: Path) -> Corpus:
    return read_corpus("redsm5", folder, folder / CRITERIA)


def refused(folder: Path) -> str:
    with pytest.raises(MentallamError) as caught:
        read(folder)
    assert SECRET not in caught.value.message
    assert caught.value.exit_code != 0
    # The cause is cut off as well: a traceback would show it.
    assert caught.value.__cause__ is None
    return caught.value.message


def replaced(old: str, new: str) -> Callable[[str], str]:
    def change(text: str) -> str:
        assert old in text
        return text.replace(old, new, 1)

    return change


def appended(line: str) -> Callable[[str], str]:
    return lambda text: text + line + "\r\n"


def test_a_corpus_does_not_print_its_posts(corpus: Corpus) -> None:
    assert SECRET not in repr(corpus)


def test_reads_columns_types_and_order(corpus: Corpus) -> None:
    assert list(corpus.posts) == ["post_id", "text"]
    assert list(corpus.annotations) == ["post_id", "sentence_id", "symptom", "status"]
    assert corpus.annotations["status"].dtype == "int8"
    assert corpus.annotations["status"].tolist() == [0, 1, 0, 1]
    assert corpus.criteria["criterion_id"].tolist() == ["A.2", "A.6"]


@pytest.mark.parametrize("text", ["NA", "null", "nan", "None", "-1", "007", "line one\nline two", 'say "hi", then'])
def test_text_survives_as_written(folder: Path, text: str) -> None:
    quoted = '"' + text.replace('"', '""') + '"'
    path = folder / POSTS
    path.write_bytes(f"post_id,text\nNA,{quoted}\n".encode() + path.read_bytes().split(b"\n", 1)[1])
    posts = read(folder).posts
    assert posts.iloc[0].tolist() == ["NA", text]


def test_byte_order_mark_line_ends_and_blank_last_lines_do_not_matter(folder: Path) -> None:
    plain = read(folder)
    for name in (POSTS, ANNOTATIONS, CRITERIA):
        path = folder / name
        path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\r\n", b"\n") + b"\n\n")
    marked = read(folder)
    assert marked.posts.equals(plain.posts)
    assert marked.annotations.equals(plain.annotations)
    assert marked.criteria.equals(plain.criteria)


def test_column_order_and_further_columns_do_not_matter(folder: Path) -> None:
    plain = read(folder).posts
    rows = [f'{n},"{text}",{post_id}' for n, (post_id, text) in enumerate(plain.to_numpy().tolist())]
    (folder / POSTS).write_text("\n".join(["number,text,post_id", *rows]))
    assert read(folder).posts.equals(plain)


@pytest.mark.parametrize(
    ("name", "change", "expected"),
    [
        (POSTS, lambda text: "", ["redsm5_posts.csv is empty", "CIKM 2025", "mentallam.corpus.synthetic"]),
        (POSTS, lambda text: " \n", ["redsm5_posts.csv is empty"]),
        (ANNOTATIONS, lambda text: text.split("\r\n")[0], ["annotations.csv is empty below its header"]),
        (POSTS, replaced("text", "post"), ["lacks the column text", "found 'post_id', 'post'"]),
        (ANNOTATIONS, replaced("DSM5_symptom,status", "symptom,Status"), ["column DSM5_symptom, status"]),
        (POSTS, lambda text: text.split("\r\n", 1)[1], ["lacks the column post_id, text", "characters)"]),
        (POSTS, replaced("post_id,text", "post_id,text,text"), ["row 1", "text occurs twice"]),
        (ANNOTATIONS, replaced("ANHEDONIA", "ANEDONIA"), ["row 4", "FATIGUE, SPECIAL_CASE", "'ANEDONIA'"]),
        (ANNOTATIONS, replaced("FATIGUE", "FATIGUE "), ["row 2", "'FATIGUE '"]),
        (ANNOTATIONS, replaced("FATIGUE,0", "SLEEP_ISSUES,0"), ["row 2", "'SLEEP_ISSUES'"]),
        (ANNOTATIONS, replaced("FATIGUE,1", "FATIGUE,2"), ["row 3", "status must be one of 0, 1", "'2'"]),
        (ANNOTATIONS, replaced("FATIGUE,1", "FATIGUE,"), ["row 3", "status", "''"]),
        (ANNOTATIONS, replaced("FATIGUE,1", "FATIGUE,1.0"), ["row 3", "status", "'1.0'"]),
        (POSTS, replaced("s_2_7", "s_1_1"), ["row 4", "post_id 's_1_1' is already in row 2"]),
        (POSTS, replaced("s_1_2", " "), ["row 3", "post_id is empty"]),
        (POSTS, replaced("A third.", " \u00a0"), ["row 4", "text is empty (1 such rows)"]),
        (ANNOTATIONS, replaced("s_2_7,", "s_2_8,"), ["row 5", "post_id 's_2_8' is not in redsm5_posts.csv"]),
        (ANNOTATIONS, replaced("s_2_7_1", ""), ["row 5", "sentence_id is empty"]),
        (POSTS, appended("s_3_1"), ["row 5", "1 values", "2 columns"]),
        (POSTS, appended("s_3_1,one, two"), ["row 5", "3 values", "2 columns"]),
        (POSTS, replaced("A second one.\r\n", "A second one.\r\n\r\n"), ["row 4", "0 values"]),
        (POSTS, appended('s_3_1,"never closed'), ["row 5", "not valid CSV"]),
        (POSTS, appended('s_3_1,"closed" too early'), ["row 5", "not valid CSV"]),
        (POSTS, replaced("A second", "A\0second"), ["row 3", "NUL"]),
        (CRITERIA, replaced("A.6", "A.2"), ["criteria.csv, row 3", "criterion_id 'A.2' is already in row 2"]),
        (CRITERIA, replaced("FATIGUE", "ANHEDONIA"), ["criteria.csv, row 3", "symptom 'ANHEDONIA'"]),
        (CRITERIA, replaced("Tired.", ""), ["criteria.csv, row 3", "criterion is empty"]),
        (CRITERIA, replaced("A.6,FATIGUE,Tired.\r\n", ""), ["redsm5_annotations.csv, row 2", "'FATIGUE'"]),
    ],
)  # fmt: skip
def test_faults_name_file_row_and_the_way_out(
    folder: Path, name: str, change: Callable[[str], str], expected: list[str]
) -> None:
    path = folder / name
    path.write_bytes(change(path.read_bytes().decode()).encode())
    message = refused(folder)
    for part in expected:
        assert part in message


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_row_of_bytes_that_are_not_utf8_counts_records_not_lines(folder: Path, mark: bytes) -> None:
    rows = [b"post_id,text", b's_1_1,"two\nlines"', b"s_1_2,caf\xe9", b"s_2_7,fine"]
    (folder / POSTS).write_bytes(mark + b"\n".join(rows))
    assert "redsm5_posts.csv, row 3: not UTF-8" in refused(folder)


def test_bad_byte_behind_a_quote_that_was_never_closed(folder: Path) -> None:
    (folder / POSTS).write_bytes(b'post_id,text\ns_1_1,"' + b"x\n" * 100_000 + b"\xff")
    assert "not UTF-8" in refused(folder)


def test_utf16_is_refused(folder: Path) -> None:
    path = folder / POSTS
    path.write_bytes(path.read_bytes().decode().encode("utf-16"))
    assert "row 1: not UTF-8" in refused(folder)


def test_missing_file_says_what_to_get_and_where_to_put_it(folder: Path) -> None:
    (folder / POSTS).unlink()
    message = refused(folder)
    for part in (
        str(folder / POSTS),
        "is missing",
        "into that folder",
        "2508.03399",
        "mentallam.corpus.synthetic",
    ):
        assert part in message


def test_missing_folder_and_missing_criteria(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(MentallamError, match=r"nowhere.redsm5_posts.csv is missing"):
        read_corpus("redsm5", tmp_path / "nowhere", folder / CRITERIA)
    (folder / CRITERIA).unlink()
    assert "criteria.csv is missing" in refused(folder)


def test_folder_in_place_of_a_file(folder: Path) -> None:
    (folder / POSTS).unlink()
    (folder / POSTS).mkdir()
    assert "cannot be read" in refused(folder)


def test_swapped_columns_do_not_show_text(folder: Path) -> None:
    (folder / POSTS).write_text(f"text,post_id\ns_1_1,a {SECRET} long post\ns_1_2,a {SECRET} long post\n")
    assert "post_id (a value of" in refused(folder)


def test_unknown_format_lists_the_known(folder: Path) -> None:
    with pytest.raises(MentallamError, match="'redsm6' is unknown: use one of redsm5"):
        read_corpus("redsm6", folder, folder / CRITERIA)


def test_a_sentence_annotated_twice_is_read(folder: Path) -> None:
    path = folder / ANNOTATIONS
    path.write_text(path.read_text() + "s_1_1,s_1_1_2,again,FATIGUE,0,Why.\n")
    assert len(read(folder).annotations) == 5
