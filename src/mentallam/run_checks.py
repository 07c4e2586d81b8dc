"""Checks before a run: each given parameter, option and variable takes effect or is refused with one sentence."""

import difflib
import inspect
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

from kedro.pipeline import Pipeline
from kedro.pipeline.node import Node
from pydantic import BaseModel, TypeAdapter, ValidationError

from mentallam.config import Config
from mentallam.configuration_files import environment_variables, interpolated_names
from mentallam.errors import MentallamError
from mentallam.variables import VARIABLES

_PREFIX = "params:"
_MISSING = object()
# In place of the words of pydantic.
_ALLOWED = {
    **dict.fromkeys(("bool_type", "bool_parsing"), "it takes true or false"),
    **dict.fromkeys(("float_type", "float_parsing"), "it takes a number"),
    **dict.fromkeys(("int_type", "int_parsing", "int_from_float"), "it takes a whole number"),
    **dict.fromkeys(
        ("sequence_str", "list_type", "is_instance_of"),
        "it takes a list, as in [a, b], which --params can't carry: set it in the environment's parameters_*.yml",
    ),
}


def parameter_types(pipelines: Mapping[str, Pipeline]) -> dict[str, Any]:
    """Return the annotation of each parameter that a node reads, by the parameter's dotted name.

    A parameter without an annotation has the type `Any`.
    """
    types: dict[str, Any] = {}
    for node in (node for pipeline in pipelines.values() for node in pipeline.nodes):
        if names := list(_parameters(node)):
            hints = get_type_hints(node.func)
            # Kedro lists inputs in the order of the arguments, also where they are given by keyword.
            arguments = dict(zip(node.inputs, inspect.signature(node.func).parameters, strict=False))
            types |= {name: hints.get(arguments.get(_PREFIX + name, ""), Any) for name in names}
    return types


def check_variables(variables: Iterable[str], folders: Iterable[Path]) -> None:
    """Refuse a misspelt environment variable.

    Args:
        variables: Names of all variables that are set.
        folders: The configuration folders that the run reads; their files may read other variables.

    Raises:
        MentallamError: The name is close to the name of a variable that mentallam reads.
    """
    known = {*VARIABLES, *environment_variables(folders)}
    for name in sorted(set(variables) - known):
        if name.startswith("MENTALLAM_") and (close := difflib.get_close_matches(name, known, n=1, cutoff=0.8)):
            raise MentallamError(f"nothing reads the variable {name}: did you mean {close[0]}")


def check_selection(options: Mapping[str, Any], pipelines: Mapping[str, Pipeline]) -> None:
    """Refuse a pipeline, node, namespace or dataset on the command line that does not exist.

    Args:
        options: The command's options by click's names; empty without a command line.
        pipelines: All pipelines by name.

    Raises:
        MentallamError: The message names the option and the closest name.
    """
    names = [name for name in (options.get("pipeline"), *(options.get("pipelines") or ())) if isinstance(name, str)]
    check_choices("--pipelines", names, pipelines)
    if "node_names" not in options:  # another command than `kedro run`
        return
    chosen = sum((pipelines[name] for name in names or ["__default__"]), Pipeline([]))
    nodes, datasets = {node.name for node in chosen.nodes}, chosen.datasets()
    check_choices("--nodes", options["node_names"], nodes)
    check_choices("--from-nodes", options["from_nodes"], nodes)
    check_choices("--to-nodes", options["to_nodes"], nodes)
    check_choices("--from-inputs", options["from_inputs"], datasets)
    check_choices("--to-outputs", options["to_outputs"], datasets)
    check_choices("--namespaces", options["namespaces"], {node.namespace for node in chosen.nodes if node.namespace})


def check_names(
    given: Mapping[str, Any], types: Mapping[str, Any], interpolated: Iterable[str], conf: Path | None = None
) -> None:
    """Refuse a runtime parameter that no pipeline and no configuration file reads.

    Args:
        given: The runtime parameters, nested.
        types: From `parameter_types`, of all pipelines.
        interpolated: From `configuration_files.interpolated_names`.
        conf: The folder of all environments, for the message; None if it is not known.

    Raises:
        MentallamError: The message names the parameter and the closest known name.
    """
    read = {*types, *interpolated}
    for path, value in _leaves(given):
        name = ".".join(path)
        if dotted := next((key for key in path if "." in key), None):
            raise MentallamError(
                f"the parameter {dotted} has a dot in its key: nest it, as in {_nested(dotted)}, or use --params"
            )
        if any(_covers(known, name) or _covers(name, known) for known in read):
            continue
        known_names = _all_names(read, types)
        is_key_here = any(known.endswith(f".{name}") for known in known_names)  # folds.seed, besides training.seed
        hydra_key = _hydra_key(path)
        if hydra_key and (hydra_key == name or not is_key_here):
            raise MentallamError(
                f"{name} belongs to the Hydra configuration: "
                f'write --params "overrides={hydra_key}={_shown(value)}" instead'
            )
        environments = [folder for folder in sorted(conf.iterdir()) if folder.is_dir()] if conf else []
        if elsewhere := [folder.name for folder in environments if path[0] in interpolated_names([folder])]:
            raise MentallamError(f"nothing reads the parameter {name} here, but under --env {' or '.join(elsewhere)}")
        raise MentallamError(f"nothing reads the parameter {name}{_did_you_mean(name, known_names)}")


def check_values(parameters: Mapping[str, Any], types: Mapping[str, Any]) -> None:
    """Refuse a value, from a file or the command line, that does not fit the type of a node's argument.

    Args:
        parameters: The parameters, nested, including the runtime parameters.
        types: From `parameter_types`, of all pipelines.

    Raises:
        MentallamError: The message names the first such key, its value and the allowed values.
    """
    for name, annotation in sorted(types.items()):
        value: Any = parameters
        for key in name.split("."):
            value = value.get(key, _MISSING) if isinstance(value, Mapping) else _MISSING
        if value is _MISSING:
            continue
        # Kedro builds models, and converts their values leniently; nothing converts plain values.
        strict = _model(annotation) is None
        try:
            TypeAdapter(annotation).validate_python(value, strict=strict)
        except ValidationError as error:
            raise MentallamError(_sentence(name, value, annotation, error)) from None


def check_unread_keys(parameters: Mapping[str, Any], types: Mapping[str, Any]) -> None:
    """Refuse a misspelt key in the configuration files.

    A key that no pipeline reads may serve other keys of the same files, so only a key close to a known name is refused.

    Raises:
        MentallamError: The message names the key and the closest one.
    """
    for key in parameters:
        if any(_covers(name, key) or _covers(key, name) for name in types):
            continue
        if close := difflib.get_close_matches(key, {name.partition(".")[0] for name in types}, n=1, cutoff=0.8):
            raise MentallamError(f"no pipeline reads the parameter {key}: did you mean {close[0]}")


def check_read(
    given: Mapping[str, Any],
    pipeline: Pipeline,
    pipelines: Mapping[str, Pipeline],
    effective: Iterable[str],
) -> None:
    """Refuse a runtime parameter that none of the chosen nodes reads.

    Args:
        given: The runtime parameters, nested, after `check_names`.
        pipeline: The nodes that are about to run.
        pipelines: All pipelines by name, for the message.
        effective: Names that take effect without a node of `pipeline`: configuration files read them, or they were
            compared with saved results.

    Raises:
        MentallamError: The message names the parameter and the nodes that read it.
    """
    here = {name for node in pipeline.nodes for name in _parameters(node)} | set(effective)
    for path, _ in _leaves(given):
        name = ".".join(path)
        if any(_covers(read, name) or _covers(name, read) for read in here):
            continue
        readers = {
            pipeline_name: nodes
            for pipeline_name, candidate in pipelines.items()
            if pipeline_name != "__default__" and (nodes := _readers(candidate, name))
        }
        pipeline_name, nodes = min(readers.items(), key=lambda item: len(pipelines[item[0]].nodes))
        own = [node.removeprefix(f"{pipeline_name}.") for node in nodes]
        raise MentallamError(
            f"{name} would change nothing in this run: {_listed(own)} of the pipeline {pipeline_name} "
            f"{'reads' if len(nodes) == 1 else 'read'} it, and "
            f"{'is' if len(nodes) == 1 else 'are'} not among the nodes that run"
        )


def check_choices(option: str, named: Iterable[str], known: Iterable[str]) -> None:
    """Refuse a name on the command line that the project does not have.

    Raises:
        MentallamError: The message names the closest name, or lists all.
    """
    known = sorted(known)
    for name in named:
        if name not in known:
            raise MentallamError(f"{option} {name}: there is no such name{_did_you_mean(name, known)}")


def _parameters(node: Node) -> Iterator[str]:
    return (name.removeprefix(_PREFIX) for name in node.inputs if name.startswith(_PREFIX))


def _readers(pipeline: Pipeline, name: str) -> list[str]:
    return [
        node.name
        for node in pipeline.nodes
        if any(_covers(read, name) or _covers(name, read) for read in _parameters(node))
    ]


def _covers(whole: str, part: str) -> bool:
    return part == whole or part.startswith(f"{whole}.")


def _leaves(given: Mapping[str, Any], path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    for key, value in given.items():
        here = (*path, str(key))
        if isinstance(value, Mapping) and value:
            yield from _leaves(value, here)
        else:
            yield here, value


def _nested(dotted: str) -> str:
    *groups, last = dotted.split(".")
    return "".join(f"{group}: {{" for group in groups) + f"{last}: ..." + "}" * len(groups)


def _hydra_key(path: tuple[str, ...]) -> str | None:
    """Return the key of the Hydra configuration that the user probably means, or None."""
    hints = get_type_hints(Config)
    if path[0] in hints:
        return ".".join(path)
    if len(path) > 1:
        return None
    keys = (f"{group.name}.{key.name}" for group in fields(Config) for key in fields(hints[group.name]))
    return next((key for key in keys if key.endswith(f".{path[0]}")), None)


def _all_names(read: Iterable[str], types: Mapping[str, Any]) -> set[str]:
    """Return the known names, and the keys below those that are models."""
    below = {f"{name}.{key}" for name, kind in types.items() if (model := _model(kind)) for key in model.model_fields}
    return {*read, *below}


def _model(annotation: Any) -> type[BaseModel] | None:
    kinds = (annotation, *get_args(annotation))
    # Python 3.10 takes list[str] for a class.
    classes = (kind for kind in kinds if get_origin(kind) is None and inspect.isclass(kind))
    return next((kind for kind in classes if issubclass(kind, BaseModel)), None)


def _sentence(name: str, value: Any, annotation: Any, error: ValidationError) -> str:
    """Return one sentence about the first error in a parameter's value."""
    first = error.errors(include_url=False)[0]
    inner = [str(part) for part in first["loc"]]
    key, given = ".".join([name, *inner]), first["input"]
    if first["type"] == "extra_forbidden":
        model = _model(annotation)
        known = {f"{name}.{field}" for field in model.model_fields} if model else set()
        return f"nothing reads the parameter {key}{_did_you_mean(key, known)}"
    if first["type"] == "missing":
        return f"the parameter {key} has no value: set it in the environment's parameters_*.yml"
    if first["type"] == "string_type":
        return f"{key} is read as {_kind(given)}, but takes text: quote it, as in --params \"{key}='...'\""
    allowed = _ALLOWED.get(first["type"]) or first["msg"].removeprefix("Value error, ")
    if first["type"] == "literal_error":
        allowed = f"it takes {first['ctx']['expected']}"
    return f"{key} is {_named(given)}; {allowed.replace('Input should be', 'it must be', 1)}"


def _kind(value: Any) -> str:
    kinds = {bool: "true or false", int: "a number", float: "a number", list: "a list", dict: "a mapping"}
    return kinds.get(type(value), "nothing")


def _named(value: Any) -> str:
    """Return a value for a message; several words may be a post's text, which a message must not repeat."""
    if isinstance(value, Mapping):
        return "a mapping"
    if isinstance(value, str) and len(value.split()) > 1:
        return f"a text of {len(value.split())} words"
    return repr(value)


def _shown(value: Any) -> str:
    if value is None:
        return ""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _did_you_mean(name: str, known: Iterable[str]) -> str:
    known = sorted(known)
    by_leaf = {candidate.rpartition(".")[2]: candidate for candidate in reversed(known)}
    if close := [name] if name in by_leaf else difflib.get_close_matches(name, [*known, *by_leaf], n=1):
        return f": did you mean {by_leaf.get(close[0], close[0])}"
    return f"; there are: {', '.join(known)}" if len(known) <= 30 else " in this environment"


def _listed(names: list[str]) -> str:
    return f"{', '.join(names[:-1])} and {names[-1]}" if len(names) > 1 else names[0]
