"""One recipe with several seeds: the commands that run it, one after the other; the last one reports all."""

import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal

from mentallam.errors import MentallamError

Vary = Literal["folds", "training", "both"]
OUT_OF_FOLD = Path("07_model_output") / "oof_predictions.parquet"


def seed_commands(
    seeds: Sequence[int], vary: Vary, data: Path, env: str | None, overrides: str = "", others: Sequence[str] = ()
) -> list[list[str]]:
    """Return the arguments of `kedro` for a run per seed, of which the last one reports all.

    Each run is an ordinary one in its own data folder, so that a repeated command goes on where the last one stopped.
    Only the first seed's run is offered to the registry: the others exist to be compared with it. It comes last, so
    that it finds their tables.

    Args:
        seeds: Each once; the report is written in the folder of the first.
        vary: Which seed they are: `folds.seed`, `training.seed` or both.
        data: The folder that gets a folder `seed_<n>` per seed.
        env: The Kedro environment.
        overrides: Hydra overrides of every run.
        others: Other parameters of every run, as `--params` takes them.

    Raises:
        MentallamError: Fewer than two seeds, a seed twice, or a path that `--params` can't carry.
    """
    if len(seeds) < 2 or len({*seeds}) < len(seeds):
        raise MentallamError("a spread needs two or more seeds, each once, as in `mentallam seeds 42 142 242`")
    if any(sign in str(data) for sign in ",;="):
        raise MentallamError(f"the data folder {data} holds one of , ; =, which --params can't carry; choose another")
    base = ["run", *(["--env", env] if env else [])]
    folders = {seed: data / f"seed_{seed}" for seed in seeds}
    first, *repeats = seeds
    commands = []
    for seed in (*repeats, first):
        given = {"data_dir": str(folders[seed])}
        training = f"training.seed={seed}" if vary != "folds" else ""
        if words := f"{overrides} {training}".strip():
            given["overrides"] = words
        if vary != "training":
            given["folds.seed"] = str(seed)
        if seed == first:
            given["repeats"] = ";".join(str(folders[other] / OUT_OF_FOLD) for other in repeats)
        else:
            given["registry.use"] = "none"
        params = [*(f"{name}={value}" for name, value in given.items()), *others]
        commands.append([*base, "--params", ",".join(params)])
    return commands


def run_all(program: Sequence[str], commands: Iterable[Sequence[str]], folder: Path) -> int:
    """Run commands one after the other until one fails; return its exit code, or 0.

    Args:
        program: What comes before each command's arguments.
        commands: The arguments.
        folder: Where they run.
    """
    for command in commands:
        if code := subprocess.run([*program, *command], cwd=folder).returncode:
            return code
    return 0
