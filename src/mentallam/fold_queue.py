"""The folds of several runs in one queue: no worker idles at the end of each run.

`python -m mentallam.fold_queue` reads runs from standard input: a JSON list of `title` and `arguments`, those of an
ordinary `kedro run`. It opens the cross-validation of each run, and trains all their folds on the engine that
`cluster.backend` names. The same runs, started afterwards, find their folds finished. Where folds are trained in the
process of their run, there is nothing to queue.
"""

import json
import logging
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kedro.config import OmegaConfigLoader
from kedro.framework.context import KedroContext
from kedro.framework.project import pipelines
from kedro.framework.session import KedroSession
from kedro.pipeline.node import Node

from mentallam import interruption, project, run_checks
from mentallam.cli import run as run_command
from mentallam.cluster_options import PARAMETERS, ClusterOptions
from mentallam.configuration_files import environment_folders, interpolated_names
from mentallam.console import capture_warnings, set_up_screen
from mentallam.data_lock import DataLock
from mentallam.errors import MentallamError
from mentallam.one_training import trains_fold
from mentallam.runner.engines import open_engine
from mentallam.runner.fold_runner import placed_elsewhere, read_options, units_of
from mentallam.runner.placement import trained
from mentallam.runner.slurm_jobs import end_jobs
from mentallam.runner.unit import Unit, UnitRunner
from mentallam.serving.project_models import enter_project

logger = logging.getLogger("mentallam.fold_queue")  # its name is __main__ as a program


@dataclass(frozen=True)
class QueuedRun:
    """A run whose folds are queued.

    Attributes:
        title: What messages call it.
        env: Its environment; None for the default one.
        params: Its parameters, nested.
    """

    title: str
    env: str | None
    params: Mapping[str, Any]

    @contextmanager
    def session(self, folder: Path) -> Iterator[KedroSession]:
        """Open a session of it."""
        with KedroSession.create(folder, env=self.env, runtime_params=dict(self.params)) as session:
            assert isinstance(session, KedroSession)
            yield session


def main() -> None:
    """Train the folds of the runs on standard input."""
    capture_warnings()
    try:
        train_folds([_read(each) for each in json.load(sys.stdin)], enter_project())
    except MentallamError as error:
        error.show()
        sys.exit(error.exit_code)


def _read(command: Mapping[str, Any]) -> QueuedRun:
    given = run_command.make_context("run", list(command["arguments"])).params
    return QueuedRun(command["title"], given["env"], given["params"])


def train_folds(runs: list[QueuedRun], folder: Path) -> None:
    """Open the cross-validations of some runs, and train all their folds from one queue.

    Args:
        runs: The runs, each in a data folder of its own.
        folder: The project.

    Raises:
        RunStoppedError: A signal has stopped it; each fold under way has saved its state.
        MentallamError: A run is refused, before any is opened, or a fold has failed.
    """
    set_up_screen(verbose=False)
    options, *_ = [_check(run, folder) for run in runs]
    folds = {str(node.namespace): node for node in pipelines["cv_training"].nodes if trains_fold(node.outputs)}
    elsewhere = placed_elsewhere(options, len(folds))
    if not elsewhere and not any(run.params.get("fresh") for run in runs):
        return
    # A folder of the study's own: in that of another run its jobs would be taken for jobs of that one.
    place = Path(runs[0].params["data_dir"]).parent / runs[0].params["study"]
    lock = DataLock(place)
    lock.take("queue", free_folds=lambda: end_jobs(place))
    try:
        opened = [_open(run, folder, folds if elsewhere else {}, options) for run in runs]
        if elsewhere:
            _train([unit for units, _ in opened for unit in units], options, max(ranks for _, ranks in opened), place)
    finally:
        lock.release()


def _check(run: QueuedRun, folder: Path) -> ClusterOptions:
    """Refuse a run as its own session would, before anything is trained; return where folds are trained."""
    with run.session(folder) as session:
        context: KedroContext = session.load_context()  # its hooks check names and values
        loader = context.config_loader
        assert isinstance(loader, OmegaConfigLoader)
        folders = environment_folders(
            Path(loader.conf_source), loader.base_env, run.env or loader.default_run_env, named=bool(run.env)
        )
        read = {*PARAMETERS, *interpolated_names(folders)}
        run_checks.check_read(run.params, pipelines["__default__"], pipelines, read)
        return read_options(context.params.get("cluster") or {})


def _open(run: QueuedRun, folder: Path, folds: Mapping[str, Node], options: ClusterOptions) -> tuple[list[Unit], int]:
    """Run all nodes before the folds; return the units of these folds, and the ranks of a fold."""
    with run.session(folder) as session:
        session.run(pipeline_names=["cv_training"], to_nodes=["open_cv_run"], runner=UnitRunner())
        catalog = session.load_context().catalog
        ranks: int = catalog.load("training_config").training.ranks
        units = units_of(folds, project.session(), options, catalog, run.title)
    logger.info("%s: opened", run.title)
    return units, ranks


def _train(units: list[Unit], options: ClusterOptions, ranks: int, place: Path) -> None:
    from mentallam.device import visible_gpus

    engine = open_engine(options, len(units), visible_gpus(), place, ranks)
    logger.info("one queue: %s", engine.described(len(units)))
    interruption.watch()
    try:
        for _ in trained(engine, units, options.retries):
            pass
    finally:
        interruption.unwatch()


if __name__ == "__main__":
    main()
