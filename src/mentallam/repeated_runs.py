"""One recipe, or several, with several seeds: the commands that run them; each report is over the seeds of a recipe."""

import hashlib
import json
import re
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import Literal

from mentallam.errors import MentallamError

Vary = Literal["folds", "training", "both"]
OUT_OF_FOLD = Path("07_model_output") / "oof_predictions.parquet"
# Folds are trained by then; what is left is the report, in one process.
_REPORTS = ("cluster.backend=sequential", "cluster.storage=null")
_FRESH = re.compile(r"(^|,)\s*fresh=[^,]*")


@dataclass(frozen=True)
class PlannedRun:
    """An ordinary run in a data folder of its own.

    Attributes:
        configuration: Its overrides; empty where there is no grid.
        seed: Its seed.
        folder: Its data folder.
        study: The tag of the study.
        params: Its parameters, as `--params` takes them.
    """

    configuration: str
    seed: int
    folder: Path
    study: str
    params: tuple[str, ...]

    @property
    def title(self) -> str:
        """What messages call it."""
        return f"{self.configuration} seed {self.seed}".strip()

    def arguments(self, env: str | None) -> list[str]:
        """Return the arguments of `mentallam` for it."""
        return ["run", *(["--env", env] if env else []), "--params", ",".join(self.params)]


def plan_runs(
    seeds: Sequence[int],
    vary: Vary,
    data: Path,
    overrides: str = "",
    others: Sequence[str] = (),
    grid: Sequence[str] = (),
) -> list[PlannedRun]:
    """Return the runs of all configurations and seeds.

    A configuration's first seed comes last among its seeds, since its run finds the tables of the others, and reports
    all. Without a grid that run alone is offered to the registry; of a grid none is, since a choice among
    configurations by what is reported would make the champion's figures too good.

    Args:
        seeds: Each once.
        vary: Which seed they are: `folds.seed`, `training.seed` or both.
        data: The folder that gets a folder `seed_<n>` per seed; with a grid, in a folder per configuration.
        overrides: Hydra overrides of every run.
        others: Other parameters of every run, as `--params` takes them.
        grid: Hydra overrides of each configuration; empty for one.

    Raises:
        MentallamError: Fewer than two seeds, a seed or a configuration twice, a path or overrides that `--params` can't
            carry.
    """
    if len(seeds) < 2 or len({*seeds}) < len(seeds):
        raise MentallamError("a spread needs two or more seeds, each once, as in `mentallam seeds 42 142 242`")
    if any(sign in str(data) for sign in ",;="):
        raise MentallamError(f"the data folder {data} holds one of , ; =, which --params can't carry; choose another")
    configurations = [" ".join(each.split()) for each in grid] or [""]
    if grid and not all(configurations):
        raise MentallamError("--grid: a configuration changes nothing; name the overrides of the first one, too")
    folders = {each: folder_name(each) for each in configurations}
    if len({*folders.values()}) < len(grid):
        raise MentallamError("--grid: a configuration is there twice; each once")
    if commas := next((each for each in configurations if "," in each), None):
        raise MentallamError(f"--grid {commas!r} holds a comma, which --params can't carry: write a group file for it")
    study = _study_name(seeds, vary, overrides, grid)
    first, *repeats = seeds
    runs = []
    for configuration in configurations:
        where = data / folders[configuration]
        tables = ";".join(str(where / f"seed_{seed}" / OUT_OF_FOLD) for seed in repeats)
        for seed in (*repeats, first):
            training = f"training.seed={seed}" if vary != "folds" else ""
            words = " ".join(filter(None, (overrides, configuration, training)))
            params = [
                f"data_dir={where / f'seed_{seed}'}",
                *([f"overrides={words}"] if words else []),
                *([f"folds.seed={seed}"] if vary != "training" else []),
                *([f"repeats={tables}"] if seed == first else []),
                *(["registry.use=none"] if grid or seed != first else []),
                f"study={study}",
                *others,
            ]
            runs.append(PlannedRun(configuration, seed, where / f"seed_{seed}", study, tuple(params)))
    return runs


def folder_name(configuration: str) -> str:
    """Return the name of a configuration's folder: its overrides, with a dash for what a path may not hold."""
    return re.sub(r"[^\w.-]+", "-", configuration).strip("-")


def reports(runs: Iterable[PlannedRun]) -> dict[str, Path]:
    """Return each configuration's report."""
    last = {run.configuration: run.folder for run in runs}
    return {configuration: folder / "08_reporting" / "report.html" for configuration, folder in last.items()}


def train_folds(program: Sequence[str], runs: Iterable[PlannedRun], env: str | None, folder: Path) -> int:
    """Train the folds of all runs from one queue, if the configuration places folds elsewhere; return the exit code.

    Args:
        program: The program of the queue.
        runs: The runs.
        env: The Kedro environment.
        folder: Where it runs.
    """
    commands = [{"title": run.title, "arguments": run.arguments(env)[1:]} for run in runs]
    return subprocess.run(program, input=json.dumps(commands), text=True, cwd=folder).returncode


def run_all(program: Sequence[str], runs: Iterable[PlannedRun], env: str | None, folder: Path) -> int:
    """Run what is left of each run, one after the other, until one fails; return its exit code, or 0.

    What was to begin anew has been opened by then, and goes on.

    Args:
        program: What comes before each run's arguments.
        runs: The runs, after `train_folds`.
        env: The Kedro environment.
        folder: Where they run.
    """
    for run in runs:
        params = tuple(filter(None, (_FRESH.sub("", each).strip(",") for each in (*run.params, *_REPORTS))))
        arguments = replace(run, params=params).arguments(env)
        if code := subprocess.run([*program, *arguments], cwd=folder).returncode:
            return code
    return 0


def write_grid(program: Sequence[str], runs: Iterable[PlannedRun], to: Path, folder: Path) -> int:
    """Write the table that compares the configurations, and print where it lies; return the exit code.

    Args:
        program: The program of the table.
        runs: The runs, which are reported.
        to: The folder to write.
        folder: Where it runs.
    """
    runs = list(runs)
    of_each = {key: list(group) for key, group in groupby(runs, key=lambda run: run.configuration)}
    folders = {
        configuration: {str(run.seed): str(run.folder) for run in [group[-1], *group[:-1]]}
        for configuration, group in of_each.items()
    }
    given = {"study": runs[0].study, "to": str(to), "runs": folders}
    return subprocess.run(program, input=json.dumps(given), text=True, cwd=folder).returncode


def _study_name(seeds: Sequence[int], vary: Vary, overrides: str, grid: Sequence[str]) -> str:
    """Return a name that the same command gives again, and another command does not."""
    digest = hashlib.sha256(json.dumps([seeds, vary, overrides, grid]).encode()).hexdigest()[:6]
    return "-".join(["seeds", *map(str, seeds), *(["grid"] if grid else []), digest])
