"""Types of parameters, which Kedro looks at ahead of every run: on Python 3.10 some of them would stop it."""

import types
from typing import Any

import pytest
from kedro.framework.project import pipelines
from kedro.framework.startup import bootstrap_project
from kedro.validation import type_extractor

from tests.samples import PROJECT


def test_kedro_can_look_at_the_type_of_each_parameter_on_python_3_10(monkeypatch: pytest.MonkeyPatch) -> None:
    """There Kedro 1.7 takes a generic of collections.abc for a class, which `issubclass` refuses; not of typing."""
    looked_at: list[Any] = []

    def is_pydantic_class(cls: Any) -> bool:
        looked_at.append(cls)
        return False

    monkeypatch.setattr(type_extractor, "is_pydantic_class", is_pydantic_class)
    bootstrap_project(PROJECT)
    type_extractor.TypeExtractor(dict(pipelines)).extract_types_from_pipelines()
    assert int in looked_at
    assert [cls for cls in looked_at if isinstance(cls, types.GenericAlias)] == []
