from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from mentallam.corpus.readers import Corpus, read_corpus
from mentallam.errors import MentallamError
from tests.unit.corpus.files import write_table

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


def assert_same(corpus: Corpus, other: Corpus) -> None:
    assert corpus.posts.equals(other.posts)
    assert corpus.criteria.equals(other.criteria)
    assert corpus.pairs.equals(other.pairs)
    assert corpus.annotation_counts == other.annotation_counts


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
    assert list(corpus.posts) == ["post_id", "text", "author"]
    assert corpus.posts["author"].isna().all()
    assert corpus.annotation_counts == {"rows": 4, "special_case": 1, "contradictory": 0}
    assert corpus.criteria["criterion_id"].tolist() == ["A.2", "A.6"]


@pytest.mark.parametrize("text", ["NA", "null", "nan", "None", "-1", "007", "line one\nline two", 'say "hi", then'])
def test_text_survives_as_written(folder: Path, text: str) -> None:
    quoted = '"' + text.replace('"', '""') + '"'
    path = folder / POSTS
    path.write_bytes(f"post_id,text\nNA,{quoted}\n".encode() + path.read_bytes().split(b"\n", 1)[1])
    posts = read(folder).posts
    assert posts[["post_id", "text"]].iloc[0].tolist() == ["NA", text]


def test_column_order_and_further_columns_do_not_matter(folder: Path) -> None:
    plain = read(folder)
    rows = [f'{n},"{text}",{post_id}\n' for n, (post_id, text, _) in enumerate(plain.posts.to_numpy().tolist())]
    (folder / POSTS).write_text("".join(["number,text,post_id\n", *rows]))
    assert_same(read(folder), plain)


@pytest.mark.parametrize(
    ("name", "change", "expected"),
    [
        (POSTS, lambda text: "", ["redsm5_posts.csv is empty", "CIKM 2025", "mentallam.corpus.synthetic"]),
        (POSTS, lambda text: " \n", ["redsm5_posts.csv is empty"]),
        (ANNOTATIONS, lambda text: text.split("\r\n")[0] + "\n", ["annotations.csv is empty below its header"]),
        (POSTS, replaced("text", "post"), ["lacks the column text", "found 'post_id', 'post'"]),
        (ANNOTATIONS, replaced("DSM5_symptom,status", "symptom,Status"), ["DSM5_symptom", "'symptom', 'Status'"]),
        (POSTS, lambda text: text.split("\r\n", 1)[1], ["lacks the column post_id, text", "names none of them"]),
        (POSTS, replaced("post_id,text", "post_id,text,text"), ["row 1", "text occurs twice"]),
        (ANNOTATIONS, replaced("ANHEDONIA", "ANEDONIA"), ["row 4", "FATIGUE, SPECIAL_CASE", "'ANEDONIA'"]),
        (ANNOTATIONS, replaced("FATIGUE", "FATIGUE "), ["row 2", "'FATIGUE '"]),
        (ANNOTATIONS, replaced("FATIGUE,0", "SLEEP_ISSUES,0"), ["row 2", "'SLEEP_ISSUES'"]),
        (ANNOTATIONS, replaced("FATIGUE,1", "FATIGUE,2"), ["row 3", "status must be one of 0, 1", "'2'"]),
        (ANNOTATIONS, replaced("FATIGUE,1", "FATIGUE,"), ["row 3", "status", "''"]),
        (ANNOTATIONS, replaced("FATIGUE,1", "FATIGUE,1.0"), ["row 3", "status", "'1.0'"]),
        (POSTS, replaced("s_2_7", "s_1_1"), ["row 4", "post_id 's_1_1' is already in row 2"]),
        (POSTS, replaced("s_1_2", " "), ["row 3", "post_id is empty"]),
        (POSTS, replaced("A third.", " \u00a0"), ["row 4", "text is empty"]),
        (ANNOTATIONS, replaced("s_2_7,", "s_2_8,"), ["row 5", "post_id 's_2_8' is not in redsm5_posts.csv"]),
        (ANNOTATIONS, replaced("s_2_7_1", ""), ["row 5", "sentence_id is empty"]),
        (ANNOTATIONS, replaced("s_2_7_1", "s_2_7 1"), ["row 5", "sentence_id has white space in it"]),
        (POSTS, replaced("s_1_2", "s_1_2 "), ["row 3", "post_id has white space around it"]),
        (POSTS, replaced("s_1_2", "s_1\u200b_2"), ["row 3", "invisible character"]),
        (POSTS, lambda text: text[:-3], ["does not end with a line break"]),
        (POSTS, appended("s_3_1"), ["row 5", "1 values", "2 columns"]),
        (POSTS, appended("s_3_1,one, two"), ["row 5", "3 values", "2 columns"]),
        (POSTS, appended('s_3_1,"never closed'), ["row 5", "not valid CSV"]),
        (POSTS, appended('s_3_1,"closed" too early'), ["row 5", "not valid CSV"]),
        (POSTS, appended('s_3_1,opened "too late"'), ["row 5", "a quote within a value that is not quoted"]),
        (POSTS, replaced("A second", "A\0second"), ["row 3", "NUL"]),
        (CRITERIA, replaced("A.6", "A.2"), ["criteria.csv, row 3", "criterion_id 'A.2' is already in row 2"]),
        (CRITERIA, replaced("FATIGUE", "ANHEDONIA"), ["criteria.csv, row 3", "symptom 'ANHEDONIA'"]),
        (CRITERIA, replaced("Tired.", ""), ["criteria.csv, row 3", "criterion is empty"]),
        (CRITERIA, replaced("A.6,FATIGUE,Tired.\r\n", ""), ["redsm5_annotations.csv, rows 2, 3", "'FATIGUE'"]),
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
    assert "is UTF-16, not UTF-8" in refused(folder)


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
    assert "can't be read" in refused(folder)


def test_swapped_columns_do_not_show_text(folder: Path) -> None:
    (folder / POSTS).write_text(f"text,post_id\ns_1_1,a {SECRET} long post\ns_1_2,a {SECRET} long post\n")
    assert "post_id (a value of" in refused(folder)


def test_unknown_format_lists_the_known(folder: Path) -> None:
    with pytest.raises(MentallamError, match="'redsm6' is unknown: use one of redsm5, pairs"):
        read_corpus("redsm6", folder, folder / CRITERIA)


def test_a_sentence_annotated_twice_is_read(folder: Path) -> None:
    plain = read(folder)
    path = folder / ANNOTATIONS
    path.write_text(path.read_text() + "s_1_1,s_1_1_2,again,FATIGUE,0,Why.\ns_1_1,s_1_1_2,again,FATIGUE,1,Why.\n")
    again = read(folder)
    assert again.annotation_counts == {"rows": 6, "special_case": 1, "contradictory": 1}
    assert again.pairs.equals(plain.pairs)


def test_a_post_longer_than_the_csv_module_expects(folder: Path) -> None:
    path = folder / POSTS
    path.write_text(path.read_text() + f's_3_1,"{"long " * 50_000}"\n')
    assert len(read(folder).posts["text"].iloc[-1]) == 250_000


def test_an_author_may_be_named_or_not(pairs_folder: Path) -> None:
    path = pairs_folder / "posts.csv"
    path.write_text("post_id,author,post\np1,ann,One.\np2, ,Two.\np3,007,Three.\n")
    assert read_pairs(pairs_folder).posts["author"].fillna("-").tolist() == ["ann", "-", "007"]


def read_pairs(folder: Path, missing_pairs: str = "refused") -> Corpus:
    return read_corpus("pairs", folder, missing_pairs=missing_pairs)


def test_the_pairs_format(pairs_folder: Path) -> None:
    corpus = read_pairs(pairs_folder)
    assert corpus.criteria["symptom"].tolist() == corpus.criteria["criterion_id"].tolist() == ["social", "physical"]
    assert corpus.pairs.to_numpy().tolist() == [
        ["p1", "social", 1, False, ""],
        ["p1", "physical", 0, False, ""],  # a 0 is no explicit negative
        ["p2", "social", 0, False, ""],
        ["p2", "physical", 1, False, ""],
        ["p3", "social", 1, False, ""],
        ["p3", "physical", 0, False, ""],
    ]
    assert corpus.annotation_counts == {}


@pytest.mark.parametrize(
    ("name", "change", "expected"),
    [
        ("groundtruth", replaced("p2,social,0\r\n", ""), ["lacks a label for 1 pairs", "'p2'", "'social'", "allowed"]),
        ("groundtruth", appended("p2,social,1"), ["row 8", "post_id 'p2' and criterion_id 'social'", "row 4"]),
        ("groundtruth", replaced("p3", "p4"), ["row 6", "'p4' is not in posts.csv"]),
        ("groundtruth", replaced("physical", "fysical"), ["row 3", "'fysical' is not in criteria.csv"]),
        ("groundtruth", replaced("yes", "maybe"), ["row 2", "label must be one of yes, no, 1, 0", "'maybe'"]),
        ("groundtruth", replaced("yes", "yes "), ["row 2", "label must be one of", "'yes '"]),
        ("groundtruth", replaced("label", "status"), ["groundtruth.csv lacks the column label"]),
        ("posts", appended("p4,Nobody labelled me."), ["no label for post_id 'p4'"]),
        ("criteria", appended("financial,Money."), ["no label for criterion_id 'financial'"]),
        ("criteria", replaced("social", ""), ["criteria.csv, row 2", "criterion_id is empty"]),
        ("posts", replaced("post_id,post", "post_id,text"), ["posts.csv lacks the column post:"]),
    ],
)  # fmt: skip
def test_faults_of_the_pairs_format(
    pairs_folder: Path, name: str, change: Callable[[str], str], expected: list[str]
) -> None:
    path = pairs_folder / f"{name}.csv"
    path.write_bytes(change(path.read_bytes().decode()).encode())
    with pytest.raises(MentallamError) as caught:
        read_pairs(pairs_folder)
    assert SECRET not in caught.value.message
    for part in expected:
        assert part in caught.value.message


def test_missing_pairs_are_left_out_where_they_are_allowed(pairs_folder: Path) -> None:
    plain = read_pairs(pairs_folder).pairs
    path = pairs_folder / "groundtruth.csv"
    path.write_text(path.read_text().replace("p2,social,0\n", ""))
    assert read_pairs(pairs_folder, "allowed").pairs.equals(plain.drop(index=2).reset_index(drop=True))
    path.write_text(path.read_text().replace("p2,physical,1\n", ""))
    with pytest.raises(MentallamError, match="no label for post_id 'p2'"):
        read_pairs(pairs_folder, "allowed")


@pytest.mark.parametrize("ending", [".parquet", ".jsonl"])
def test_other_endings_read_the_same(folder: Path, pairs_folder: Path, ending: str) -> None:
    plain, plain_pairs = read(folder), read_pairs(pairs_folder)
    for path in [folder / POSTS, folder / ANNOTATIONS, *pairs_folder.iterdir()]:
        frame = pd.read_csv(path, dtype=str)
        write_table(path.with_suffix(ending), list(frame), frame.to_numpy().tolist())
        path.unlink()
    assert_same(read(folder), plain)
    assert_same(read_pairs(pairs_folder), plain_pairs)


@pytest.mark.parametrize("ending", [".parquet", ".jsonl"])
def test_labels_may_be_integers_where_there_are_any(folder: Path, ending: str) -> None:
    plain = read(folder)
    path = folder / ANNOTATIONS
    frame = pd.read_csv(path)
    frame.to_parquet(path.with_suffix(ending)) if ending == ".parquet" else frame.to_json(
        path.with_suffix(ending), orient="records", lines=True
    )
    path.unlink()
    assert_same(read(folder), plain)


def write_labels(folder: Path, yes: object, no: object, ending: str = ".csv") -> None:
    """Write the labels of the corpus in other words."""
    path = folder / "groundtruth.csv"
    frame = pd.read_csv(path, dtype=str)
    frame["label"] = frame["label"].str.lower().map({"yes": yes, "1": yes, "no": no, "0": no})
    path.unlink()
    if ending == ".parquet":
        frame.to_parquet(path.with_suffix(ending))
    elif ending == ".jsonl":
        frame.to_json(path.with_suffix(ending), orient="records", lines=True)
    else:
        frame.to_csv(path, index=False)


@pytest.mark.parametrize(
    ("yes", "no"),
    [("TRUE", "FALSE"), ("true", "False"), ("1.0", "0.0"), (True, False), (1.0, 0.0), (1, 0), ("YES", "0")],
)
@pytest.mark.parametrize("ending", [".csv", ".jsonl", ".parquet"])
def test_labels_in_other_words(pairs_folder: Path, yes: object, no: object, ending: str) -> None:
    plain = read_pairs(pairs_folder)
    write_labels(pairs_folder, yes, no, ending)
    assert_same(read_pairs(pairs_folder), plain)


@pytest.mark.parametrize(
    ("yes", "no", "label_values"),
    [("Matched", "unmatched", "matched:unmatched"), ("1", "2", "1:2"), ("no", "yes", "no:yes")],
)
def test_label_values_name_the_labels(pairs_folder: Path, yes: str, no: str, label_values: str) -> None:
    plain = read_pairs(pairs_folder)
    write_labels(pairs_folder, yes, no)
    assert_same(read_corpus("pairs", pairs_folder, label_values=label_values), plain)
    path = pairs_folder / "groundtruth.csv"
    path.write_text(path.read_text().replace(f"p1,social,{yes}", "p1,social,TRUE"))
    with pytest.raises(MentallamError, match="row 2: label must be one of .*; seen besides: 'true'"):
        read_corpus("pairs", pairs_folder, label_values=label_values)


@pytest.mark.parametrize(
    ("yes", "no", "seen"),
    [
        (
            "matched",
            "not matched",
            "seen besides: 'matched', 'not matched'; map two others with --params label_values=",
        ),
        ("0.5", "-1", "seen besides: '-1', '0.5'"),
        (0.5, 0.0, "seen besides: '0.5'"),
        (2, 0, "seen besides: '2'"),
        (f"a {SECRET} post here", "no", "seen besides: (a value of 17 characters)"),
        (f"{SECRET}.", "no", "seen besides: (a value of 6 characters)"),
    ],
)
def test_other_labels_are_shown_and_texts_are_not(pairs_folder: Path, yes: object, no: object, seen: str) -> None:
    write_labels(pairs_folder, yes, no)
    with pytest.raises(MentallamError) as caught:
        read_pairs(pairs_folder)
    assert seen in caught.value.message
    assert SECRET not in caught.value.message


def test_many_other_labels_are_texts(pairs_folder: Path) -> None:
    words = [f"{SECRET} {number}" for number in range(12)]
    rows = "".join(f"p{number},social,{word}\n" for number, word in enumerate(words))
    (pairs_folder / "groundtruth.csv").write_text(f"post_id,criterion_id,label\n{rows}")
    with pytest.raises(MentallamError) as caught:
        read_pairs(pairs_folder)
    assert "rows 2, 3, 4, 5, 6 and 7 more: label must be one of yes, no" in caught.value.message
    assert SECRET not in caught.value.message


@pytest.mark.parametrize("label_values", ["matched", "a:b:c", ":no", "yes:", "Yes:yes", "", 62])
def test_label_values_that_are_no_two_words(pairs_folder: Path, label_values: object) -> None:
    with pytest.raises(MentallamError, match="label_values of the corpus is .*: write it as POSITIVE:NEGATIVE"):
        read_corpus("pairs", pairs_folder, label_values=label_values)


def test_headings_of_a_dump(pairs_folder: Path) -> None:
    plain = read_pairs(pairs_folder)
    path = pairs_folder / "posts.csv"
    path.write_text(path.read_text().replace("post_id,post", "id,SelfText"))
    with pytest.raises(
        MentallamError, match=r"found 'id', 'SelfText'; .*columns\.post_id=HEADING,columns\.text=HEADING"
    ):
        read_pairs(pairs_folder)
    columns = {"post_id": "id", "text": "selftext"}
    assert_same(read_corpus("pairs", pairs_folder, columns=columns), plain)
    truth = pairs_folder / "groundtruth.csv"
    truth.write_text(truth.read_text().replace("post_id,criterion_id,label", "id,topic,status"))
    columns |= {"criterion_id": "topic", "label": "status"}
    assert_same(read_corpus("pairs", pairs_folder, columns=columns), plain)
    with pytest.raises(
        MentallamError, match=r"columns\.criterion names no column that is read: use one of post_id, text"
    ):
        read_corpus("pairs", pairs_folder, columns={"criterion": "wording"})


def test_white_space_around_a_criterion_is_no_wording(pairs_folder: Path) -> None:
    plain = read_pairs(pairs_folder)
    path = pairs_folder / "criteria.csv"
    path.write_text(path.read_text().replace("criterion_id,", "criterion_id, ").replace("physical,", "physical, "))
    assert_same(read_pairs(pairs_folder), plain)


def test_a_blank_line_is_no_row(folder: Path) -> None:
    plain = read(folder)
    path = folder / POSTS
    path.write_bytes(path.read_bytes().replace(b"A second one.\r\n", b"A second one.\r\n\r\n"))
    assert_same(read(folder), plain)
    path.write_bytes(path.read_bytes().replace(b"A third.", b""))
    assert "row 5: text is empty" in refused(folder)


def test_two_files_for_one_are_refused(folder: Path) -> None:
    (folder / "redsm5_posts.jsonl").touch()
    assert "redsm5_posts.csv, redsm5_posts.jsonl: which one counts?" in refused(folder)


@pytest.mark.parametrize(
    ("arguments", "options", "expected"),
    [
        (("redsm5", "folder", None), {}, "The corpus format redsm5 needs the option criteria"),
        (
            ("redsm5", "folder", "criteria.csv"),
            {"missing_pairs": "allowed", "columns": {"text": "post"}, "label_values": "a:b"},
            "redsm5 takes no option columns, label_values, missing_pairs: its options are criteria",
        ),
        (
            ("pairs", "folder"),
            {"missing": "allowed"},
            "takes no option missing: its options are criteria, missing_pairs, columns, label_values",
        ),
        (("pairs", "folder"), {"missing_pairs": "maybe"}, "missing_pairs of the corpus is 'maybe': use refused or"),
        (("pairs", "f", "criteria.txt"), {}, "criteria.txt ends in .txt: it must be one of .csv, .parquet, .jsonl"),
        (("pairs", "nowhere"), {"missing_pairs": None}, "nowhere/criteria.csv is missing"),
    ],
)
def test_options_that_make_no_sense(arguments: tuple[Any, ...], options: dict[str, Any], expected: str) -> None:
    with pytest.raises(MentallamError) as caught:
        read_corpus(*arguments, **options)
    assert expected in caught.value.message
