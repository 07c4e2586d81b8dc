"""The page docs/parameters.md, written from conf/; `python -m tests.parameters_page` writes it again.

The meaning of a parameter is the comment above it in conf/base, its type that of the argument which takes it.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

from kedro.config import OmegaConfigLoader
from kedro.framework.project import configure_project, pipelines
from omegaconf import OmegaConf

from mentallam.cluster_options import PARAMETERS
from mentallam.config_loading import CONFIG_LOADER_ARGS
from mentallam.run_checks import _model, parameter_types
from tests.samples import PROJECT

PAGE = PROJECT / "docs" / "parameters.md"
HEAD = """\
# Parameters

Every parameter of Kedro: its values, its default, what it means, and which pipelines read it. Set one for a run with
`kedro run --params name=value,other=value`, or for good in `conf/<env>/parameters*.yml`.
[The commands](contracts/cli.md#parameters) have the grammar and say what is refused. How the model is built, trained
and used is not here: those keys are in [configuration.md](configuration.md), and `overrides` changes them.

A dot stands for a level of the file: `folds.seed` is `seed` below `folds`. A list can only be set in a file, since
`--params` splits at commas. Where environments differ, the default names them.

This page is written from `conf/` and the types of the code by `python -m tests.parameters_page`; a test compares them.
"""
# What a file is about, in the order of the page.
SECTIONS = {
    "parameters": ("All pipelines", "What training and inference share."),
    "parameters_data_processing": ("Data and folds", "More: [data-model.md](data-model.md)."),
    "parameters_cv_training": (
        "Cross-validation",
        "More: [reliability.md](reliability.md), [tracking.md](tracking.md).",
    ),
    "cluster": (
        "Where folds are trained",
        "More: [cluster.md](cluster.md); for inference: [prediction.md](prediction.md#at-volume).",
    ),
    "parameters_reporting": (
        "Report",
        "More: [evaluation.md](evaluation.md), [registry.md](registry.md#what-is-registered), "
        "[paper.md](paper.md#figures).",
    ),
    "parameters_inference": (
        "Prediction",
        "More: [prediction.md](prediction.md), [evidence.md](evidence.md), [monitoring.md](monitoring.md#in-mlflow).",
    ),
    "parameters_latency": ("Latency", "More: [latency.md](latency.md)."),
    "parameters_monitor": ("Monitoring", "More: [monitoring.md](monitoring.md#what-raises-an-alert)."),
    "parameters_learning_curve": ("Learning curve", "More: [learning-curve.md](learning-curve.md)."),
    "parameters_sweep": ("Search", "More: [sweep.md](sweep.md)."),
    "parameters_compare": ("Comparison", "More: [registry.md](registry.md)."),
    "parameters_memory_plan": ("Memory plan", "More: [models.md](models.md)."),
}
# Files of conf/ other than parameters*.yml read these from --params: values, default, environments, meaning.
FILES = {
    "data_dir": (
        "folder",
        "`data`, and a folder of its own below it in some environments",
        "all",
        "Where results are written.",
    ),
    "raw_dir": ("folder", "`data/01_raw`", "all", "Where corpus and criteria are read."),
    "corpus_dir": ("folder", "in `raw_dir`", "`mentallam`, `pairs`", "The folder of the corpus."),
    "missing_pairs": (
        "`refused`, `allowed`",
        "`refused`",
        "`pairs`",
        "Whether posts may lack a label for some criteria ([your-own-data.md](your-own-data.md)).",
    ),
    "label_values": (
        "text",
        "`yes:no` and the like",
        "`pairs`",
        "The corpus's words for a positive and a negative label, as in `label_values=matched:unmatched`.",
    ),
    "columns.author": (
        "text",
        "`author`",
        "`pairs`",
        "The heading of the author in the corpus. The other `columns` above name the corpus's headings, too.",
    ),
    "columns.label": ("text", "`label`", "`pairs`", "The heading of the label in the corpus."),
    "output": (
        "file or folder",
        "`data/07_model_output`",
        "all",
        "The file of inference's predictions (`.jsonl`, `.csv` or `.parquet`), with rejects and summary beside it, or "
        "the folder of all of them.",
    ),
    "output_format": ("`jsonl`, `csv`, `parquet`", "`jsonl`", "all", "The format of the predictions in a folder."),
    "cv_run_id": (
        "text",
        "none",
        "all",
        "A finished cross-validation's run, which reporting reports again from the tracking store alone "
        "([registry.md](registry.md#an-older-run-again)).",
    ),
}
# What the files give by a resolver, whose value depends on the machine or the command.
GIVEN = {"cv_folds": "`MENTALLAM_CV_FOLDS`", "environment": "that of the run"}
WORDS = {bool: "true or false", int: "whole number", float: "number", str: "text", NoneType: "null"}
BOUNDS = {"ge": "{} or above", "gt": "above {}", "le": "at most {}", "lt": "below {}"}


def page() -> str:
    """Return the whole page."""
    types, readers, defaults = typed_keys(), read_by(), defaults_by_environment()
    sections = [HEAD]
    for stem, (title, more) in SECTIONS.items():
        rows = [
            f"| `{name}` | {of_key(name, types) if is_leaf else ''} | {shown(name, defaults) if is_leaf else ''} | "
            f"{', '.join(sorted(of_key(name, readers)))} | {linked(comment)} |"
            for name, comment, is_leaf in commented(stem)
            if comment or is_leaf
        ]
        table = ["| name | values | default | read by | meaning |", "| --- | --- | --- | --- | --- |", *rows]
        sections.append("\n".join([f"## {title}", "", f"`conf/base/{stem}.yml`. {more}", "", *table, ""]))
    return "\n".join([*sections, *files()])


def files() -> list[str]:
    """Return the section of the parameters that the other files of conf/ read."""
    rows = [f"| `{name}` | {' | '.join(cells)} |" for name, cells in FILES.items()]
    about = (
        "The catalogs and `globals.yml` read these from `--params` alone; `globals.yml` of an environment may also set "
        "`data_dir` and `raw_dir`. A relative folder is below the project's folder, wherever you run the command."
    )
    table = ["| name | values | default | environments | meaning |", "| --- | --- | --- | --- | --- |", *rows]
    return ["## Places and formats", "", about, "", *table, ""]


def read_by() -> dict[str, set[str]]:
    """Return the pipelines that read a parameter, cv_training without data_processing."""
    configure_project("mentallam")
    alone = {name: pipeline for name, pipeline in pipelines.items() if name != "__default__"}
    alone["cv_training"] = alone["cv_training"] - alone["data_processing"]
    readers: dict[str, set[str]] = {}
    for name, pipeline in alone.items():
        for parameter in parameter_types({name: pipeline}):
            readers.setdefault(parameter, set()).add(name)
    return readers | {name: {"cv_training"} for name in PARAMETERS}


def of_key(name: str, facts: Mapping[str, Any]) -> Any:
    """Return what is known of a parameter, or else of the parameter that it belongs to."""
    while name not in facts:
        name = name.rpartition(".")[0]
    return facts[name]


def typed_keys() -> dict[str, str]:
    """Return the values that each parameter takes, in words, by its dotted name."""
    configure_project("mentallam")
    words = {}
    for name, annotation in (parameter_types(pipelines) | PARAMETERS).items():
        if model := _model(annotation):
            for key, field in model.model_fields.items():
                words[f"{name}.{key}"] = values(field.annotation, field.metadata)
        elif mappings := [one for one in get_args(annotation) if get_origin(one) is Mapping]:
            words[name] = values(get_args(mappings[0])[1])
        else:
            words[name] = values(annotation)
    return words


def values(annotation: Any, metadata: list[Any] | None = None) -> str:
    """Return the values of a type in words, with their limits."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return ", ".join(f"`{choice}`" for choice in arguments)
    if origin in (UnionType, Union):
        return " or ".join(values(one, [] if one is NoneType else metadata) for one in arguments)
    if annotation in WORDS:
        limits = [
            words.format(getattr(limit, kind))
            for limit in metadata or []
            for kind, words in BOUNDS.items()
            if hasattr(limit, kind)
        ]
        return ", ".join([WORDS[annotation], *limits])
    return "mapping" if origin is dict else "list"


def commented(stem: str) -> Iterator[tuple[str, str, bool]]:
    """Yield (dotted name, comment above it, whether it has a value) of each key of a file in conf/base."""
    parents, comment = {0: ""}, ""
    lines = (PROJECT / "conf" / "base" / f"{stem}.yml").read_text(encoding="utf-8").splitlines()
    for line in lines:
        if found := re.match(r" *# ( *)(.+)", line):
            text = f"`{found[2]}`." if found[1] else found[2]
            comment = f"{comment} {text}".lstrip()
            continue
        if found := re.match(r"( *)(\w+): *(.*)", line):
            indent, key, value = found.groups()
            name = parents[len(indent)] + key
            parents[len(indent) + 2] = f"{name}."
            yield name, comment, bool(value) or f"{line}\n  - " in "\n".join(lines)
        comment = ""


def defaults_by_environment() -> dict[str, dict[str, Any]]:
    """Return the parameters of each environment, flat, `base` first."""
    placeholders = {
        **{name: lambda name=name: f"<{name}>" for name in GIVEN},
        "project_path": lambda: ".",
        "in_project": lambda folder: folder,
    }
    arguments = {**CONFIG_LOADER_ARGS, "custom_resolvers": {**CONFIG_LOADER_ARGS["custom_resolvers"], **placeholders}}
    folders = sorted(folder.name for folder in (PROJECT / "conf").iterdir() if folder.is_dir())
    names = ["base", *(name for name in folders if name not in ("base", "local"))]
    try:
        _forget(placeholders)
        return {
            name: dict(flat(OmegaConfigLoader(str(PROJECT / "conf"), name, **arguments)["parameters"]))
            for name in names
        }
    finally:
        _forget(placeholders)


def _forget(resolvers: Iterable[str]) -> None:
    """Let the next loader register its own: Kedro keeps a resolver that is there, and they belong to the process."""
    for name in resolvers:
        OmegaConf.clear_resolver(name)


def flat(nested: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    """Yield (dotted name, value) of each leaf."""
    for key, value in nested.items():
        if isinstance(value, Mapping) and value:
            yield from flat(value, f"{above}{key}.")
        else:
            yield f"{above}{key}", value


def shown(name: str, defaults: Mapping[str, Mapping[str, Any]]) -> str:
    """Return a parameter's default, and those of environments that have another."""
    base = defaults["base"][name]
    others: dict[str, list[str]] = {}
    for environment, parameters in defaults.items():
        if parameters[name] != base:
            others.setdefault(as_yaml(parameters[name]), []).append(f"`{environment}`")
    return "; ".join([as_yaml(base), *(f"{', '.join(names)}: {value}" for value, names in others.items())])


def as_yaml(value: Any) -> str:
    """Return a default as YAML has it."""
    if isinstance(value, str):
        if given := GIVEN.get(value.strip("<>")):
            return given
        value = value.removeprefix("./")
        return f"`{value}`" if value else '`""`'
    return f"`{json.dumps(value)}`"


def linked(comment: str) -> str:
    """Return a comment as Markdown: pages that it names are links, and a bar would end the cell."""
    return re.sub(r"docs/([\w-]+\.md)", r"[\1](\1)", comment).replace("|", "\\|").replace("<", "&lt;")


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
