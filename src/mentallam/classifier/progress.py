"""Progress of work while it runs: one line on the screen or in the log; and the memory that it took."""

import logging
import sys
from typing import Any

import psutil
import torch
from tqdm import tqdm

from mentallam.device import on_gpu

logger = logging.getLogger(__name__)

# Without a terminal no line can be overwritten, so lines are rare.
_SECONDS_PER_LINE = 30.0
_LINE = "{desc}: {n_fmt}/{total_fmt} {unit}, {elapsed} so far, {remaining} left{postfix}"


_lines_only = False


def show_lines() -> None:
    """Show lines on a terminal, too, since another process writes to it at the same time."""
    global _lines_only
    _lines_only = True


def progress_bar(total: int | None, title: str | None, unit: str, done: int = 0) -> "tqdm[Any]":
    """Return a progress bar for a terminal; elsewhere, such as in a log file, one that logs a line every half minute.

    Args:
        total: Number of units to do; None if it is not known.
        title: Title of the bar; None shows neither bar nor lines.
        unit: Name of the unit, in the plural.
        done: Units that an earlier process has done.
    """
    if sys.stderr.isatty() and not _lines_only:
        unit = f" {unit}"
        return tqdm(
            total=total, initial=done, desc=title, unit=unit, disable=title is None, dynamic_ncols=True, leave=False
        )
    return tqdm(
        total=total,
        initial=done,
        desc=title,
        unit=unit,
        disable=title is None,
        file=_LogLines(),
        mininterval=_SECONDS_PER_LINE,
        delay=_SECONDS_PER_LINE,  # what takes less needs no line
        leave=False,  # the last line would come twice
        miniters=1,  # Otherwise tqdm's monitor thread prints more lines.
        bar_format=_LINE,
    )


class _LogLines:
    """A file for tqdm that turns each state of the bar into a log record."""

    def write(self, text: str) -> None:
        line = text.replace("\x1b[A", "").strip()
        if line:
            logger.info(line)

    def flush(self) -> None:
        """Do nothing: log records are not buffered."""


def peak_memory() -> dict[str, float]:
    """Return peak_rss_bytes of this process since it began and, with a GPU, peak_gpu_bytes of torch's tensors."""
    if sys.platform == "win32":
        peak = psutil.Process().memory_info().peak_wset
    else:
        import resource  # Windows lacks this module.

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    peaks = {"peak_rss_bytes": float(peak)}
    if on_gpu():
        peaks["peak_gpu_bytes"] = float(torch.cuda.max_memory_allocated())
    return peaks
