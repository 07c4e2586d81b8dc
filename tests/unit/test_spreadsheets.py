import csv
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mentallam.datasets import SpreadsheetDataset
from mentallam.spreadsheets import marked, unmarked

FORMULAS = ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "\uff1d1", "'=1", "''=1"]
OTHERS = ["s_1_1", "0012", "NA", "null", "1e5", "'", "'a", "a=1", "a'=1", "", "007", "nan", "-", "=", "@"]


def test_no_string_starts_a_formula_and_all_others_stay() -> None:
    written = marked(pd.DataFrame({"post_id": FORMULAS, "fold": range(len(FORMULAS))}))
    assert written["post_id"].tolist() == [f"'{value}" for value in FORMULAS]
    plain = pd.DataFrame({"post_id": OTHERS[:12], "quality": [-0.5] * 12})
    pd.testing.assert_frame_equal(marked(plain), plain)


@given(st.lists(st.text(alphabet="'=+-@\t\r\na\uff1d", max_size=6)))
def test_what_is_marked_is_read_back_as_it_was(values: list[str]) -> None:
    table = pd.DataFrame({"post_id": pd.Series(values, dtype=object)})
    pd.testing.assert_frame_equal(unmarked(marked(table)), table)


@pytest.mark.parametrize("dtype", [object, "str"])
def test_the_label_audit_is_read_back_through_the_catalog(tmp_path: Path, dtype: object) -> None:
    ids = [value for value in FORMULAS + OTHERS if "\r" not in value]  # `refuse_bad_ids` refuses these
    table = pd.DataFrame({"post_id": ids, "criterion_id": ids, "quality": 0.5}).astype({"post_id": dtype})
    # As conf/base/catalog_reporting.yml has it; tests/integration/test_catalog.py runs that file.
    dataset = SpreadsheetDataset(
        filepath=str(tmp_path / "label_audit.csv"),
        load_args={"keep_default_na": False, "dtype": {"post_id": str, "criterion_id": str}},
        save_args={"index": False},
    )
    dataset.save(table)
    assert dataset.load()["post_id"].tolist() == ids
    assert dataset.load()["criterion_id"].tolist() == ids
    with (tmp_path / "label_audit.csv").open(newline="") as file:
        cells = [row[0] for row in csv.reader(file)]
    assert len(cells) == len(ids) + 1
    assert not [cell for cell in cells if cell[:1] in tuple("=+-@\t\n\uff1d")]
