"""This process's memory from Linux's /proc, since no library reads or resets the kernel's peak."""

import threading
from pathlib import Path

STATUS, CLEAR_REFS = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def memory(field: str) -> int:
    """Return the bytes of VmRSS (all), RssAnon (not backed by a file) or VmHWM (the peak of VmRSS)."""
    [line] = [line for line in STATUS.read_text().splitlines() if line.startswith(f"{field}:")]
    return int(line.split()[1]) * 1024


def reset_peak() -> None:
    """Restart VmHWM from now."""
    CLEAR_REFS.write_text("5")


class AnonymousPeak:
    """The peak of RssAnon, which the kernel doesn't keep: a thread reads it twenty times a second."""

    def __enter__(self) -> "AnonymousPeak":
        self.bytes = memory("RssAnon")
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()
        return self

    def _look(self) -> None:
        while not self._done.wait(0.05):
            self.bytes = max(self.bytes, memory("RssAnon"))

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()
        self.bytes = max(self.bytes, memory("RssAnon"))
