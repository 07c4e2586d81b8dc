"""Names that become a part of a path: of a run, a model, an artifact."""

import re
from pathlib import PurePosixPath

from mentallam.errors import MentallamError

LONGEST_NAME = 200
"""Bytes of a name; file systems take 255, and some names get an ending."""

# A separator of any system, a drive, and characters that no terminal shows.
_FORBIDDEN = re.compile(r"[/\\:\x00-\x1f\x7f]")


def check_name(name: str, option: str) -> str:
    """Return the name if it is one part of a path that stays in its folder.

    Args:
        name: The name, from a user, a checkpoint or a server.
        option: What carries the name, for the message.

    Raises:
        MentallamError: It is empty, begins with a dot, is too long, or holds a separator or a control character.
    """
    if (
        not name
        or name.startswith(".")
        or _FORBIDDEN.search(name)
        or len(name.encode(errors="surrogatepass")) > LONGEST_NAME
    ):
        shown = ascii(name if len(name) <= 40 else f"{name[:40]}...")
        raise MentallamError(
            f"{option}={shown} can't be part of a path: a name has 1 to {LONGEST_NAME} bytes, does not begin with a "
            "dot, and holds neither slash, backslash, colon nor control character"
        )
    return name


def check_path_within(path: str, option: str) -> str:
    """Return a relative path if it stays below the folder that it is meant for.

    Args:
        path: Names separated by slashes, from a checkpoint or a server.
        option: What carries the path, for the message.

    Raises:
        MentallamError: It is absolute, or one of its parts is no name.
    """
    for part in PurePosixPath(path).parts or [""]:
        check_name(part, option)
    return path
