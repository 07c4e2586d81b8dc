import json
import re

import numpy as np

from mentallam.serving.output_fields import (
    FEW_MATCHES,
    INVENTED,
    OUTPUT_FIELDS,
    TRAINED,
    UNTRAINED,
    FoldDecisions,
    Pair,
    answers_of,
    cautions_for,
    fields_with,
)
from tests.samples import PROJECT

CONTRACT = (PROJECT / "docs" / "contracts" / "cli.md").read_text(encoding="utf-8")


def decided(probability: list[float], *thresholds: list[float]) -> FoldDecisions:
    pairs = [Pair("p", "A.1", True, TRAINED), Pair("q", "A.1", False, UNTRAINED)]
    return FoldDecisions(pairs, np.array(probability), np.array(thresholds), "feed", {"A.1": INVENTED})


def test_one_fold_answers_with_its_figures() -> None:
    answers = answers_of(decided([0.25, 0.75], [0.25, 0.8]))
    assert list(answers) == [field.name for field in fields_with(explain=False)]
    assert answers == {
        "post_id": ["p", "q"],
        "criterion_id": ["A.1", "A.1"],
        "label": ["yes", "no"],
        "probability": [0.25, 0.75],
        "threshold": [0.25, 0.8],
        "truncated": [True, False],
        "wording": ["trained", "untrained wording, uncalibrated"],
        "caution": ["SYNTHETIC training posts", "SYNTHETIC training posts"],
        "run_id": ["feed", "feed"],
    }


def test_cautions_say_what_weakens_a_criterion() -> None:
    assert cautions_for(["A", "B", "own"], False, {"A": 19, "B": 20}) == {"A": FEW_MATCHES, "B": "", "own": ""}
    assert cautions_for(["A"], True, {"A": 0}) == {"A": f"{INVENTED}; {FEW_MATCHES}"}


def test_the_threshold_of_several_folds_is_the_mean_of_theirs() -> None:
    answers = answers_of(decided([0.4, 0.7], [0.5, 0.5], [0.25, 1.0]))
    assert answers["probability"] == [0.4, 0.7]
    assert answers["threshold"] == [0.375, 0.75]
    assert answers["label"] == ["yes", "no"]


def test_no_pair_gives_no_answer() -> None:
    empty = FoldDecisions([], np.empty(0), np.empty((1, 0)), "feed")
    assert answers_of(empty) == {field.name: [] for field in fields_with(explain=False)}


def test_the_contract_lists_every_field() -> None:
    section = CONTRACT.partition("### Output of inference")[2].partition("\n#")[0]
    rows = re.findall(r"^\| `(\w+)` \| (\w+) \| (.+) \|$", section, flags=re.MULTILINE)
    assert rows == [(field.name, field.type, field.meaning) for field in OUTPUT_FIELDS]
    example = re.search(r"^\{.*\}$", section, flags=re.MULTILINE)
    assert example and [*json.loads(example[0])] == [field.name for field in fields_with(explain=False)]
