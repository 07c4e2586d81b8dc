"""The commands that the documentation tells readers to type, and checks that take no run: names, options, parameters.

A fenced block without a language holds commands and nothing else. A block in `console` holds them behind `$ `, with
what they print. Any other language is not looked at, but for Python. The comment `<!-- not checked: why -->` before a
block exempts it.
"""

import ast
import re
import shlex
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from importlib.metadata import entry_points
from itertools import pairwise
from pathlib import Path
from typing import Any

import click
import yaml
from kedro.config import OmegaConfigLoader
from kedro.framework.cli.jupyter import jupyter_cli
from kedro.framework.project import configure_project, pipelines
from kedro.pipeline import Pipeline
from kedro.utils import load_obj
from omegaconf import OmegaConf

from mentallam import cli, run_checks
from mentallam.cluster_options import PARAMETERS
from mentallam.config import compose_config, compose_inference
from mentallam.config_loading import CONFIG_LOADER_ARGS
from mentallam.configuration_files import environment_folders, interpolated_names
from mentallam.serving.command_line import main
from tests.samples import PROJECT

CONF = PROJECT / "conf"
PAGES = sorted({*PROJECT.glob("*.md"), *PROJECT.glob("docs/**/*.md")} - {PROJECT / "CHANGELOG.md"})
EXEMPT = re.compile(r"<!-- not checked: (.{10,}) -->$")
# What these do does not depend on this project.
SHELL = {"apt-get", "cat", "cp", "curl", "export", "head", "hf", "mkdir", "printf", "ulimit", "wait", "zcat", "."}
# Files that a reader copies from an example, whose name ends in .example.
COPIED = {"scripts/compose.env"}
# Variables that make passes on to what it starts.
ENVIRONMENT = {"PIP_EXTRA_INDEX_URL", "UV_TORCH_BACKEND", "OMP_NUM_THREADS"}
# Options of `kedro run` that choose a part of a pipeline.
SELECTION = ("node_names", "from_nodes", "to_nodes", "from_inputs", "to_outputs", "namespaces")
# Their results are those of a study, so they take its parameters, too, and compare them (saved_inputs.py).
OF_A_STUDY = ("reporting", "cv_training", "refit")


class WrongCommandError(Exception):
    """A command of the documentation that would not do what the page says."""


@dataclass(frozen=True)
class Command:
    """A command of a page.

    Attributes:
        place: File and line.
        words: The command's words, without variables, comments and redirections.
        variables: The variables that are set for it.
    """

    place: str
    words: tuple[str, ...]
    variables: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.place} {shlex.join(self.words)}"


@dataclass(frozen=True)
class Block:
    """A fenced block: its place, its language, its lines, and why it is not checked, if it is not."""

    place: str
    language: str
    text: str
    exempt: str


def blocks(page: Path) -> Iterator[Block]:
    """Yield the fenced blocks of a page."""
    text = page.read_text(encoding="utf-8")
    for found in re.finditer(r"^( *)```(\w*)\n(.*?)^ *```$", text, re.MULTILINE | re.DOTALL):
        before = text[: found.start()]
        exempt = EXEMPT.search(before.rstrip().rpartition("\n")[2])
        place = f"{page.relative_to(PROJECT)}:{before.count(chr(10)) + 1}"
        yield Block(place, found[2], found[3], exempt[1] if exempt else "")


def inline(page: Path) -> Iterator[Command]:
    """Yield the commands of this project between backticks; one with an ellipsis or a choice is a form and left out."""
    text = re.sub(r"^( *)```.*?^ *```$", _blank, page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    for found in re.finditer(
        r"`((?:[A-Z_]+=\S+ )*(?:kedro|mentallam|make|python|pytest) [^`]+)`", text.replace("\n", " ")
    ):
        if not re.search(r"\.\.\.|<|\||\[-|\[OPTIONS|name=value|--params$|--help", found[1]):
            line = text[: found.start()].count("\n") + 1
            yield from commands(found[1], f"{page.relative_to(PROJECT)}:{line}")


def _blank(block: re.Match[str]) -> str:
    return re.sub(r"[^\n]", " ", block[0])


def commands_of(block: Block) -> Iterator[Command]:
    """Yield the commands of a block."""
    text = block.text
    if block.language == "console":
        text = "\n".join(line[2:] for line in text.splitlines() if line.startswith("$ "))
    text = re.sub(r"<<'EOF'$.*?^EOF$", "", text, flags=re.MULTILINE | re.DOTALL)
    yield from commands(text.replace("\\\n", " "), block.place)


def commands(text: str, place: str) -> Iterator[Command]:
    """Yield the commands of some lines of a shell script."""
    for line in _logical_lines(text):
        line = re.sub(r"\w+=\$\((.+)\)", r"\1", line)
        lexer = shlex.shlex(line, posix=True, punctuation_chars="&|;<>")
        lexer.whitespace_split = True
        words: list[str] = []
        for word in [*lexer, ";"]:
            if set(word) <= set("&|;"):
                if words:
                    variables, rest = _without_variables(words)
                    yield Command(place, rest, variables)
                words = []
            elif words and set(words[-1]) <= set("<>"):  # the file of a redirection
                words.pop()
            else:
                words.append(word)


def _logical_lines(text: str) -> Iterator[str]:
    """Yield lines, those within one pair of quotes as one."""
    line = ""
    for part in text.splitlines():
        line = f"{line}\n{part}" if line else part
        with suppress(ValueError):  # a quote is not closed yet
            shlex.split(line, comments=True)
            if line.strip():
                yield line
            line = ""
    assert not line, line


def _without_variables(words: list[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    names = []
    while words and (found := re.match(r"([A-Z_]+)=", words[0])):
        names.append(found[1])
        words = words[1:]
    return tuple(names), tuple(words)


def check(command: Command, whole: bool = True) -> None:
    """Refuse a command that does not exist, or that has an option, a parameter or a name that does not exist.

    Args:
        command: What a page tells its readers to type.
        whole: Whether the command must have every argument that it needs; a sentence may just name it.

    Raises:
        WrongCommandError: The message names the place and what is wrong.
    """
    if not command.words:  # `NAME=value` alone
        return
    program, *arguments = command.words
    program = Path(program).name if program.startswith(".venv/bin/") else program
    try:
        if command.variables:
            run_checks.check_variables(command.variables, [CONF / "base"])
        if program in SHELL:
            return
        if program not in CHECKS:
            raise WrongCommandError(f"{program} is no program that tests/commands.py can check")
        CHECKS[program](tuple(arguments))
    except click.exceptions.Exit:  # --version
        return
    except (click.ClickException, WrongCommandError) as error:
        if isinstance(error, click.MissingParameter) and not whole:
            return
        reason = error.format_message() if isinstance(error, click.ClickException) else str(error)
        raise WrongCommandError(f"{command}: {reason}") from None


def _kedro(arguments: tuple[str, ...]) -> None:
    if arguments[0] == "run":
        _run(arguments[1:])
        return
    if arguments[:2] == ("airflow", "create"):  # of kedro-airflow, which is not installed here
        _named_files(arguments, "--jinja-file")
        if "--env" in arguments:
            _run(("--env", arguments[arguments.index("--env") + 1]))
        return
    groups = [jupyter_cli, *(point.load() for point in entry_points(group="kedro.project_commands"))]
    groups += [point.load() for point in entry_points(group="kedro.global_commands")]
    _parse(click.CommandCollection("kedro", sources=groups), arguments)


def _mentallam(arguments: tuple[str, ...]) -> None:
    if arguments[0] == "run":
        _run(arguments[1:])
        return
    given = _parse(main, arguments)
    if arguments[0] == "seeds":
        _run(tuple(f"--{option}={given[option]}" for option in ("params", "env") if given[option]))
        compose_config(PROJECT / "hydra_configs", "smollm2", given["overrides"])


@cache
def _run(arguments: tuple[str, ...]) -> None:
    """Check what `kedro run` would check before it reads any data (hooks.py)."""
    given = cli.run.make_context("run", list(arguments)).params
    selected = any(given[option] for option in SELECTION)
    run_checks.check_selection({name: given[name] for name in given if selected or name not in SELECTION}, _pipelines())
    if given["runner"]:
        try:
            load_obj(given["runner"], "kedro.runner")
        except (AttributeError, ImportError):
            raise WrongCommandError(f"--runner {given['runner']}: there is no such runner") from None
    types, interpolated = _types(), _interpolated(given["env"])
    run_checks.check_names(given["params"], types, interpolated, CONF)
    parameters: Any = OmegaConf.to_container(OmegaConf.merge(_parameters(given["env"]), given["params"]))
    here = {name: types[name] for name in types if name.partition(".")[0] in given["params"]}
    run_checks.check_values(parameters, here)
    names = [given["pipeline"] or "", *(given["pipelines"] or ())]
    compared = {name for name in types if set(names) & {*OF_A_STUDY}} | (set(types) if not any(names) else set())
    if given["params"]:
        run_checks.check_read(given["params"], _chosen(given), _pipelines(), interpolated | compared)
    only_inference = any(names) and {*names} <= {"inference", "latency", ""}
    _compose(parameters["profile"], parameters["overrides"] or "", only_inference)


def _chosen(given: Mapping[str, Any]) -> Pipeline:
    names = [name for name in (given["pipeline"], *(given["pipelines"] or ())) if name] or ["__default__"]
    whole = _pipelines()[names[0]] if len(names) == 1 else sum((_pipelines()[name] for name in names), Pipeline([]))
    if not any(given[option] for option in SELECTION):
        return whole
    return whole.filter(
        from_nodes=given["from_nodes"],
        to_nodes=given["to_nodes"],
        node_names=given["node_names"],
        from_inputs=given["from_inputs"],
        to_outputs=given["to_outputs"],
        node_namespaces=given["namespaces"],
    )


@cache
def _compose(profile: str, overrides: str, only_inference: bool) -> None:
    (compose_inference if only_inference else compose_config)(PROJECT / "hydra_configs", profile, overrides)


@cache
def _interpolated(environment: str | None) -> frozenset[str]:
    folders = environment_folders(CONF, "base", environment or "base", named=bool(environment))
    return frozenset(interpolated_names(folders))


@cache
def _parameters(environment: str | None) -> dict[str, Any]:
    """Return the parameters of an environment; Kedro merges those of the command line into them."""
    parameters: dict[str, Any] = OmegaConfigLoader(str(CONF), environment or "base", **CONFIG_LOADER_ARGS)["parameters"]
    return parameters


@cache
def _pipelines() -> dict[str, Pipeline]:
    configure_project("mentallam")
    return dict(pipelines)


@cache
def _types() -> dict[str, Any]:
    return run_checks.parameter_types(_pipelines()) | PARAMETERS


def _parse(command: click.Command, arguments: tuple[str, ...]) -> dict[str, Any]:
    """Return the parameters that click reads, of the innermost command."""
    context = command.make_context(command.name or "", list(arguments))
    while isinstance(context.command, click.Group):
        rest = [*context._protected_args, *context.args]
        if not rest:
            break
        name, found, rest = context.command.resolve_command(context, rest)
        assert found is not None
        context = found.make_context(name, rest, parent=context)
    return context.params


def _mlflow(arguments: tuple[str, ...]) -> None:
    from mlflow.cli import cli as mlflow_cli

    _parse(mlflow_cli, arguments)


def _make(arguments: tuple[str, ...]) -> None:
    makefile = (PROJECT / "Makefile").read_text(encoding="utf-8")
    given = dict(word.split("=", 1) for word in arguments if "=" in word)
    for name in given:
        if name not in ENVIRONMENT and not re.search(
            rf"\$\(?(if )?\$?\(?{name}\b|^{name} *\?=", makefile, re.MULTILINE
        ):
            raise WrongCommandError(f"the Makefile has no variable {name}")
    for target in (word for word in arguments if "=" not in word):
        recipe = re.search(rf"^{re.escape(target)}:.*\n((?:\t.*\n)*)", makefile, re.MULTILINE)
        if not recipe:
            raise WrongCommandError(f"the Makefile has no target {target}")
        for line in re.findall(r"\$\(BIN\)/(python .+) \$\(OPTIONS\)$", recipe[1], re.MULTILINE):
            _python((*shlex.split(line)[1:], *shlex.split(given.get("OPTIONS", ""))))


def _python(arguments: tuple[str, ...]) -> None:
    first, *rest = arguments
    if first == "-c":
        ast.parse(rest[0])
        return
    if first == "-m":
        name, *rest = rest
        if name == "pytest":
            _pytest(tuple(rest))
            return
        first = ("src/" if name.startswith("mentallam.") else "") + name.replace(".", "/") + ".py"
    if not (PROJECT / first).is_file():
        raise WrongCommandError(f"there is no file {first}")
    known = _options_of(PROJECT / first)
    for option in (word.partition("=")[0] for word in rest if word.startswith("-")):
        if option not in known:
            raise WrongCommandError(
                f"{first} has no option {option}; its options: {', '.join(sorted(known)) or 'none'}"
            )


def _options_of(file: Path) -> set[str]:
    """Return the options that a program gives to argparse, read from its source: an import may take seconds."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    adding = [call for call in calls if isinstance(call.func, ast.Attribute) and call.func.attr == "add_argument"]
    found = {"--help"} if adding else set()
    for name in (name for call in adding for name in call.args):
        if isinstance(name, ast.Constant):
            found.add(str(name.value))
        elif isinstance(name, ast.JoinedStr):  # f"--{part}" in a loop over words
            loop = next(node for node in ast.walk(tree) if isinstance(node, ast.For) and name in ast.walk(node))
            words = ast.literal_eval(loop.iter)
            found |= {f"--{word if isinstance(word, str) else word[0]}" for word in words}
    return found


def _pytest(arguments: tuple[str, ...]) -> None:
    for path, _, name in (word.partition("::") for word in arguments if "/" in word):
        if not (PROJECT / path).exists():
            raise WrongCommandError(f"there is no file {path}")
        if name and f"def {name.partition('[')[0]}(" not in (PROJECT / path).read_text(encoding="utf-8"):
            raise WrongCommandError(f"{path} has no test {name}")


def _pip(arguments: tuple[str, ...]) -> None:
    text = (PROJECT / "pyproject.toml").read_text(encoding="utf-8")
    for extra in re.findall(r"^\.\[(\w+)\]$", "\n".join(arguments), re.MULTILINE):
        if not re.search(rf"^{extra} = \[", text.partition("[project.optional-dependencies]")[2], re.MULTILINE):
            raise WrongCommandError(f"pyproject.toml has no extra {extra}")


def _named_files(arguments: tuple[str, ...], *options: str) -> None:
    for option, file in pairwise(arguments):
        if option in options and not (PROJECT / file).is_file() and file not in COPIED:
            raise WrongCommandError(f"there is no file {file}")


def _docker(arguments: tuple[str, ...]) -> None:
    """Check the files of a command, and what it runs in a container."""
    if arguments[0] in ("build", "compose"):
        _named_files(arguments, "--file", "--env-file")
    if arguments[0] == "compose":
        services = yaml.safe_load((PROJECT / arguments[arguments.index("--file") + 1]).read_text("utf-8"))["services"]
        if "run" not in arguments:
            return
        name, *inside = (word for word in arguments[arguments.index("run") + 1 :] if word != "--rm")
        if name not in services:
            raise WrongCommandError(f"there is no service {name}")
    elif arguments[0] == "run":
        image = next(
            place for place, word in enumerate(arguments) if re.fullmatch(r"mentallam(-serving)?(:\w+)?", word)
        )
        inside = list(arguments[image + 1 :])
    else:
        return
    if inside:
        check(Command("in a container:", tuple(inside)))


def _sky(arguments: tuple[str, ...]) -> None:
    if arguments[:2] != ("jobs", "launch"):
        raise WrongCommandError(f"sky {arguments[0]}: tests/commands.py checks jobs launch alone")
    task = PROJECT / arguments[2]
    if not task.is_file():
        raise WrongCommandError(f"there is no file {arguments[2]}")
    given = yaml.safe_load(task.read_text("utf-8"))
    for option, word in pairwise(arguments):
        where = {"--env": "envs", "--secret": "secrets"}.get(option)
        if where and word.partition("=")[0] not in given[where]:
            raise WrongCommandError(f"{arguments[2]} has no variable {word.partition('=')[0]}")


def _jupyter(arguments: tuple[str, ...]) -> None:
    if arguments[0] != "nbconvert":
        raise WrongCommandError(f"jupyter {arguments[0]}: tests/commands.py checks nbconvert alone")
    for pattern in (word for word in arguments if word.endswith(".ipynb")):
        if not list(PROJECT.glob(pattern)):
            raise WrongCommandError(f"there is no file {pattern}")


def _copied_study(arguments: tuple[str, ...]) -> None:
    _run(arguments[1:])


def _sbatch(arguments: tuple[str, ...]) -> None:
    script = next(place for place, word in enumerate(arguments) if not word.startswith("-"))
    if not (PROJECT / arguments[script]).is_file():
        raise WrongCommandError(f"there is no file {arguments[script]}")
    _run(arguments[script + 1 :])


CHECKS = {
    "scripts/copied_study.sh": _copied_study,
    "docker": _docker,
    "jupyter": _jupyter,
    "kedro": _kedro,
    "kubectl": lambda arguments: _named_files(arguments, "--filename"),
    "make": _make,
    "mentallam": _mentallam,
    "mlflow": _mlflow,
    "pip": _pip,
    "pytest": _pytest,
    "python": _python,
    "sbatch": _sbatch,
    "sky": _sky,
}
