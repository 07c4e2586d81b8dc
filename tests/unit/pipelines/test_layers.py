"""The layers have an order: with a circle among them, Kedro-Viz draws none."""

from graphlib import TopologicalSorter

import pytest
from kedro.framework.project import pipelines
from kedro.framework.session import KedroSession
from kedro.framework.startup import bootstrap_project

from tests.samples import PROJECT


@pytest.mark.parametrize("name", ["__default__", "cv_training", "data_processing", "reporting", "inference"])
def test_the_layers_are_in_an_order(name: str) -> None:
    bootstrap_project(PROJECT)
    with KedroSession.create(PROJECT) as session:
        catalog = session.load_context().catalog

    def layer(dataset: str) -> str | None:
        metadata = getattr(catalog.get(dataset), "metadata", None) or {}
        found: str | None = metadata.get("kedro-viz", {}).get("layer")
        return found

    before: dict[str, set[str]] = {}
    for node in pipelines[name].nodes:
        for after in filter(None, map(layer, node.outputs)):
            before.setdefault(after, set()).update({of for of in map(layer, node.inputs) if of and of != after})
    order = list(TopologicalSorter(before).static_order())  # raises CycleError
    assert order
