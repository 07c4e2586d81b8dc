"""Work that goes on after an interruption: a record says what it was begun with.

The record is written before the work begins. A later attempt compares its fingerprint with what it would begin with
itself: equal, and the work goes on; any difference starts it anew, and is named.
"""

import hashlib
import json
import re
import shutil
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mentallam.checksums import folder_digest
from mentallam.config import Config, deciding
from mentallam.files import replacing_file, writing
from mentallam.provenance import DECIDING_PACKAGES, code_version, package_versions

RECORD = "record.json"


@dataclass(frozen=True)
class Attempt:
    """An attempt at some work.

    Attributes:
        token: Identifies the work, through all attempts that go on with it.
        begun: When it was begun: seconds since 1970.
        goes_on: Whether an earlier attempt has begun it.
        change: Why earlier work does not count; None if there is none, or if this attempt goes on with it.
    """

    token: str
    begun: float
    goes_on: bool
    change: str | None


def fingerprint(
    config: Config, base_model: Mapping[str, str], data_manifest: Mapping[str, Any], **others: Any
) -> dict[str, Any]:
    """Return everything that decides the result of training, as plain values.

    Args:
        config: The configuration.
        base_model: The base model on disk; its folder does not count.
        data_manifest: The record of the data.
        **others: What else decides it, such as the folds; plain values.
    """
    code, versions = code_version(), package_versions()
    content = {
        **others,
        "code": {name: code[name] for name in ("version", "source")},
        "packages": {name: versions[name] for name in DECIDING_PACKAGES},
        "data": {name: data_manifest[name] for name in ("data_hash", "frames", "options", "corpus", "synthetic")},
        "base_model": {name: value for name, value in base_model.items() if name != "folder"},
        "start": folder_digest(Path(config.training.start_from)) if config.training.start_from else None,
        **deciding(config),
    }
    plain: dict[str, Any] = json.loads(json.dumps(content))
    return plain


def begin(folder: Path, fingerprint: Mapping[str, Any], fresh: bool = False) -> Attempt:
    """Begin some work, or go on with it.

    Args:
        folder: The work's folder; what lies in it is removed unless the work goes on.
        fingerprint: What decides the result, as plain values.
        fresh: Begin anew in any case.

    Raises:
        MentallamError: The folder can't be written.
    """
    change = None
    try:
        record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
        found = first_difference(record["fingerprint"], fingerprint)
        change = "fresh=true" if fresh else changed(*found) if found else None
        if change is None:
            return Attempt(record["token"], record["begun"], goes_on=True, change=None)
    except FileNotFoundError:
        pass
    except (OSError, ValueError, KeyError, TypeError) as error:
        change = f"{folder / RECORD} can't be read ({type(error).__name__})"
    attempt = Attempt(uuid.uuid4().hex, time.time(), goes_on=False, change=change)
    record = {"token": attempt.token, "begun": attempt.begun, "fingerprint": fingerprint}
    with writing(folder):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
    with replacing_file(folder / RECORD) as unfinished:
        unfinished.write_text(json.dumps(record, indent=2), encoding="utf-8")
    return attempt


def clear(folder: Path) -> None:
    """Remove what lies in a work's folder when it is done, except its record."""
    for path in folder.iterdir():
        if path.name != RECORD:
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def hash_of(content: Mapping[str, Any]) -> str:
    """Return the SHA-256 of plain values."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def changed(key: str, before: Any, after: Any) -> str:
    """Return the words for a difference that `first_difference` found."""
    return f"{key} has changed from {_shown(before)} to {_shown(after)}"


def _shown(value: Any) -> str:
    return f"{value:.8}..." if isinstance(value, str) and re.fullmatch("[0-9a-f]{64}", value) else repr(value)


def first_difference(saved: Any, now: Any, path: str = "") -> tuple[str, Any, Any] | None:
    """Return the first difference between two nested dicts: its dotted key, and both values; None if they are equal."""
    if isinstance(saved, Mapping) and isinstance(now, Mapping):
        found = (
            first_difference(saved.get(key), now.get(key), f"{path}.{key}" if path else str(key))
            for key in [*now, *(key for key in saved if key not in now)]
        )
        return next((difference for difference in found if difference), None)
    return None if saved == now else (path, saved, now)
