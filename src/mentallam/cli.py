"""Kedro's command `kedro run`, with one sentence where `--params` can't be read.

Kedro looks for a project's commands in a module of this name. `run_checks` checks the parameters after Kedro has read
them.
"""

import copy
import re
from typing import Any

import click
from kedro.framework.cli.project import run as kedro_run
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from mentallam.errors import MentallamError

_QUOTE = "quote the value, as in --params \"input='[a].csv'\""


def _params_option(option: click.Parameter) -> click.Parameter:
    """Return a copy of Kedro's option `--params` that refuses with one sentence what it can't read."""
    kedro_callback = option.callback
    assert kedro_callback is not None

    def read(context: click.Context, parameter: click.Parameter, value: Any) -> Any:
        if isinstance(value, str) and re.search(r"[=\s]#", value):
            raise MentallamError(f"--params reads its values as YAML, which ignores everything from `#` on: {_QUOTE}")
        try:
            return kedro_callback(context, parameter, value)
        except (OmegaConfBaseException, YAMLError):
            raise MentallamError(
                f"--params reads its values as YAML, where [ {{ * & @ ` at the start and a colon before a blank have a "
                f"special meaning: {_QUOTE}"
            ) from None

    option = copy.copy(option)
    option.callback = read
    return option


@click.group(name="mentallam")
def cli() -> None:
    """Run the commands of this project."""


run = click.Command(
    name="run",
    callback=kedro_run.callback,
    params=[_params_option(option) if option.name == "params" else option for option in kedro_run.params],
    help=kedro_run.help,
)
cli.add_command(run)
