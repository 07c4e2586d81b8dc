import json
import re

import pandas as pd

from mentallam.serving.output_fields import OUTPUT_FIELDS, FoldDecisions, output_table
from tests.samples import PROJECT

CONTRACT = (PROJECT / "docs" / "contracts" / "cli.md").read_text(encoding="utf-8")


def decided(*folds: tuple[list[float], list[float]]) -> FoldDecisions:
    pairs = pd.DataFrame({"post_id": ["p", "q"], "criterion_id": ["A.1", "A.1"]})
    tables = [pairs.assign(probability=probability, threshold=threshold) for probability, threshold in folds]
    return FoldDecisions(pairs, tables, "feed")


def test_one_fold_answers_with_its_figures() -> None:
    table = output_table(decided(([0.25, 0.75], [0.25, 0.8])))
    assert list(table.columns) == [field.name for field in OUTPUT_FIELDS]
    assert table.to_dict("list") == {
        "post_id": ["p", "q"],
        "criterion_id": ["A.1", "A.1"],
        "label": ["yes", "no"],
        "probability": [0.25, 0.75],
        "threshold": [0.25, 0.8],
        "run_id": ["feed", "feed"],
    }


def test_several_folds_answer_with_the_means_of_probabilities_and_thresholds() -> None:
    table = output_table(decided(([0.2, 0.9], [0.5, 0.5]), ([0.6, 0.5], [0.25, 1.0])))
    assert table["probability"].tolist() == [(0.2 + 0.6) / 2, (0.9 + 0.5) / 2]
    assert table["threshold"].tolist() == [0.375, 0.75]
    assert table["label"].tolist() == ["yes", "no"]


def test_no_pair_gives_an_empty_table() -> None:
    nothing = decided(([0.2, 0.9], [0.5, 0.5]))
    empty = FoldDecisions(nothing.pairs[:0], [table[:0] for table in nothing.by_fold], "feed")
    assert output_table(empty).shape == (0, len(OUTPUT_FIELDS))


def test_the_contract_lists_every_field() -> None:
    section = CONTRACT.partition("### Output of inference")[2].partition("\n#")[0]
    rows = re.findall(r"^\| `(\w+)` \| (\w+) \| (.+) \|$", section, flags=re.MULTILINE)
    assert rows == [(field.name, field.type, field.meaning) for field in OUTPUT_FIELDS]
    example = re.search(r"^\{.*\}$", section, flags=re.MULTILINE)
    assert example and [*json.loads(example[0])] == [field.name for field in OUTPUT_FIELDS]
