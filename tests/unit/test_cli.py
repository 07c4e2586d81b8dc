from typing import Any

import click
import pytest

from mentallam.cli import run
from mentallam.errors import MentallamError


def given(value: str) -> Any:
    option = next(parameter for parameter in run.params if parameter.name == "params")
    return option.process_value(click.Context(run), value)


@pytest.mark.parametrize(
    ("value", "parameters"),
    [
        ("input=-", {"input": "-"}),
        ("input=-,explain=true", {"input": "-", "explain": True}),
        ("a.b=-1", {"a": {"b": -1}}),
        ("input='a #1.csv'", {"input": "a #1.csv"}),
        ("input=a#1.csv", {"input": "a#1.csv"}),
    ],
)
def test_values_of_params(value: str, parameters: dict[str, Any]) -> None:
    assert given(value) == parameters


@pytest.mark.parametrize("value", ["input=a #1.csv", "input= #1", "input='a #1.csv',output=b #2"])
def test_a_value_that_yaml_would_cut_is_refused(value: str) -> None:
    with pytest.raises(MentallamError, match="ignores everything from `#` on: quote the value"):
        given(value)
