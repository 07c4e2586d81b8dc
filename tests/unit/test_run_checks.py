from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kedro.pipeline import Node, Pipeline
from pydantic import BaseModel, ConfigDict, Field

from mentallam import run_checks
from mentallam.errors import MentallamError
from mentallam.variables import VARIABLES


class Options(BaseModel):
    model_config = ConfigDict(extra="forbid")

    seed: int = Field(ge=0)
    mask: bool = False
    use: Literal["one", "all", "none"] = "one"
    reason: str | None = None


def prepare(options: Options, profiles: Sequence[str], interval: float) -> str:
    return ""


def compose(overrides: str | None, options: Options | None) -> str:
    return ""


def answer(path: str | None, model: str, options: dict[str, Any]) -> str:
    return ""


PIPELINES = {
    "data": Pipeline(
        [
            Node(prepare, ["params:folds", "params:profiles", "params:interval"], "prepared", name="prepare"),
            Node(compose, ["params:overrides", "params:cleaning"], "composed", name="compose"),
        ]
    ),
    "inference": Pipeline(
        [
            Node(
                answer,
                {"path": "params:input", "options": "params:columns", "model": "params:registry.model"},
                "answered",
                name="answer",
            )
        ]
    ),
}
PIPELINES["__default__"] = PIPELINES["data"]
TYPES = run_checks.parameter_types(PIPELINES)


def test_types_by_name_also_of_arguments_given_by_keyword() -> None:
    assert run_checks.parameter_types(PIPELINES) == {
        "folds": Options,
        "profiles": Sequence[str],
        "interval": float,
        "overrides": str | None,
        "cleaning": Options | None,
        "input": str | None,
        "columns": dict[str, Any],
        "registry.model": str,
    }


@pytest.mark.parametrize(
    "params",
    [
        {"folds": {"seed": 3}},
        {"folds": None},
        {"registry": {"model": "x"}},
        {"registry": {}},
        {"columns": {"text": "selftext"}},
        {"data_dir": "/elsewhere", "input": "x"},
    ],
)
def test_a_name_that_is_read_passes(params: dict[str, Any]) -> None:
    run_checks.check_names(params, TYPES, {"data_dir"})


@pytest.mark.parametrize(
    ("params", "sentence"),
    [
        ({"inptu": "x"}, "nothing reads the parameter inptu: did you mean input"),
        ({"overide": None}, "nothing reads the parameter overide: did you mean overrides"),
        ({"fold": {"seed": 1}}, "nothing reads the parameter fold.seed: did you mean folds.seed"),
        ({"seed": 1}, "nothing reads the parameter seed: did you mean cleaning.seed"),
        ({"datadir": "x"}, "nothing reads the parameter datadir: did you mean data_dir"),
        ({"registry": {"modle": "x"}}, "nothing reads the parameter registry.modle: did you mean registry.model"),
        (
            {"inference": {"threshold": 0.9}},
            "inference.threshold belongs to the Hydra configuration: "
            'write --params "overrides=inference.threshold=0.9" instead',
        ),
        ({"max_epochs": 3}, '"overrides=training.max_epochs=3"'),
        ({"model": "mentallam"}, '"overrides=model=mentallam"'),
        ({"training": {"deterministic": True}}, '"overrides=training.deterministic=true"'),
        ({"folds.seed": 1}, "the parameter folds.seed has a dot in its key: nest it, as in folds: {seed: ...}"),
    ],
)
def test_a_name_that_nothing_reads_is_refused(params: dict[str, Any], sentence: str) -> None:
    with pytest.raises(MentallamError) as caught:
        run_checks.check_names(params, TYPES, {"data_dir"})
    assert sentence in caught.value.message


@given(st.text(st.characters(categories=["Ll"]), min_size=1), st.integers())
def test_no_name_passes_but_those_that_are_read(name: str, value: int) -> None:
    try:
        run_checks.check_names({name: value}, TYPES, ())
    except MentallamError as error:
        assert name in error.message and "\n" not in error.message
    else:
        assert any(known.partition(".")[0] == name for known in TYPES)


def test_without_a_close_name_all_are_listed() -> None:
    with pytest.raises(MentallamError, match="nothing reads the parameter zzz; there are: cleaning, cleaning.mask, "):
        run_checks.check_names({"zzz": 1}, TYPES, ())


VALUES = {
    "folds": {"seed": 3},
    "profiles": ["tiny"],
    "interval": 1,
    "overrides": None,
    "cleaning": {"seed": 0, "mask": "yes"},
    "input": "a b.csv",
    "columns": {"text": "x"},
    "registry": {"model": "m"},
}


def test_values_that_fit() -> None:
    run_checks.check_values(VALUES, TYPES)
    run_checks.check_values({}, TYPES)  # Kedro names what is missing for a node


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"folds": {"sed": 1, "seed": 1}}, "nothing reads the parameter folds.sed: did you mean folds.seed"),
        ({"folds": {}}, "the parameter folds.seed has no value: set it in the environment's parameters_*.yml"),
        ({"folds": {"seed": -1}}, "folds.seed is -1; it must be greater than or equal to 0"),
        ({"folds": {"seed": "x"}}, "folds.seed is 'x'; it takes a whole number"),
        ({"folds": {"seed": 1.5}}, "folds.seed is 1.5; it takes a whole number"),
        ({"folds": {"seed": 1, "use": "folds"}}, "folds.use is 'folds'; it takes 'one', 'all' or 'none'"),
        ({"cleaning": {"seed": 1, "mask": "maybe"}}, "cleaning.mask is 'maybe'; it takes true or false"),
        ({"cleaning": {"seed": 1, "reason": 3}}, "cleaning.reason is read as a number, but takes text: quote it"),
        ({"interval": "abc"}, "interval is 'abc'; it takes a number"),
        ({"interval": True}, "interval is True; it takes a number"),
        ({"profiles": "nope"}, "profiles is 'nope'; it takes a list, as in [a, b], which --params can't carry"),
        ({"input": 1e5}, "input is read as a number, but takes text: quote it, as in --params \"input='...'\""),
        ({"input": True}, "input is read as true or false, but takes text"),
        ({"registry": {"model": 2}}, "registry.model is read as a number, but takes text"),
    ],
)
def test_a_value_that_does_not_fit_is_one_sentence(changed: dict[str, Any], sentence: str) -> None:
    with pytest.raises(MentallamError) as caught:
        run_checks.check_values({**VALUES, **changed}, TYPES)
    assert caught.value.message.startswith(sentence)
    assert "\n" not in caught.value.message


def test_what_may_be_a_text_is_not_repeated() -> None:
    for wrong in ({"input": {"I feel": "so bad"}}, {"interval": "I feel so bad"}, {"columns": "I feel so bad"}):
        with pytest.raises(MentallamError) as caught:
            run_checks.check_values({**VALUES, **wrong}, TYPES)
        assert "feel" not in caught.value.message


def test_a_misspelt_key_of_a_file() -> None:
    run_checks.check_unread_keys({**VALUES, "anchor_of_a_user": 1}, TYPES)
    with pytest.raises(MentallamError, match="no pipeline reads the parameter fold: did you mean folds"):
        run_checks.check_unread_keys({**VALUES, "fold": {"seed": 1}}, TYPES)


def test_a_parameter_that_the_chosen_nodes_read_passes() -> None:
    chosen = PIPELINES["data"].only_nodes("prepare")
    run_checks.check_read({"folds": {"seed": 1}}, chosen, PIPELINES, ())
    run_checks.check_read({"overrides": "x", "data_dir": "y"}, chosen, PIPELINES, {"overrides", "data_dir"})
    run_checks.check_read({"registry": {"model": "x"}}, PIPELINES["inference"], PIPELINES, ())


def test_a_parameter_that_other_nodes_read_is_refused() -> None:
    chosen = PIPELINES["data"].only_nodes("prepare")
    with pytest.raises(MentallamError) as caught:
        run_checks.check_read({"overrides": "x"}, chosen, PIPELINES, {"data_dir"})
    assert caught.value.message == (
        "overrides would change nothing in this run: compose of the pipeline data reads it, and is not among the "
        "nodes that run"
    )


def test_a_misspelt_variable(tmp_path: Path) -> None:
    (tmp_path / "mlflow.yml").write_text("uri: ${oc.env:MENTALLAM_MINE,${oc.env:OTHER}}\n")
    run_checks.check_variables([*VARIABLES, "MENTALLAM_MINE", "MENTALLAM_UNLIKE_THE_OTHERS", "PATH"], [tmp_path])
    for misspelt, name in (
        ("MENTALLAM_CV_FOLD", "MENTALLAM_CV_FOLDS"),
        ("MENTALLAM_ARTEFACTS", "MENTALLAM_ARTIFACTS"),
        ("MENTALLAM_BASE_MODEL", "MENTALLAM_BASE_MODELS"),
        ("MENTALLAM_MIME", "MENTALLAM_MINE"),
    ):
        with pytest.raises(MentallamError, match=f"^nothing reads the variable {misspelt}: did you mean {name}$"):
            run_checks.check_variables([misspelt], [tmp_path])


def selection(**options: Any) -> dict[str, Any]:
    """What click makes of `kedro run` with these options."""
    names = ("pipelines", "node_names", "from_nodes", "to_nodes", "from_inputs", "to_outputs", "namespaces")
    return {"pipeline": None, **dict.fromkeys(names, ()), **options}


def test_a_selection_that_exists_passes() -> None:
    run_checks.check_selection({}, PIPELINES)  # no command line
    run_checks.check_selection({"pipeline": "data"}, PIPELINES)  # another command
    run_checks.check_selection(selection(), PIPELINES)
    run_checks.check_selection(
        selection(pipeline="data", node_names=["prepare"], from_inputs=["params:folds"], to_outputs=["composed"]),
        PIPELINES,
    )


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"pipeline": "dat"}, "--pipelines dat: there is no such name: did you mean data"),
        ({"pipelines": ("inferenc",)}, "--pipelines inferenc: there is no such name: did you mean inference"),
        ({"node_names": ["prepar"]}, "--nodes prepar: there is no such name: did you mean prepare"),
        ({"from_nodes": ["answer"]}, "--from-nodes answer: there is no such name; there are: compose, prepare"),
        ({"to_nodes": ["prepar"]}, "--to-nodes prepar: there is no such name"),
        ({"from_inputs": ["params:fold"]}, "--from-inputs params:fold: there is no such name: did you mean"),
        ({"to_outputs": ["prepare"]}, "--to-outputs prepare: there is no such name: did you mean prepared"),
        ({"namespaces": ["fold_9"]}, "--namespaces fold_9: there is no such name"),
    ],
)
def test_a_selection_that_does_not_exist_is_refused(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(MentallamError) as caught:
        run_checks.check_selection(selection(**options), PIPELINES)
    assert sentence in caught.value.message


def test_a_name_on_the_command_line() -> None:
    run_checks.check_choices("--pipelines", ["a"], {"a", "b"})
    with pytest.raises(MentallamError, match="--pipelines infrence: there is no such name: did you mean inference"):
        run_checks.check_choices("--pipelines", ["infrence"], {"inference", "b"})
    with pytest.raises(MentallamError, match="--from-nodes train: there is no such name: did you mean fold_0.train"):
        run_checks.check_choices("--from-nodes", ["train"], {"fold_1.train", "fold_0.train"})
