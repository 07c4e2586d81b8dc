"""The command `mentallam`: it takes free text, which Kedro's `--params` can't carry."""

import json
import logging
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import click
import pandas as pd
from rich.console import Console
from rich.table import Table

from mentallam.config import compose_inference
from mentallam.corpus.cleaning import clean_text
from mentallam.errors import MentallamError
from mentallam.serving.notice import NOTICE

_ENVIRONMENT = click.option(
    "--env",
    metavar="ENVIRONMENT",
    help="Kedro environment: mentallam, pairs, test or twin; default: local, with the embedded model.",
)


class _TextCommand(click.Command):
    """A command whose argument is a text that may start with a dash."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Tell a text from options: an option has no blank before its value."""
        if "--" not in args:
            texts = [word for word in args if word.startswith("-") and len(word.partition("=")[0].split()) > 1]
            args = [*(word for word in args if word not in texts), *(["--", *texts] if texts else [])]
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            hint = '; a text that starts with a dash goes behind `--`, as in mentallam predict -- "-text"'
            raise click.NoSuchOption(error.option_name, f"{error.message}{hint}", ctx=ctx) from None


@click.group(help=f"Decide whether a post matches a criterion, such as one of DSM-5 depression. {NOTICE}")
def main() -> None:
    """Run a command of `mentallam`."""


@main.command(cls=_TextCommand)
@click.argument("text")
@click.option(
    "--criterion",
    "criteria",
    multiple=True,
    metavar="ID",
    help="Compare with this criterion only, such as A.4; repeatable.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON, one object per criterion, instead of a table.")
@click.option(
    "--checkpoint-run",
    metavar="RUN_ID",
    help="MLflow run of a fold or of a cross-validation (its best fold), or champion; default: the latest "
    "cross-validation of the environment.",
)
@_ENVIRONMENT
def predict(text: str, criteria: tuple[str, ...], as_json: bool, checkpoint_run: str | None, env: str | None) -> None:
    """Compare TEXT with each criterion; `-` reads the text from standard input.

    The command neither saves nor logs anything.
    """
    try:
        text = (sys.stdin.buffer.read() if text == "-" else text.encode()).decode()
    except UnicodeError:
        raise MentallamError("the text is not UTF-8; convert it first, for example with iconv") from None
    if not clean_text(text)[0]:
        raise MentallamError("the text is empty; nothing to compare")
    logging.disable(logging.WARNING)  # standard output is for the answer, from Kedro's import on
    with _parameters(env) as parameters:
        predictions, wording = _answer(text, criteria, checkpoint_run, parameters)
    if as_json:
        click.echo(json.dumps(predictions.drop(columns="post_id").to_dict("records"), indent=2))
    else:
        _print_table(predictions, wording)


@main.command()
@click.argument("model", metavar="RUN|champion|FOLDER")
@click.option(
    "--to",
    "folder",
    required=True,
    metavar="FOLDER",
    type=click.Path(path_type=Path),
    help="The folder to write; an exported model in it is replaced.",
)
@click.option(
    "--dtype",
    type=click.Choice(["auto", "float32", "bfloat16"]),
    help="Data type of the weights; default: inference.dtype, where auto takes the one of the training.",
)
@_ENVIRONMENT
def export(model: str, folder: Path, dtype: str | None, env: str | None) -> None:
    """Write a trained model as a folder that transformers loads without this package.

    The model is an MLflow run of a fold or of a cross-validation (its best fold), the champion, or a checkpoint's
    folder. The adapter is merged into the base model.
    """
    logging.disable(logging.INFO)
    with _parameters(env) as parameters:
        from mentallam.serving.export import export_model

        checkpoint = _find_checkpoint(model, parameters)
        config = compose_inference(Path(parameters["hydra_configs"]), parameters["profile"])
        export_model(checkpoint, folder, Path(parameters["base_models"]), dtype or config.dtype)
    click.echo(f"{folder} is written; {NOTICE} Try: python {shlex.quote(str(folder / 'example.py'))} TEXT CRITERION_ID")


@main.command(context_settings={"ignore_unknown_options": True, "help_option_names": []})
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def run(arguments: tuple[str, ...]) -> None:
    """Run pipelines with the options of `kedro run`; works for a package installed from a wheel, too."""
    from kedro.framework.cli.utils import find_run_command

    _enter_project()
    find_run_command("mentallam")(list(arguments), prog_name="mentallam run", standalone_mode=False)


@contextmanager
def _parameters(env: str | None) -> Iterator[dict[str, Any]]:
    """Yield Kedro's parameters in a session of the project, with MLflow set up to find its runs."""
    from kedro.framework.session import KedroSession

    from mentallam.tracking_hooks import connect

    project = _enter_project()
    with KedroSession.create(project, env=env) as session:
        context = cast("KedroSession", session).load_context()
        connect(context)
        yield context.params


def _enter_project() -> Path:
    """Make Kedro's project ready, and return its folder: for an installed package, the one with its configuration."""
    from kedro.framework.project import configure_project
    from kedro.framework.startup import bootstrap_project
    from kedro.utils import find_kedro_project

    here = Path.cwd()
    if project := find_kedro_project(here):
        bootstrap_project(project)
        return Path(project)
    if not all((here / name).is_dir() for name in ("conf/base", "hydra_configs")):
        raise MentallamError(
            "there is no mentallam project here: run `mentallam` in its folder or in one below it, or, without a "
            "checkout, in a folder with its conf and hydra_configs"
        )
    configure_project("mentallam")
    return here


def _answer(
    text: str, criteria: tuple[str, ...], checkpoint_run: str | None, parameters: dict[str, Any]
) -> tuple[pd.DataFrame, dict[str, str]]:
    # torch takes seconds to import, and a wrong option should be refused without that wait.
    from mentallam.registry import RegistryOptions, find_checkpoints
    from mentallam.serving.predictor import Predictor

    # Kedro has built the model that the pipelines' nodes declare, or left the dict.
    registry = RegistryOptions.model_validate(parameters["registry"])
    checkpoints = find_checkpoints(parameters["tracking_experiment"], checkpoint_run, registry.model)
    config = compose_inference(Path(parameters["hydra_configs"]), parameters["profile"])
    predictor = Predictor.load(checkpoints, Path(parameters["base_models"]), config)
    asked: list[str | None] = [*dict.fromkeys(criteria)] or [None]
    posts = pd.DataFrame({"post_id": "text", "text": text, "criterion_id": asked}, dtype=object)
    return predictor.predict(posts), predictor.criteria


def _find_checkpoint(model: str, parameters: dict[str, Any]) -> Path:
    from mentallam.registry import RegistryOptions, find_checkpoints

    if Path(model).is_dir():
        return Path(model)
    registry = RegistryOptions.model_validate(parameters["registry"])
    checkpoints = find_checkpoints(parameters["tracking_experiment"], model, registry.model)
    if len(checkpoints) > 1:
        raise MentallamError(f"{model} is {len(checkpoints)} folds that answer together; export one by its fold's run")
    return checkpoints[0]


def _print_table(predictions: pd.DataFrame, wording: dict[str, str]) -> None:
    from mentallam.serving.output_fields import ANSWERS, OUTPUT_FIELDS  # imports scikit-learn, which takes a second

    table = Table(caption=f"{NOTICE} Model: run {predictions['run_id'].iloc[0]}")
    fields = [field for field in OUTPUT_FIELDS if field.heading]
    for field in fields:
        table.add_column(field.heading, justify="right" if field.type == "double" else "left")
        if field.name == "criterion_id":
            table.add_column("")  # the criterion's wording
    for prediction in predictions.to_dict("records"):
        cells = []
        for field in fields:
            cells.append(field.format.format(prediction[field.name]))
            if field.name == "criterion_id":
                cells.append(wording[prediction[field.name]])
        table.add_row(*cells, style="bold" if prediction["label"] == ANSWERS[1] else None)
    Console().print(table)
