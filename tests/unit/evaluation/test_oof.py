from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mentallam.errors import MentallamError
from mentallam.evaluation.oof import OOF_SCHEMA, out_of_fold_table, read_baselines, read_tables

Folds = list[pd.DataFrame]


def test_the_table_holds_every_row_of_every_fold_in_order(folds: Folds) -> None:
    table = out_of_fold_table(*folds)
    assert table.columns.tolist() == list(OOF_SCHEMA.columns)
    assert table.index.tolist() == list(range(540))
    for fold, frame in enumerate(folds):
        pd.testing.assert_frame_equal(
            table[table["fold"] == fold].reset_index(drop=True), frame[table.columns], check_dtype=False
        )


def test_types_are_those_of_the_schema_for_any_input(folds: Folds, tmp_path: Path) -> None:
    frame = folds[0].astype({"logit": np.float32, "prediction": bool, "label": np.int64})
    frame["probability"] = frame["probability"].astype(np.float32)
    frame.to_parquet(tmp_path / "fold.parquet")
    table = out_of_fold_table(pd.read_parquet(tmp_path / "fold.parquet"))
    assert table[["label", "prediction"]].dtypes.tolist() == [np.int8, np.int8]
    assert table[["logit", "probability", "threshold"]].dtypes.tolist() == [np.float64] * 3


def test_the_index_of_a_fold_does_not_matter(folds: Folds) -> None:
    shifted = [frame.set_index(frame.index + 7) for frame in folds]
    pd.testing.assert_frame_equal(out_of_fold_table(*shifted), out_of_fold_table(*folds))


def test_a_pair_that_occurs_twice_is_an_error_naming_it(folds: Folds) -> None:
    again = folds[2][:1].assign(logit=folds[2]["logit"][0] + 0.01)  # as if scored by another model
    folds[2] = pd.concat([folds[2], again])
    with pytest.raises(MentallamError, match=r"'s_2_0' and criterion 'A\.1' was predicted more than once"):
        out_of_fold_table(*folds)


def test_a_group_in_two_folds_is_an_error_naming_it(folds: Folds) -> None:
    folds[1].loc[0, "group"] = "s_0_3"
    with pytest.raises(MentallamError, match="'s_0_3' is in more than one fold"):
        out_of_fold_table(*folds)


def test_folds_out_of_place_or_empty_are_errors(folds: Folds) -> None:
    with pytest.raises(MentallamError, match="fold 0 are empty or belong to another fold"):
        out_of_fold_table(*folds[::-1])
    with pytest.raises(MentallamError, match="fold 1 are empty"):
        out_of_fold_table(folds[0], folds[1][:0])


def test_a_fold_that_is_not_finished_is_left_out(folds: Folds) -> None:
    table = out_of_fold_table(folds[0], None, folds[2], None, None)
    assert table["fold"].unique().tolist() == [0, 2]
    assert len(table) == len(folds[0]) + len(folds[2])


def test_a_prediction_that_contradicts_its_threshold_is_an_error(folds: Folds) -> None:
    folds[3].loc[5, "prediction"] = 1 - folds[3].loc[5, "prediction"]
    with pytest.raises(MentallamError, match="fold 3 contradict their threshold"):
        out_of_fold_table(*folds)


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("label", 2),
        ("label", 0.5),
        ("probability", 1.5),
        ("probability", np.nan),
        ("logit", np.nan),
        ("post_id", 7),
        ("truncated", "no"),
    ],
)
def test_a_broken_value_is_an_error_naming_fold_and_column(folds: Folds, column: str, value: object) -> None:
    folds[4] = folds[4].assign(**{column: value})
    with pytest.raises(MentallamError, match=f"fold 4 break the rule .* at column '{column}'"):
        out_of_fold_table(*folds)


def test_a_missing_column_is_an_error_naming_it(folds: Folds) -> None:
    with pytest.raises(MentallamError, match="'group'"):
        out_of_fold_table(folds[0].drop(columns="group"))


def test_a_column_that_could_hold_text_is_refused_without_repeating_it(folds: Folds) -> None:
    with pytest.raises(MentallamError, match="'text'") as error:
        out_of_fold_table(folds[0].assign(text="words of a post"))
    assert "words of a post" not in str(error.value)
    assert error.value.__cause__ is None and error.value.__suppress_context__


def test_tables_of_other_runs_are_read_by_their_paths(folds: Folds, tmp_path: Path) -> None:
    assert read_tables("") == read_tables(" ; ") == {}
    paths = [str(tmp_path / name) for name in ("a.parquet", "b c.parquet")]
    table = out_of_fold_table(*folds)
    for path in paths:
        table.to_parquet(path, index=False)
    tables = read_tables(f"{paths[0]}; {paths[1]};")
    assert list(tables) == paths
    pd.testing.assert_frame_equal(tables[paths[1]], table)


def test_baselines_are_read_from_beside_the_table(folds: Folds, tmp_path: Path) -> None:
    table, paths = out_of_fold_table(*folds), []
    for name, models in (("a", ("tfidf", "embedding")), ("b", ("tfidf",))):
        (tmp_path / name).mkdir()
        both = pd.concat([table.assign(model=model) for model in models])
        both.to_parquet(tmp_path / name / "baseline_predictions.parquet")
        paths.append(str(tmp_path / name / "oof_predictions.parquet"))
    found = read_baselines(paths, ["embedding", "tfidf"])
    assert list(found) == ["tfidf"]  # the other is not in every run
    for of_run in found["tfidf"]:
        pd.testing.assert_frame_equal(of_run.drop(columns="model"), table)
    (tmp_path / "b" / "baseline_predictions.parquet").unlink()
    with pytest.raises(MentallamError, match=r"no table of baselines .*b/baseline_predictions.parquet: repeats"):
        read_baselines(paths, ["tfidf"])


def test_a_file_that_is_not_an_out_of_fold_table_is_an_error_naming_it(folds: Folds, tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    with pytest.raises(MentallamError, match="there is no file .*a.parquet"):
        read_tables(str(path))
    path.write_text("post_id,fold\n")
    with pytest.raises(MentallamError, match=r"a\.parquet is not an out-of-fold table"):
        read_tables(str(path))
    folds[0].drop(columns="fold").to_parquet(path)
    with pytest.raises(MentallamError, match=r"a\.parquet is not an out-of-fold table"):
        read_tables(str(path))
    pd.concat([folds[0], folds[0]]).to_parquet(path)
    with pytest.raises(MentallamError, match=r"a\.parquet: the pair of post .* more than once"):
        read_tables(str(path))
