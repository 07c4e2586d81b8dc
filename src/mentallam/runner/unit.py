"""A fold as a unit of work: what a process anywhere needs to train it, and how that ended.

This module is imported before the variables of the process are set, so it must not import torch, which reads the
number of threads once.
"""

import json
import logging
import os
import platform
import time
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kedro.runner import SequentialRunner

from mentallam import interruption
from mentallam.console import capture_warnings
from mentallam.errors import MentallamError
from mentallam.interruption import RunStoppedError
from mentallam.project import Session
from mentallam.runner.fold_storage import FoldStorage


@dataclass(frozen=True)
class Unit:
    """A fold to train, by a session of its own in a process of its own.

    Attributes:
        fold: The namespace, such as `fold_2`.
        session: The session that it comes from; the process must see the project under the same path.
        parameters: The parameters of the fold's own session.
        variables: Environment variables.
        verbose: Whether Kedro's lines are shown.
        run: Which of several runs it belongs to, in a queue of more than one.
        storage: Where its data come from and go to; None if the process sees the data folder under the same path.
    """

    fold: str
    session: Session
    parameters: Mapping[str, Any]
    variables: Mapping[str, str]
    verbose: bool
    run: str = ""
    storage: FoldStorage | None = None

    @property
    def title(self) -> str:
        """What messages call it."""
        return f"{self.run} {self.fold}".strip()


@dataclass(frozen=True)
class Outcome:
    """How a unit ended: well, by a signal, or by an error.

    Attributes:
        host: The machine.
        seconds: How long it took.
        signal: The signal that stopped it.
        sentence: The sentence for the user, if the error has one.
        traceback: Any other error.
    """

    host: str
    seconds: float
    signal: int | None = None
    sentence: str | None = None
    traceback: str | None = None


class UnitRunner(SequentialRunner):
    """The runner of a unit's session: the checks of the whole run have been made where it was started."""

    @property
    def _logger(self) -> logging.Logger:
        return logging.getLogger("kedro.runner")  # its lines are for the log file


def run_unit(unit: Unit) -> Outcome:
    """Train a fold in this process.

    No exception leaves this function: the class of one may be unknown where the unit came from.
    """
    os.environ.update(unit.variables)
    os.chdir(unit.session.folder)
    capture_warnings()  # those of the imports, too
    began = time.monotonic()
    ended: dict[str, Any] = {}
    interruption.watch()  # from the imports on, which take longer than the grace of some schedulers
    try:
        _train(unit)
    except RunStoppedError as stop:
        ended = {"signal": stop.number}
    except MentallamError as error:
        ended = {"sentence": error.message}
    except Exception:
        ended = {"traceback": traceback.format_exc()}
    finally:
        interruption.unwatch()
    return Outcome(platform.node(), time.monotonic() - began, **ended)


def _train(unit: Unit) -> None:
    if unit.storage is None:
        _run(unit, unit.parameters, namespaces=[unit.fold])
        return
    from mentallam.resumption import changed, first_difference

    with unit.storage.working_folder() as data:
        parameters = {**unit.parameters, "data_dir": str(data)}
        base_model = data / unit.storage.base_model
        expected = json.loads(base_model.read_bytes())
        _run(unit, parameters, node_names=["prepare_base_model"])  # its folder is another one on each machine
        if change := first_difference(expected | {"folder": ""}, json.loads(base_model.read_bytes()) | {"folder": ""}):
            raise MentallamError(f"the base model of {platform.node()} is another one: {changed(*change)}")
        _run(unit, parameters, namespaces=[unit.fold])


def _run(unit: Unit, parameters: Mapping[str, Any], **selected: list[str]) -> None:
    from kedro.framework.session import KedroSession
    from kedro.framework.startup import bootstrap_project

    from mentallam.classifier import progress
    from mentallam.console import set_up_screen

    bootstrap_project(unit.session.folder)
    set_up_screen(unit.verbose)
    progress.show_lines()
    given: dict[str, Any] = {"env": unit.session.env, "conf_source": unit.session.conf_source}
    with KedroSession.create(unit.session.folder, **given, runtime_params=dict(parameters)) as session:
        assert isinstance(session, KedroSession)
        session.run(pipeline_names=["cv_training"], runner=UnitRunner(), **selected)  # type: ignore[arg-type]
