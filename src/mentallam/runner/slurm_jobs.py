"""The jobs of a study in SLURM's queue, found by their name.

`squeue` is asked, never `sacct`: it knows at once which jobs have not ended, and needs no accounting, which a cluster
may be without.
"""

import hashlib
import logging
import shutil
import subprocess
import time
from pathlib import Path

from mentallam.errors import MentallamError

logger = logging.getLogger(__name__)

# SLURM's advice: ask rarely, since every question holds up its scheduler.
_ASK_S = 10.0
_END_S = 0.5  # between two questions while jobs are coming to their end


class JobQueue:
    """The jobs in the queue whose folds belong to one data folder.

    Args:
        data: The data folder.
    """

    def __init__(self, data: Path) -> None:
        self.name = f"mentallam-{hashlib.sha256(str(data.resolve()).encode()).hexdigest()[:8]}"
        self._known, self._asked = set[str](), float("-inf")

    def holds(self, job: str) -> bool:
        """Return whether a job waits or runs; the queue is asked every ten seconds, and counts while it is silent."""
        if time.monotonic() - self._asked > _ASK_S:
            found = self.jobs()
            self._known, self._asked = (self._known if found is None else found), time.monotonic()
        return job in self._known

    def add(self, job: str) -> None:
        """Note a job that has just been submitted."""
        self._known.add(job)

    def jobs(self) -> set[str] | None:
        """Return the numbers of the jobs that wait or run; None if SLURM does not answer."""
        command = ["squeue", "--me", f"--name={self.name}", "--noheader", "--format=%i"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        return set(done.stdout.split()) if done.returncode == 0 else None

    def end(self) -> None:
        """Cancel the jobs that a killed run has left, and wait until they have saved their states and are gone.

        Raises:
            MentallamError: SLURM does not answer.
        """
        told = set[str]()
        while jobs := self._answered():
            if new := jobs - told:
                logger.warning("jobs of an earlier run are cancelled (%s): their folds go on", ", ".join(sorted(new)))
                subprocess.run(["scancel", *new], check=False)
                told |= new
            time.sleep(_END_S)

    def _answered(self) -> set[str]:
        jobs = self.jobs()
        if jobs is None:
            raise MentallamError("squeue fails, and an earlier run may have left jobs: try again when SLURM answers")
        return jobs


def end_jobs(data: Path) -> None:
    """End the jobs that an earlier run in this data folder has left in SLURM's queue, if it has submitted any.

    Raises:
        MentallamError: SLURM does not answer.
    """
    if jobs_folder(data).is_dir() and shutil.which("squeue"):
        JobQueue(data).end()


def jobs_folder(data: Path) -> Path:
    """Return the folder of the jobs' files: what they run, their logs and their outcomes."""
    return data / "jobs"
