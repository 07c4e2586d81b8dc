"""The oracle of the fault campaign: is a study equal, to the last bit, to one that nothing has happened to?

What must differ between two studies does not count: ids of runs and models, folders, times, speeds and memory.
"""

import hashlib
import json
import re
import sqlite3
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import pandas as pd

from mentallam.checksums import CHECKSUMS, verify_checksums
from mentallam.errors import MentallamError
from tests.faults.forked import FOLDS, Study, tree

# Figures and facts of the machine and the moment.
_OF_THE_MACHINE = re.compile(
    r"system/.*|pairs_per_second|seconds|duration_s|memory.*|peak_.*|begun|token|frozen_states_gb"
)
_TAGS_OF_THE_MACHINE = re.compile(
    r"mentallam\.(token|worker|retries|code\.commit|code\.dirty)|mlflow\.(source\.name|user)"
    r"|run_id|runner|runtime_params|kedro_command|pipeline_names?|from_\w+|to_\w+|node_names"  # of Kedro's session
)
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")  # plotly gives each figure one
_DURATION = re.compile(r"\b\d+:\d\d:\d\d\b")
_MOMENT = re.compile(r"\b\d{4}-\d\d-\d\d \d\d:\d\d UTC\b")
_HIDDEN = re.compile(r"(^|/)\.(?!locks/)")
_ATTEMPT = re.compile(r"06_models/\w+_attempt/")

GIVEN_UP = "runs that were given up"

Facts = dict[str, Any]
"""What a study consists of: a digest or value by a name that is the same in every study."""


def facts(study: Study) -> Facts:
    """Return what a finished study consists of.

    Raises:
        ValueError: Something is there that must not be, whatever the reference has: the message names it.
    """
    with closing(sqlite3.connect(study.database)) as database:
        database.row_factory = sqlite3.Row
        runs = _finished_runs(database)
        folders = {str(folder): "<study>" for folder in (study.folder, study.copied_from) if folder}
        roles = runs | _models(database) | folders
        found = dict(_tracked(database, runs, roles))
        (all_runs,) = database.execute("SELECT count(*) FROM runs").fetchone()
        found[GIVEN_UP] = all_runs - len(runs)
    for run_id, role in runs.items():
        found |= _files(study.folder / "mlruns" / run_id / "artifacts", f"artifacts of {role}/", roles)
    found |= _files(study.data, "data/", roles)
    if left := next((path for path in tree(study.data) if _HIDDEN.search(path)), None):
        raise ValueError(f"data/{left} is left over")
    if state := next((p for p in tree(study.data) if _ATTEMPT.match(p) and not p.endswith("/record.json")), None):
        raise ValueError(f"the training state data/{state} is left over")
    return found


def difference(reference: Facts, study: Study, fresh_runs: bool = False, parts: tuple[str, ...] = ()) -> str | None:
    """Return the first difference of a finished study from the reference, or None.

    Args:
        reference: The facts of the reference.
        study: The study.
        fresh_runs: Whether there may be runs that were given up, as long as they are settled.
        parts: How the names begin of the facts that are compared; all if there is none.
    """
    try:
        found = facts(study)
    except (ValueError, OSError, KeyError, sqlite3.Error, MentallamError) as error:
        return f"{type(error).__name__}: {error}"
    if fresh_runs:
        found[GIVEN_UP] = 0
    if parts:
        reference, found = (
            {name: value for name, value in side.items() if name.startswith(parts)} for side in (reference, found)
        )
    if missing := sorted(reference.keys() - found.keys()):
        return f"missing: {missing[0]} and {len(missing) - 1} more"
    if added := sorted(found.keys() - reference.keys()):
        return f"added: {added[0]} and {len(added) - 1} more"
    different = [name for name, value in reference.items() if found[name] != value]
    if different:
        name = different[0]
        return f"different: {name} and {len(different) - 1} more: {reference[name]!r} became {found[name]!r}"[:1000]
    return None


def statuses(study: Study) -> Counter[str]:
    """Return how many runs of a study have which status; none if there is no database that can be read."""
    try:
        with closing(sqlite3.connect(study.database)) as database:
            return Counter(status for (status,) in database.execute("SELECT status FROM runs"))
    except sqlite3.Error:
        return Counter()


def _finished_runs(database: sqlite3.Connection) -> Mapping[str, str]:
    """Return the roles of the finished runs by id: one parent, and one child for each fold.

    Raises:
        ValueError: There are others, or one that nobody works on is said to run.
    """
    rows = database.execute(
        "SELECT runs.run_uuid, status, p.value AS parent, f.value AS fold FROM runs "
        "LEFT JOIN tags p ON p.run_uuid = runs.run_uuid AND p.key = 'mlflow.parentRunId' "
        "LEFT JOIN tags f ON f.run_uuid = runs.run_uuid AND f.key = 'mentallam.fold' "
        "WHERE lifecycle_stage = 'active'"
    ).fetchall()
    status = {row["run_uuid"]: row["status"] for row in rows}
    roles = {}
    for row in rows:
        role = f"fold {row['fold']}" if row["parent"] else "parent"
        if row["status"] not in ("FINISHED", "KILLED", "FAILED"):
            raise ValueError(f"a run of the role {role} is {row['status']}")
        # A finished fold of a cross-validation that was given up stays finished.
        if row["status"] == "FINISHED" and status.get(row["parent"], "FINISHED") == "FINISHED":
            if role in roles.values():
                raise ValueError(f"two runs of the role {role} are FINISHED")
            roles[row["run_uuid"]] = role
    if (expected := {"parent", *(f"fold {fold}" for fold in range(FOLDS))}) != {*roles.values()}:
        raise ValueError(f"the finished runs are {sorted(roles.values())} in place of {sorted(expected)}")
    return roles


def _models(database: sqlite3.Connection) -> Mapping[str, str]:
    ready = database.execute("SELECT model_id, status FROM logged_models").fetchall()
    return {row["model_id"]: "<model>" for row in ready}


def _tracked(
    database: sqlite3.Connection, runs: Mapping[str, str], roles: Mapping[str, str]
) -> Iterator[tuple[str, Any]]:
    for run_id, role in runs.items():
        # MLflow keeps a metric's value and that it is NaN apart.
        for row in database.execute("SELECT key, step, value, is_nan FROM metrics WHERE run_uuid = ?", (run_id,)):
            if not _OF_THE_MACHINE.fullmatch(row["key"]):
                yield f"metric of {role}: {row['key']} at step {row['step']}", (row["value"], row["is_nan"])
        doubled = database.execute(
            "SELECT key, step FROM metrics WHERE run_uuid = ? AND key NOT LIKE 'system/%' GROUP BY key, step "
            "HAVING count(*) > 1",
            (run_id,),
        ).fetchone()
        if doubled:
            raise ValueError(f"{role} has the metric {doubled['key']} twice at step {doubled['step']}")
        for row in database.execute("SELECT key, value FROM params WHERE run_uuid = ?", (run_id,)):
            yield f"parameter of {role}: {row['key']}", _neutral(row["value"], roles)
        for row in database.execute("SELECT key, value FROM tags WHERE run_uuid = ?", (run_id,)):
            if not _TAGS_OF_THE_MACHINE.fullmatch(row["key"]):
                yield f"tag of {role}: {row['key']}", _neutral(row["value"], roles)
        (inputs,) = database.execute("SELECT count(*) FROM inputs WHERE destination_id = ?", (run_id,)).fetchone()
        yield f"inputs of {role}", inputs
    for name, run_id, status in database.execute("SELECT name, source_run_id, status FROM logged_models"):
        if run_id in roles:  # a fold that was trained again has left one in the run that failed
            yield f"logged model {name} of {roles[run_id]}", status
    for row in database.execute("SELECT name, version, run_id, status FROM model_versions"):
        yield f"version {row['version']} of {row['name']}", (row["status"], roles.get(row["run_id"]))
    for row in database.execute("SELECT name, alias, version FROM registered_model_aliases"):
        yield f"alias {row['alias']} of {row['name']}", row["version"]


def _files(folder: Path, prefix: str, roles: Mapping[str, str]) -> Facts:
    """Return a digest of each file's content."""
    found = {}
    for name, path in tree(folder).items():
        if path.name == CHECKSUMS:
            found[prefix + name] = _verified(path.parent)
        elif path.name not in ("sha256.json", "machine.json", "run.log") and ".locks/" not in name:
            found[prefix + name] = hashlib.sha256(_content(path, roles)).hexdigest()[:16]
    return found


def _verified(folder: Path) -> str:
    try:
        verify_checksums(folder, "the oracle")
    except MentallamError as error:
        return error.message
    return "as they were written"


def _content(path: Path, roles: Mapping[str, str]) -> bytes:
    if path.suffix == ".parquet":
        table = pd.read_parquet(path)
        if "metric" in table:
            table = table[~table["metric"].map(lambda name: bool(_OF_THE_MACHINE.fullmatch(name)))]
        return table.to_json(orient="split", double_precision=15).encode()
    if path.suffix == ".json":
        plain = _without_moment(json.loads(path.read_bytes()))
        return _neutral(json.dumps(plain), roles).encode()
    if path.suffix in (".md", ".html", ".yml", ".yaml", ".csv", ".tex", ".jsonl", ".txt"):
        return _neutral(path.read_text(encoding="utf-8"), roles).encode()
    return path.read_bytes()


def _without_moment(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_moment(part) for name, part in value.items() if not _OF_THE_MACHINE.fullmatch(name)}
    return [_without_moment(part) for part in value] if isinstance(value, list) else value


def _neutral(text: str, roles: Mapping[str, str]) -> str:
    for given, role in roles.items():
        text = text.replace(given, role)
    return _MOMENT.sub("<moment>", _DURATION.sub("<duration>", _UUID.sub("<uuid>", text)))
