"""Where a champion's checkpoints were found last: a command finds them again without importing MLflow.

The registry's database still says which version is the champion. Versions never change, so the note of a version holds
as long as its files are there.
"""

import json
import sqlite3
from collections.abc import Sequence
from contextlib import closing, suppress
from pathlib import Path

from mentallam.files import replacing_file
from mentallam.limits import read_json

_FILE = "champions.json"
_SQLITE = "sqlite:///"


def find_known_champion(folder: Path, tracking_uri: str, name: str) -> list[Path] | None:
    """Return the champion's checkpoints, as `registry.find_checkpoints` does; None if they must be asked for.

    Args:
        folder: The folder of the note.
        tracking_uri: The tracking store; only a database in a file is known here.
        name: Name of the registered model.
    """
    with suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
        note = read_json(folder / _FILE)[_key(tracking_uri, name)]
        folders = [Path(checkpoint) for checkpoint in note["folders"]]
        current = note["version"] == _champion_version(tracking_uri, name)
        if current and folders and all(folder.is_file() or (folder / "mentallam.json").is_file() for folder in folders):
            return folders
    return None


def note_champion(folder: Path, tracking_uri: str, name: str, checkpoints: Sequence[Path]) -> None:
    """Note where the champion's checkpoints are; nothing happens if the store is no database in a file."""
    if (version := _champion_version(tracking_uri, name)) is None:
        return
    try:
        notes = dict(read_json(folder / _FILE))
    except (OSError, ValueError, TypeError):
        notes = {}
    notes[_key(tracking_uri, name)] = {"version": version, "folders": [str(path.resolve()) for path in checkpoints]}
    with replacing_file(folder / _FILE) as unfinished:
        unfinished.write_text(json.dumps(notes, indent=2), encoding="utf-8")


def _key(tracking_uri: str, name: str) -> str:
    return f"{name} in {tracking_uri}"


def _champion_version(tracking_uri: str, name: str) -> str | None:
    """Return the version that has the alias champion in MLflow's database; None if it can't be read."""
    if not tracking_uri.startswith(_SQLITE) or "%" in tracking_uri:
        return None
    query = "SELECT version FROM registered_model_aliases WHERE name = ? AND alias = 'champion'"
    with suppress(sqlite3.Error):
        address = Path(tracking_uri.removeprefix(_SQLITE)).as_uri()
        with closing(sqlite3.connect(f"{address}?mode=ro", uri=True)) as connection:
            found = connection.execute(query, (name,)).fetchone()
        return None if found is None else str(found[0])
    return None
