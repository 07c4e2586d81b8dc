import pandas as pd
import pandera.pandas as pa
import pytest

from mentallam.corpus import schemas
from mentallam.corpus.schemas import validate
from mentallam.errors import MentallamError

TEXT = "these words are somebody's own"
POSTS = pd.DataFrame({"post_id": ["a", "b"], "text": [TEXT, TEXT], "raw_sha256": "0" * 64, "author": ["x", None]})
GROUPS = POSTS[["post_id"]].assign(group="a", cluster="a")
DUPLICATES = pd.DataFrame({"post_id": ["b"], "duplicate_of": ["a"], "similarity": [1.0], "containment": [1.0]})
CRITERIA = pd.DataFrame({"criterion_id": ["A.1"], "symptom": ["FATIGUE"], "criterion": ["Tired."]})
PAIRS = pd.DataFrame(
    {
        "post_id": ["a", "a", "b"],
        "criterion_id": ["A.1", "A.2", "A.1"],
        "label": [0, 1, 1],
        "explicit_negative": False,
        "evidence": ["", "s_1 s_2", ""],
    }
).astype({"label": "int8"})


@pytest.mark.parametrize(
    ("frame", "schema"),
    [
        (POSTS, schemas.POSTS),
        (CRITERIA, schemas.CRITERIA),
        (GROUPS, schemas.GROUPS),
        (DUPLICATES, schemas.DUPLICATES),
        (DUPLICATES.iloc[:0], schemas.DUPLICATES),
        (POSTS.assign(author=pd.Series([None, None], dtype=str)), schemas.POSTS),
        (PAIRS, schemas.PAIRS),
    ],
)
def test_valid_frames_pass_unchanged(frame: pd.DataFrame, schema: pa.DataFrameSchema) -> None:
    assert validate(frame, schema).equals(frame)


@pytest.mark.parametrize(
    ("frame", "schema", "part"),
    [
        (POSTS.assign(text=["", TEXT]), schemas.POSTS, "text: str_length"),
        (POSTS.assign(text=[None, TEXT]), schemas.POSTS, "text: not_nullable"),
        (POSTS.assign(raw_sha256="0"), schemas.POSTS, "raw_sha256: str_length"),
        (GROUPS.assign(group=[None, "a"]), schemas.GROUPS, "group: not_nullable"),
        (GROUPS.assign(post_id="a"), schemas.GROUPS, "post_id: multiple_fields_uniqueness"),
        (DUPLICATES.assign(similarity=1.5), schemas.DUPLICATES, "similarity: in_range"),
        (POSTS.assign(post_id="a"), schemas.POSTS, "multiple_fields_uniqueness"),
        (POSTS.drop(columns="text"), schemas.POSTS, "text: column_in_dataframe"),
        (POSTS.assign(more=TEXT), schemas.POSTS, "more: column_in_schema"),
        (POSTS.assign(author=["", None]), schemas.POSTS, "author: str_length"),
        (CRITERIA.assign(criterion=""), schemas.CRITERIA, "criterion: str_length"),
        (
            PAIRS.assign(label=PAIRS["label"].where(PAIRS["label"] == 0, 2).astype("int8")),
            schemas.PAIRS,
            "label: isin",
        ),
        (PAIRS.assign(label=PAIRS["label"].astype(float)), schemas.PAIRS, "label: dtype('int8')"),
        (PAIRS.assign(evidence=None), schemas.PAIRS, "evidence: not_nullable"),
        (PAIRS.assign(explicit_negative=True), schemas.PAIRS, "a positive pair is no explicit negative"),
        (pd.concat([PAIRS, PAIRS]), schemas.PAIRS, "multiple_fields_uniqueness"),
    ],
)
def test_breaches_are_named_without_values(frame: pd.DataFrame, schema: pa.DataFrameSchema, part: str) -> None:
    with pytest.raises(MentallamError) as caught:
        validate(frame, schema)
    assert part in caught.value.message
    assert schema.name in caught.value.message
    assert TEXT not in caught.value.message
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None  # a traceback would show it


def test_parquet_keeps_frames_valid(tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("frames") / "frame.parquet"
    for frame, schema in (
        (POSTS, schemas.POSTS),
        (POSTS.assign(author=pd.Series([None, None], dtype=str)), schemas.POSTS),
        (DUPLICATES.iloc[:0], schemas.DUPLICATES),
        (PAIRS, schemas.PAIRS),
    ):
        frame.to_parquet(path)
        validate(pd.read_parquet(path), schema)
