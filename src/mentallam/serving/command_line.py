"""The command `mentallam`: it takes free text, which Kedro's `--params` can't carry."""

import json
import logging
import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from mentallam import __version__
from mentallam.config_loading import DATA_FOLDER, load_parameters
from mentallam.console import capture_warnings
from mentallam.corpus.identifiers import is_identifier
from mentallam.corpus.texts import clean_text
from mentallam.errors import MentallamError
from mentallam.limits import read_json
from mentallam.model_folders import FACTS, parts_in, split_parts
from mentallam.project import current_project, find_project
from mentallam.serving.notices import SCREENING, notice
from mentallam.serving.project_models import connected, enter_project, find_model
from mentallam.tracking_address import runs_page

if TYPE_CHECKING:
    from mentallam.serving.doctor import Finding
    from mentallam.serving.output_fields import Answers
    from mentallam.serving.predictor import Predictor
    from mentallam.serving.recorded_settings import AnswerSettings


_ENVIRONMENT = click.option(
    "--env",
    metavar="ENVIRONMENT",
    help="Kedro environment: mentallam, pairs, test, twin or written; default: local, with the embedded model.",
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
            hint = 'a text that starts with a dash goes behind `--`, as in mentallam predict -- "-text".'
            sentence = f"No such option {error.option_name}; {hint}"
            raise click.NoSuchOption(error.option_name, sentence, error.possibilities, ctx) from None


@click.version_option(__version__, prog_name="mentallam", message="%(prog)s %(version)s")
@click.group(help=f"Decide whether a post matches a criterion, such as one of DSM-5 depression. {SCREENING}")
def main() -> None:
    """Run a command of `mentallam`."""
    capture_warnings()


@main.command(cls=_TextCommand, short_help="Compare a text with each criterion.")
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
    parts, settings = _choose_model(model, env)
    _refuse_unknown([criterion for criterion in criteria if is_identifier(criterion)], parts)
    shown = notice(settings.notice)
    predictor, answers = _answer(text, criteria, explain, parts, settings)
    if as_json:
        fields = [name for name in answers if name not in ("post_id", "run_id")]
        rows = zip(*(answers[name] for name in fields), strict=True)
        content = [dict(zip(fields, row, strict=True)) for row in rows]
        click.echo(json.dumps({"notice": shown, "model": predictor.facts, "answers": content}, indent=2))
    else:
        _print_table(answers, predictor, shown)
        if explain:
            _print_evidence(answers, text)


@main.command(short_help="Write a model that transformers loads by itself.")
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
    parts, settings = _choose_model(model, env)
    from mentallam.serving.export import export_parts

    export_parts(parts, folder, settings.base_models, dtype or settings.inference.dtype)
    click.echo(
        f"{folder} is written. {SCREENING} Try: python {shlex.quote(str(folder / 'example.py'))} TEXT CRITERION_ID"
    )


@main.command(short_help="Say what a run needs here, and what is missing.")
@_ENVIRONMENT
def doctor(env: str | None) -> None:
    """Say what this machine and project have for a run, what is missing, and what mends it.

    The exit code is 1 if a run can't work, as outside a project. Nothing is written or downloaded.
    """
    logging.disable(logging.WARNING)
    from mentallam.serving.doctor import examine_machine

    states = [_show_finding(finding) for finding in examine_machine()]
    parameters = load_parameters(current_project(), env)
    from mentallam.config import compose_config
    from mentallam.serving.doctor import examine_project

    config = compose_config(Path(parameters["hydra_configs"]), parameters["profile"], parameters["overrides"])
    states += [_show_finding(finding) for finding in examine_project(parameters, config.model)]
    if "fault" in states:
        sys.exit(1)


def _show_finding(finding: "Finding") -> str:
    click.echo(f"{finding.state:6} {finding.what:9} {finding.found}")
    if finding.way_out:
        click.echo(f"{'':17}-> {finding.way_out}")
    return finding.state


@main.command(short_help="Open the latest report.")
@_ENVIRONMENT
def report(env: str | None) -> None:
    """Open the latest report in a browser, and print its path."""
    parameters = load_parameters(current_project(), env)
    page = Path(parameters[DATA_FOLDER]) / "08_reporting" / "report.html"
    if not page.exists():
        option = f" --env {env}" if env else ""
        raise MentallamError(f"there is no report in {page.parent} yet: run `kedro run{option}` first")
    click.echo(page)
    if sys.platform in ("darwin", "win32") or os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"):
        click.launch(page.as_uri())


@main.command(short_help="List the latest cross-validations.")
@click.option("-n", "most", type=click.IntRange(min=1), default=10, show_default=True, help="So many runs at most.")
@click.option("--study", metavar="NAME", help="Those of a study alone, which `mentallam seeds` names at its end.")
@_ENVIRONMENT
def runs(most: int, study: str | None, env: str | None) -> None:
    """List the latest cross-validations with their F1 beside that of counting words."""
    logging.disable(logging.WARNING)
    parameters = load_parameters(current_project(), env)
    with connected(env):
        from mentallam.run_list import latest_cv_runs

        found = latest_cv_runs(parameters["tracking_experiment"], most, study)
    if not found:
        of = f" of the study {study}" if study else ""
        click.echo(f"There is no cross-validation{of} yet: run `kedro run` first.")
        return
    row = "{:16}  {:32}  {:9}  {:>6}  {:>6}  {:>7}  {}"
    click.echo(row.format("began", "run", "status", "F1", "TF-IDF", "minutes", "model and corpus"))
    for each in found:
        f1, tfidf = ("" if value is None else f"{value:.3f}" for value in (each.f1, each.tfidf_f1))
        minutes = "" if each.seconds is None else f"{each.seconds / 60:.1f}"
        click.echo(row.format(each.began, each.run_id, each.status, f1, tfidf, minutes, each.name))
    click.echo("F1: pooled over all held-out pairs. TF-IDF: its mean over the folds.")
    page = runs_page(found[0].experiment_id)
    click.echo(f"In a browser: {page} (after `kedro mlflow ui{f' --env {env}' if env else ''}`, without a server)")


@main.command("init-data", short_help="Write example files for your own posts.")
@click.argument("folder", metavar="FOLDER", type=click.Path(file_okay=False, path_type=Path))
def init_data(folder: Path) -> None:
    """Write three example files for your own posts, criteria and labels to FOLDER, or check those that are there.

    Put your rows in the place of the examples, and run the same command again. Files are never replaced.
    """
    from mentallam.config_loading import cv_folds
    from mentallam.corpus.starter import describe, write_example
    from mentallam.evaluation.few_positives import FEW

    if write_example(folder):
        click.echo(f"{folder} has posts.csv, criteria.csv and groundtruth.csv now, with invented examples.")
        click.echo("Put your rows in their place, and run the same command again.")
    for line in describe(folder, cv_folds(), FEW):
        click.echo(line)
    click.echo(f"To train on them: kedro run --env pairs --params {shlex.quote(f'corpus_dir={folder.resolve()}')}")


@main.command(short_help="Run a cross-validation per seed.")
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
@click.option(
    "--grid",
    multiple=True,
    metavar="OVERRIDES",
    help="Hydra overrides of a configuration: each gets a run per seed and a report, and a table compares them with "
    "the first; repeatable.",
)
@_ENVIRONMENT
def seeds(
    seeds: tuple[int, ...],
    vary: str,
    overrides: str,
    params: str,
    folder: Path | None,
    grid: tuple[str, ...],
    env: str | None,
) -> None:
    """Run one cross-validation per SEED, and report them together; with --grid, of each configuration.

    Each is an ordinary run in its own data folder: the same command again goes on where it was interrupted. The report
    is that of the first seed, with the spread between seeds and the differences to the baselines over all seeds. With
    cluster.backend=process, ray or slurm the folds of all runs are trained from one queue.
    """
    from mentallam.repeated_runs import Vary, plan_runs, reports, run_all, train_folds, write_grid

    project = current_project()
    data = (project / "data" if folder is None else folder).resolve()
    others = [params] if params else []
    runs = plan_runs(seeds, cast(Vary, vary), data, overrides, others, grid)
    python = [sys.executable, "-m"]
    if code := train_folds([*python, "mentallam.fold_queue"], runs, env, project):
        sys.exit(code)
    if code := run_all([*python, "mentallam"], runs, env, project):
        sys.exit(code)
    if grid and (code := write_grid([*python, "mentallam.grid_table"], runs, data / "grid", project)):
        sys.exit(code)
    for configuration, report in reports(runs).items():
        of = f" of {configuration}" if configuration else ""
        click.echo(f"The report{of} over {len(seeds)} seeds: {report}")
    click.echo(f"The runs: mentallam runs --study {runs[0].study}{f' --env {env}' if env else ''}")


@main.command(
    context_settings={"ignore_unknown_options": True, "help_option_names": []},
    short_help="Run pipelines, as `kedro run` does.",
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def run(arguments: tuple[str, ...]) -> None:
    """Run pipelines with the options of `kedro run`; works for a package installed from a wheel, too."""
    enter_project()
    from kedro.framework.cli.utils import find_run_command

    find_run_command("mentallam")(list(arguments), prog_name="mentallam run", standalone_mode=False)


def _choose_model(model: str | None, env: str | None) -> "tuple[list[Path], AnswerSettings]":
    """Return the parts of a model, and how it answers: as the project says or, outside one, as its folder records."""
    from mentallam.config import compose_inference
    from mentallam.serving.recorded_settings import AnswerSettings, recorded_settings

    project = find_project(Path.cwd())
    parts = parts_in(Path(model)) if model else []
    if project is None and parts and not env:
        return parts, recorded_settings(parts)
    if project is None:
        raise MentallamError(
            "there is no mentallam project here: run `mentallam` in its folder or in one below it, or, without --env, "
            "name the folder of a checkpoint or of an exported model"
        )
    parameters = load_parameters(project, env)
    found = find_model(model or parameters["model"], parameters, env)
    config = compose_inference(Path(parameters["hydra_configs"]), parameters["profile"])
    return found, AnswerSettings(Path(parameters["base_models"]), config, parameters["notice"])


def _answer(
    text: str, criteria: tuple[str, ...], explain: bool, parts: list[Path], settings: "AnswerSettings"
) -> "tuple[Predictor, Answers]":
    # torch takes seconds to import, and a wrong option should be refused without that wait.
    from mentallam.serving.merged_models import count_unmerged
    from mentallam.serving.posts import Post
    from mentallam.serving.predictor import Predictor

    # A word alone is an id, so a misspelt one is refused; the model may know a wording.
    wordings = [criterion for criterion in dict.fromkeys(criteria) if not is_identifier(criterion)]
    own = {f"own_{number}": wording for number, wording in enumerate(wordings, 1)}
    config, base_models = settings.inference, settings.base_models
    waiting = Console(stderr=True)
    keeps = config.merge_adapter and config.keep_merged
    if keeps and (count := count_unmerged(parts, base_models, config.dtype)):
        waiting.print(f"the first use of this model: merging {count} adapters, kept for later calls", highlight=False)
    with waiting.status("loading the model"):  # on a terminal only
        predictor = Predictor.load(parts, base_models, config, own)
    with waiting.status("reading the text"):
        return predictor, predictor.predict([Post("text", text, tuple(criteria) or None)], explain)


def _refuse_unknown(criterion_ids: Sequence[str], checkpoints: Sequence[Path]) -> None:
    """Refuse an unknown criterion before the model is loaded, which takes seconds."""
    from mentallam.serving.posts import unknown_criterion

    try:
        known = dict(read_json(split_parts(checkpoints)[1][0] / FACTS)["criteria"])
    except (OSError, ValueError, KeyError, TypeError, IndexError):
        return  # an incomplete checkpoint is refused when it is loaded
    for criterion_id in criterion_ids:
        if criterion_id not in {*known, *known.values()}:
            raise MentallamError(unknown_criterion(criterion_id, known).reason)


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
    for caution, criteria in _cautions(answers).items():
        about = "" if criteria == answers["criterion_id"] else f" ({', '.join(criteria)})"
        click.echo(f"Caution: {caution}{about}")


def _cautions(answers: "Answers") -> dict[str, list[str]]:
    """Return the criteria whose answers each caution weakens."""
    found: dict[str, list[str]] = {}
    for criterion_id, cautions in zip(answers["criterion_id"], answers["caution"], strict=True):
        for caution in filter(None, cautions.split("; ")):
            found.setdefault(caution, []).append(criterion_id)
    return found


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
