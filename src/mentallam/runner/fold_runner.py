"""The runner: nodes one after the other in this process, except folds, which may go to an engine.

Workers import this module before their number of threads is set, which torch reads once: so torch is imported late.
"""

import logging
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from kedro.io import CatalogProtocol
from kedro.pipeline import Pipeline
from kedro.pipeline.node import Node
from kedro.runner import SequentialRunner
from omegaconf import OmegaConf
from pluggy import PluginManager
from pydantic import ValidationError

from mentallam import project
from mentallam.cluster_options import ClusterOptions
from mentallam.console import is_verbose
from mentallam.data_lock import DataLock
from mentallam.errors import MentallamError
from mentallam.one_training import trains_fold
from mentallam.runner.engines import open_engine
from mentallam.runner.fold_storage import FoldStorage, publish
from mentallam.runner.placement import trained
from mentallam.runner.unit import Unit
from mentallam.tracking_address import tracking_uri

logger = logging.getLogger(__name__)

# Variables that decide what a fold's process does; an engine may start it on another machine.
_PASSED_ON = ("MENTALLAM_", "MLFLOW_", "KEDRO_", "HF_", "AWS_")


class FoldRunner(SequentialRunner):
    """Run nodes one after the other, and the folds of a cross-validation on the engine that `cluster.backend` names.

    Metrics, checkpoints and predictions are those of a run in one process with as many threads.

    Args:
        is_async: As for Kedro's runners.
        **given: Options of `cluster` that replace those of cluster.yml, as in `--runner-params backend=process`.
    """

    def __init__(self, is_async: bool = False, **given: Any) -> None:
        super().__init__(is_async=is_async)
        self._given = given

    @property
    def _logger(self) -> logging.Logger:
        return logging.getLogger("kedro.runner")  # its lines are for the log file

    def _run(
        self,
        pipeline: Pipeline,
        catalog: CatalogProtocol[Any, Any],
        hook_manager: PluginManager | None = None,
        run_id: str | None = None,
    ) -> None:
        options = self._options(catalog)
        folds = {str(node.namespace): node for node in pipeline.nodes if trains_fold(node.outputs)}
        if not placed_elsewhere(options, len(folds)):
            if options.storage and folds:
                raise MentallamError("cluster.storage is for folds on other machines: set cluster.backend as well")
            super()._run(pipeline, catalog, hook_manager, run_id)
            return
        units = Pipeline(folds.values())
        after = pipeline.from_nodes(*(node.name for node in folds.values())) - units
        super()._run(pipeline - units - after, catalog, hook_manager, run_id)
        for node in _placed(folds, options, catalog):
            if hook_manager:
                hook_manager.hook.after_node_run(
                    node=node, catalog=catalog, inputs={}, outputs={}, is_async=False, run_id=run_id
                )
        super()._run(after, catalog, hook_manager, run_id)

    def _options(self, catalog: CatalogProtocol[Any, Any]) -> ClusterOptions:
        return read_options(catalog.load("parameters").get("cluster") or {}, self._given)


def read_options(
    configured: Mapping[str, Any] | ClusterOptions, given: Mapping[str, Any] | None = None
) -> ClusterOptions:
    """Return the options of `cluster`.

    Args:
        configured: Those of the parameters; Kedro has made them `ClusterOptions` where a node takes them, too.
        given: What replaces some of them.

    Raises:
        MentallamError: There is no such option, or it has no such value.
    """
    if isinstance(configured, ClusterOptions):
        configured = configured.model_dump()
    options = OmegaConf.to_container(OmegaConf.merge(configured, given or {}))
    try:
        return ClusterOptions.model_validate(options)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(["cluster", *map(str, first["loc"])])
        raise MentallamError(f"{key}: {first['msg']}; conf/base/cluster.yml has the options") from None


def placed_elsewhere(options: ClusterOptions, n_folds: int) -> bool:
    """Return whether folds leave this process: `auto` lets them do so for GPUs of their own."""
    if not n_folds or options.backend != "auto":
        return n_folds > 0 and options.backend != "sequential"
    from mentallam.device import visible_gpus  # torch takes seconds to import, and other pipelines do without

    return n_folds > 1 and len(visible_gpus()) > 1


def _ranks(catalog: CatalogProtocol[Any, Any]) -> int:
    """Return how many processes train a fold together, as the configuration of this run has it by now."""
    ranks: int = catalog.load("training_config").training.ranks
    return ranks


def _placed(folds: dict[str, Node], options: ClusterOptions, catalog: CatalogProtocol[Any, Any]) -> Iterator[Node]:
    """Train folds on the engine, and yield the node of each that is done.

    Args:
        folds: The node of each fold, by its namespace.
        options: The options.
        catalog: The run's catalog.
    """
    from mentallam.classifier.shared_base import release_base
    from mentallam.device import visible_gpus

    session = project.session()
    units = units_of(folds, session, options, catalog)
    engine = open_engine(options, len(folds), visible_gpus(), session.data, _ranks(catalog))
    logger.info("%s; --params cluster.backend=sequential trains one after the other", engine.described(len(folds)))
    release_base()  # the workers hold their own
    with DataLock.shared_with_workers():
        for unit in trained(engine, units, options.retries):
            yield folds[unit.fold]


def units_of(
    folds: Mapping[str, Node],
    session: project.Session,
    options: ClusterOptions,
    catalog: CatalogProtocol[Any, Any],
    run: str = "",
) -> list[Unit]:
    """Return the units of a cross-validation that has been opened; with `cluster.storage` what they read lies there.

    Args:
        folds: The node of each fold, by its namespace.
        session: The session that has opened it.
        options: The options.
        catalog: Its catalog.
        run: Which of several runs it is.

    Raises:
        MentallamError: `cluster.storage` can't be written, or runs are kept on this machine alone.
    """
    stored = _stored(folds, options.storage.rstrip("/"), catalog, session) if options.storage else {}
    variables = {name: value for name, value in os.environ.items() if name.startswith(_PASSED_ON)} | options.variables
    # A fresh cross-validation has been opened by now, and a fold of it that is placed again goes on.
    parameters = {name: value for name, value in session.runtime_params.items() if name not in ("fresh", "cluster")}
    return [Unit(fold, session, parameters, variables, is_verbose(), run, stored.get(fold)) for fold in folds]


def _stored(
    folds: Mapping[str, Node], address: str, catalog: CatalogProtocol[Any, Any], session: project.Session
) -> dict[str, FoldStorage]:
    """Put what the folds read to `cluster.storage`, and return the place of each fold there.

    Raises:
        MentallamError: The address can't be written, or runs are kept on this machine alone.
    """
    from mentallam.resumption import RECORD

    if urlsplit(tracking_uri(session.folder)).scheme in ("", "file", "sqlite"):
        raise MentallamError("cluster.storage needs a tracking server: set MLFLOW_TRACKING_URI to its address")

    def files(names: Iterable[str]) -> dict[str, str]:
        described = {name: catalog[name]._describe() for name in names if not name.startswith("params:")}
        paths = {name: facts.get("filepath") or facts.get("folder") for name, facts in described.items()}
        return {name: Path(path).relative_to(session.data).as_posix() for name, path in paths.items() if path}

    place = f"{address}/{catalog.load('cv_run')['run_id']}"
    credentials = catalog.load("storage")
    read: dict[str, str] = {}
    stored = {}
    for fold, node in folds.items():
        inputs = files(node.inputs)
        record, base_model = f"{inputs.pop(f'{fold}_attempt')}/{RECORD}", inputs["base_model"]
        stored[fold] = FoldStorage(place, credentials, fold, base_model, record, tuple(files(node.outputs).values()))
        read |= inputs
    publish(session.data, read.values(), place, credentials)
    return stored
