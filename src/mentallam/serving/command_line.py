"""The command `mentallam`: it takes free text, which Kedro's `--params` can't carry."""

import json
import logging
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from mentallam.config import compose_inference
from mentallam.config_loading import TRACKING_URI, load_parameters
from mentallam.corpus.cleaning import clean_text
from mentallam.corpus.refusals import is_identifier
from mentallam.errors import MentallamError
from mentallam.model_folders import parts_in
from mentallam.serving.notices import SCREENING, notice

if TYPE_CHECKING:
    from mentallam.serving.output_fields import Answers
    from mentallam.serving.predictor import Predictor


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


@click.group(help=f"Decide whether a post matches a criterion, such as one of DSM-5 depression. {SCREENING}")
def main() -> None:
    """Run a command of `mentallam`."""


@main.command(cls=_TextCommand)
@click.argument("text")
@click.option(
    "--criterion",
    "criteria",
    multiple=True,
    metavar="ID|TEXT",
    help="Compare with this criterion only, such as A.4, or with a wording of several words that the model need not "
    "have been trained on, whose answer is little better than chance; repeatable.",
)
@click.option(
    "--explain", is_flag=True, help="Name the sentences that carry each yes; reads the text once more per sentence."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object in place of a table.")
@click.option(
    "--model",
    metavar="MODEL",
    help="champion; ensemble (all folds), best_fold or refit of the latest cross-validation; latest (the one of these "
    "that registry.use names); an MLflow run's id, or the folder of a checkpoint or an exported model; default: "
    "champion.",
)
@_ENVIRONMENT
def predict(
    text: str, criteria: tuple[str, ...], explain: bool, as_json: bool, model: str | None, env: str | None
) -> None:
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
    parameters = load_parameters(_find_project(), env)
    predictor, answers = _answer(text, criteria, explain, model or parameters["model"], parameters, env)
    shown = notice(parameters["notice"])
    if as_json:
        fields = [name for name in answers if name not in ("post_id", "run_id")]
        rows = zip(*(answers[name] for name in fields), strict=True)
        content = [dict(zip(fields, row, strict=True)) for row in rows]
        click.echo(json.dumps({"notice": shown, "model": predictor.facts, "answers": content}, indent=2))
    else:
        _print_table(answers, predictor, shown)
        if explain:
            _print_evidence(answers, text)


@main.command()
@click.argument("model", metavar="MODEL")
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

    MODEL is champion; ensemble, best_fold or refit of the latest cross-validation; latest; the id of an MLflow run; or
    a checkpoint's folder. The adapter is merged into the base model. Folds that answer together become a folder each.
    """
    logging.disable(logging.INFO)
    parameters = load_parameters(_find_project(), env)
    from mentallam.serving.export import export_parts

    parts = _find_checkpoints(model, parameters, env)
    config = compose_inference(Path(parameters["hydra_configs"]), parameters["profile"])
    export_parts(parts, folder, Path(parameters["base_models"]), dtype or config.dtype)
    click.echo(
        f"{folder} is written. {SCREENING} Try: python {shlex.quote(str(folder / 'example.py'))} TEXT CRITERION_ID"
    )


@main.command()
@click.argument("seeds", nargs=-1, type=int, required=True, metavar="SEED SEED...")
@click.option(
    "--vary",
    type=click.Choice(["folds", "training", "both"]),
    default="both",
    show_default=True,
    help="Which seed is varied: folds.seed, training.seed, or both.",
)
@click.option("--overrides", default="", metavar="OVERRIDES", help="Hydra overrides of every run.")
@click.option(
    "--params", default="", metavar="PARAMS", help="Other parameters of every run, as `kedro run` takes them."
)
@click.option(
    "--to",
    "folder",
    metavar="FOLDER",
    type=click.Path(path_type=Path),
    help="The folder that gets a folder seed_<n> per seed; default: data.",
)
@_ENVIRONMENT
def seeds(seeds: tuple[int, ...], vary: str, overrides: str, params: str, folder: Path | None, env: str | None) -> None:
    """Run one cross-validation per SEED, one after the other, and report them together.

    Each is an ordinary run in its own data folder: the same command again goes on where it was interrupted. The report
    is that of the first seed, with the spread between seeds and the differences to the baselines over all seeds.
    """
    from mentallam.repeated_runs import Vary, run_all, seed_commands

    project = _find_project()
    data = (project / "data" if folder is None else folder).resolve()
    others = [params] if params else []
    commands = seed_commands(seeds, cast(Vary, vary), data, env, overrides, others)
    program = [sys.executable, "-m", "mentallam"]
    if code := run_all(program, commands, project):
        sys.exit(code)
    click.echo(f"The report over {len(seeds)} seeds: {data / f'seed_{seeds[0]}' / '08_reporting' / 'report.html'}")


@main.command(context_settings={"ignore_unknown_options": True, "help_option_names": []})
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def run(arguments: tuple[str, ...]) -> None:
    """Run pipelines with the options of `kedro run`; works for a package installed from a wheel, too."""
    from kedro.framework.cli.utils import find_run_command

    _enter_project()
    find_run_command("mentallam")(list(arguments), prog_name="mentallam run", standalone_mode=False)


def _find_project() -> Path:
    """Return the project's folder: for an installed package, the one with its configuration."""
    from kedro.utils import find_kedro_project

    here = Path.cwd()
    if project := find_kedro_project(here):
        return Path(project)
    if not all((here / name).is_dir() for name in ("conf/base", "hydra_configs")):
        raise MentallamError(
            "there is no mentallam project here: run `mentallam` in its folder or in one below it, or, without a "
            "checkout, in a folder with its conf and hydra_configs"
        )
    return here


def _enter_project() -> Path:
    """Make Kedro's project ready for a session, and return its folder."""
    from kedro.framework.project import configure_project
    from kedro.framework.startup import bootstrap_project
    from kedro.utils import find_kedro_project

    project = _find_project()
    if find_kedro_project(project):
        bootstrap_project(project)
    else:
        configure_project("mentallam")
    return project


@contextmanager
def _connected(env: str | None) -> Iterator[None]:
    """Set MLflow up to find the project's runs, in a session: it takes seconds."""
    from kedro.framework.session import KedroSession

    from mentallam.tracking_hooks import connect

    project = _enter_project()
    with KedroSession.create(project, env=env) as session:
        connect(cast("KedroSession", session).load_context())
        yield


def _find_checkpoints(model: str, parameters: dict[str, Any], env: str | None) -> list[Path]:
    """Return the checkpoints of a model; without MLflow, whose import takes seconds, if their place is known."""
    from mentallam.serving.known_champions import find_known_champion, note_champion

    if parts := parts_in(Path(model)):
        return parts
    note, store, name = Path(parameters["base_models"]), parameters[TRACKING_URI], parameters["registry"]["model"]
    if model == "champion" and (known := find_known_champion(note, store, name)):
        return known
    with _connected(env):
        from mentallam.registry import RegistryOptions, find_checkpoints

        options = RegistryOptions.model_validate(parameters["registry"])
        found = find_checkpoints(parameters["tracking_experiment"], model, options)
        if model == "champion":
            note_champion(note, store, name, found)
        return found


def _answer(
    text: str, criteria: tuple[str, ...], explain: bool, model: str, parameters: dict[str, Any], env: str | None
) -> "tuple[Predictor, Answers]":
    checkpoints = _find_checkpoints(model, parameters, env)
    # torch takes seconds to import, and a wrong option should be refused without that wait.
    from mentallam.serving.posts import Post
    from mentallam.serving.predictor import Predictor

    config = compose_inference(Path(parameters["hydra_configs"]), parameters["profile"])
    # A word alone is an id, so a misspelt one is refused; the model may know a wording.
    wordings = [criterion for criterion in dict.fromkeys(criteria) if not is_identifier(criterion)]
    own = {f"own_{number}": wording for number, wording in enumerate(wordings, 1)}
    predictor = Predictor.load(checkpoints, Path(parameters["base_models"]), config, own)
    return predictor, predictor.predict([Post("text", text, tuple(criteria) or None)], explain)


def _print_table(answers: "Answers", predictor: "Predictor", shown: str) -> None:
    from mentallam.serving.output_fields import ANSWERS, OUTPUT_FIELDS, UNTRAINED

    table = Table(caption=f"{shown} Model: run {predictor.run_id}")
    fields = [field for field in OUTPUT_FIELDS if field.heading]
    for field in fields:
        table.add_column(field.heading, justify="right" if field.type == "double" else "left")
        if field.name == "criterion_id":
            table.add_column("")  # the criterion's wording
    for position, criterion_id in enumerate(answers["criterion_id"]):
        cells = []
        for field in fields:
            cells.append(field.format.format(answers[field.name][position]))
            if field.name == "criterion_id":
                mark = f" ({UNTRAINED})" if answers["wording"][position] == UNTRAINED else ""
                cells.append(predictor.wording_of(criterion_id) + mark)
        table.add_row(*cells, style="bold" if answers["label"][position] == ANSWERS[1] else None)
    Console().print(table)


def _print_evidence(answers: "Answers", text: str) -> None:
    """Print the sentences that carry each yes; cleaned, since a text may hold codes that a terminal obeys."""
    table = Table(caption="drop: how far the probability falls when the model reads the text without the sentence")
    for heading, justify in (("criterion", "left"), ("drop", "right"), ("sentence", "left")):
        table.add_column(heading, justify=cast("Any", justify))
    for criterion_id, evidence in zip(answers["criterion_id"], answers["evidence"], strict=True):
        for found in evidence:
            sentence = clean_text(text[found["start"] : found["end"]])[0]
            table.add_row(criterion_id, f"{found['drop']:.3f}", Text(sentence))
    if table.row_count:
        Console().print(table)
    else:
        click.echo("No single sentence carries a yes.")
