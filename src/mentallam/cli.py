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

from mentallam.console import set_up_screen
from mentallam.errors import MentallamError

# Standard input; YAML takes a dash alone for a list of nothing.
_DASH = re.compile(r"=-(?=,|$)")
_QUOTE = "quote the value, as in --params \"input='[a].csv'\""


def _params_option(option: click.Parameter) -> click.Parameter:
    """Return a copy of Kedro's option `--params` that refuses with one sentence what it can't read."""
    kedro_callback = option.callback
    assert kedro_callback is not None

    def read(context: click.Context, parameter: click.Parameter, value: Any) -> Any:
        if isinstance(value, str):
            value = _DASH.sub("='-'", value)
        try:
            given = kedro_callback(context, parameter, value)
        except (OmegaConfBaseException, YAMLError):
            raise MentallamError(
                f"--params reads its values as YAML, where [ {{ * & @ ` at the start and a colon before a blank have a "
                f"special meaning: {_QUOTE}"
            ) from None
        if isinstance(value, str) and str(given).count("#") < value.count("#"):
            raise MentallamError(f"--params reads its values as YAML, which ignores everything from `#` on: {_QUOTE}")
        return given

    option = copy.copy(option)
    option.callback = read
    return option


@click.group(name="mentallam")
def cli() -> None:
    """Run the commands of this project."""


def _run(verbose: bool, **options: Any) -> Any:
    set_up_screen(verbose)
    options["runner"] = options["runner"] or "mentallam.runner.FoldRunner"
    assert kedro_run.callback is not None
    return kedro_run.callback(**options)


run = click.Command(
    name="run",
    callback=_run,
    params=[
        *(_params_option(option) if option.name == "params" else option for option in kedro_run.params),
        click.Option(["--verbose"], is_flag=True, help="Show Kedro's log of every node, too."),
    ],
    help=kedro_run.help,
)
cli.add_command(run)
