"""Where the tests keep their temporary files."""

import os
import shutil
from pathlib import Path

_MEMORY = Path("/dev/shm")
_NEEDED = 4 * 2**30  # a run of all tests writes about 1 GB at most; the rest is for what they do with their memory


def folder_in_memory() -> str | None:
    """Return a folder that Linux keeps in memory, if there is one with enough space in which programs may be started.

    In a container it often has 64 MB only.
    """
    if not os.access(_MEMORY, os.W_OK) or os.statvfs(_MEMORY).f_flag & os.ST_NOEXEC:
        return None
    return str(_MEMORY) if shutil.disk_usage(_MEMORY).free > _NEEDED else None
