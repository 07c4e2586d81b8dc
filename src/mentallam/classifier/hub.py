"""Models of the Hugging Face hub: downloaded by the policy of retries, and checked against the hub's hashes."""

import json
import logging
import re
from contextlib import suppress
from pathlib import Path
from typing import Any

from huggingface_hub import constants, get_session, snapshot_download
from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError
from huggingface_hub.utils import hf_raise_for_status  # type: ignore[attr-defined]
from huggingface_hub.utils.sha import git_hash, sha_fileobj

from mentallam import retries
from mentallam.errors import MentallamError
from mentallam.files import replacing_file

logger = logging.getLogger(__name__)

_UNUSED = ["*.gguf", "*.onnx", "*.h5"]
# Seconds without a byte from the hub; its library sets no limit for the list of a repository's files.
_TIMEOUT_S = 30.0


def download(path: str, revision: str, records: Path, wanted: list[str] | None = None) -> Path:
    """Return the folder with a hub model's files; download those that are not on this machine yet.

    A commit hash as revision makes no request once its files are there. Each file is compared with the hash that the
    hub gives for it: after its download, and again whenever its size or time has changed.

    Args:
        path: The model's id on the hub.
        revision: A branch, tag or commit.
        records: Folder for the record of what has been compared.
        wanted: Patterns of the files; None takes all that this project can use.

    Raises:
        MentallamError: The files can't be had, or differ from what the hub says; the message says what to do.
    """
    offline = constants.HF_HUB_OFFLINE

    def attempt() -> Path:
        _prepare_session()
        folder = Path(
            snapshot_download(
                path,
                revision=revision,
                allow_patterns=wanted,
                ignore_patterns=_UNUSED,
                local_files_only=offline,
            )
        )
        _compare(folder, records / f"{path.replace('/', '--')}-{folder.name}.json", offline)
        return folder

    try:
        return retries.call(f"the download of {path}", attempt)
    except MentallamError:
        raise
    except Exception as error:  # also what its HTTP library raises, and that has changed before
        reason, way_out = _explain(error, path, revision, offline)
        raise MentallamError(
            f"the weights of {path} (revision {revision}) can't be had from the Hugging Face hub ({reason}): {way_out}"
            f", or put a copy in a folder and name it: overrides=model.path=/path/to/folder"
        ) from None


def _explain(error: Exception, path: str, revision: str, offline: bool) -> tuple[str, str]:
    """Return what has happened, and what to do about it."""
    log_in = "log in with `hf auth login` or set HF_TOKEN"
    status = retries.find_status(error)
    if fault := retries.find_fault(error):
        return f"{fault.reason}, again and again", "check the network and try later"
    if offline:
        return "HF_HUB_OFFLINE is set, and they are not all on this machine", "unset it once to download them"
    if isinstance(error, RevisionNotFoundError):
        return "no such revision", f"check model.revision={revision}"
    if isinstance(error, GatedRepoError) or status == 403:
        return "gated", f"accept the licence at {constants.ENDPOINT}/{path}, then {log_in}, as the same user"
    if status == 401:
        return "no such repository, or a private one", f"check model.path; for a private one {log_in}"
    if isinstance(error, RepositoryNotFoundError) or status == 404:
        return "no such repository", "check model.path"
    return type(error).__name__, "check model.path and the network"


def _prepare_session() -> None:
    """Give the library's requests a time limit, and leave their repetition to this project's policy."""
    hooks = get_session().event_hooks
    for kind, hook in (("request", _limit_time), ("response", _raise_what_may_pass)):
        if hook not in hooks[kind]:
            hooks[kind].append(hook)


def _limit_time(request: Any) -> None:
    limits = request.extensions.get("timeout") or {}
    kinds = ("connect", "read", "write", "pool")
    request.extensions["timeout"] = {kind: limits.get(kind) or _TIMEOUT_S for kind in kinds}


def _raise_what_may_pass(response: Any) -> None:
    if retries.may_pass(response.status_code):
        hf_raise_for_status(response)


def _compare(folder: Path, record: Path, offline: bool) -> None:
    """Compare the files of a snapshot with the hub's hashes, and write down their size and time.

    Raises:
        TransientError: A file differed; it is removed, so that another attempt downloads it.
        MentallamError: A file differs and the hub must not be asked.
    """
    known: dict[str, list[int]] = {}
    with suppress(OSError, ValueError):
        known = json.loads(record.read_text(encoding="utf-8"))
    found = {}
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        name, stat = file.relative_to(folder).as_posix(), file.stat()
        found[name] = [stat.st_size, stat.st_mtime_ns]
        if known.get(name) == found[name] or _is_sound(file):
            continue
        if offline:
            raise MentallamError(
                f"{file} differs from the hash that the Hugging Face hub gives for it: run this once without "
                f"HF_HUB_OFFLINE, and it is downloaded again"
            )
        file.resolve().unlink()
        file.unlink(missing_ok=True)
        raise retries.TransientError(f"{name} differs from the hub's hash")
    if found != known:
        # Without the record the files are compared again next time.
        with suppress(MentallamError), replacing_file(record) as unfinished:
            unfinished.write_text(json.dumps(found), encoding="utf-8")


def _is_sound(file: Path) -> bool:
    """Return whether a file has the hash by which the hub's library named its content: SHA-256, or git's if small."""
    expected = file.resolve().name
    if re.fullmatch("[0-9a-f]{64}", expected):
        with file.open("rb") as content:
            return sha_fileobj(content).hex() == expected
    if re.fullmatch("[0-9a-f]{40}", expected):
        return git_hash(file.read_bytes()) == expected
    logger.warning("%s can't be compared with the hub's hash: the cache holds no links here", file)
    return True
