"""The layers of every pipeline, in the order in which Kedro-Viz shows them."""

from collections import defaultdict
from types import SimpleNamespace
from typing import Any

import pytest
from kedro.framework.project import pipelines
from kedro.framework.session import KedroSession
from kedro.framework.startup import bootstrap_project
from kedro.io import DataCatalog
from kedro_viz.services.layers import sort_layers

from tests.samples import PROJECT

# A refit is a model that is made from an outcome, so there the layers go back.
PIPELINES = sorted(set(bootstrap_project(PROJECT) and pipelines) - {"refit"})


@pytest.fixture(scope="module")
def catalog() -> DataCatalog:
    with KedroSession.create(PROJECT) as session:
        return session.load_context().catalog


@pytest.mark.parametrize("name", PIPELINES)
def test_the_layers_are_in_the_order_of_their_folders(name: str, catalog: DataCatalog) -> None:
    def layer(dataset: str) -> str | None:
        metadata = getattr(catalog.get(dataset), "metadata", None) or {}
        found: str | None = metadata.get("kedro-viz", {}).get("layer")
        return found

    # As Kedro-Viz does: it sorts the layers of all pipelines by the dependencies of one.
    boxes: dict[str, Any] = {}
    for pipeline in pipelines.values():
        boxes |= {dataset: SimpleNamespace(layer=layer(dataset)) for dataset in pipeline.datasets()}
        boxes |= {node.name: SimpleNamespace(layer=None) for node in pipeline.nodes}
    after: defaultdict[str, set[str]] = defaultdict(set)
    for node in pipelines[name].nodes:
        after[node.name].update(node.outputs)
        for dataset in node.inputs:
            after[dataset].add(node.name)
    shown = {layer(dataset) for dataset in pipelines[name].datasets()} - {None}
    order = [each for each in sort_layers(boxes, after) if each in shown]  # none, if they close a circle
    assert order == sorted(shown) != []


def test_boxes_that_open_leave_few_things_in_sight() -> None:
    """A namespace is a box of Kedro-Viz; it opens on the nodes alone with `?types=nodes`."""
    boxes = {node.namespace or node.name for node in pipelines["__default__"].nodes}
    assert {"data_processing", "reporting", "fold_0", "fold_4"} <= boxes
    assert len(boxes) <= 16
