import sys
from pathlib import Path

import pytest

from mentallam.errors import MentallamError
from mentallam.repeated_runs import run_all, seed_commands

DATA = Path("/somewhere/data")


def params(command: list[str]) -> dict[str, str]:
    return dict(part.split("=", 1) for part in command[command.index("--params") + 1].split(","))


def test_a_run_per_seed_of_which_the_first_seeds_comes_last_and_reports_all() -> None:
    given = ("both", DATA, "test", "training.max_epochs=2", ["system_metrics_interval=3"])
    *others, last = seed_commands([42, 7, 8], *given)  # type: ignore[arg-type]
    assert [command[:3] for command in (*others, last)] == [["run", "--env", "test"]] * 3
    assert [params(command)["folds.seed"] for command in others] == ["7", "8"]
    assert {params(command)["registry.use"] for command in others} == {"none"}  # compared with the first, not offered
    tables = (f"/somewhere/data/seed_{seed}/07_model_output/oof_predictions.parquet" for seed in (7, 8))
    assert params(last) == {
        "data_dir": "/somewhere/data/seed_42",
        "overrides": "training.max_epochs=2 training.seed=42",
        "folds.seed": "42",
        "repeats": ";".join(tables),
        "system_metrics_interval": "3",
    }


@pytest.mark.parametrize(("vary", "given"), [("folds", {"folds.seed"}), ("training", {"overrides"})])
def test_one_of_the_two_seeds_is_varied_alone(vary: str, given: set[str]) -> None:
    *_, last = seed_commands([42, 7], vary, DATA, None)  # type: ignore[arg-type]
    assert params(last).keys() == {"data_dir", "repeats", *given}
    assert last[:2] == ["run", "--params"]


@pytest.mark.parametrize("seeds", [[], [42], [42, 42]])
def test_fewer_than_two_seeds_are_refused(seeds: list[int]) -> None:
    with pytest.raises(MentallamError, match="two or more seeds, each once"):
        seed_commands(seeds, "both", DATA, None)


def test_a_folder_that_params_cannot_carry_is_refused() -> None:
    with pytest.raises(MentallamError, match="which --params can't carry"):
        seed_commands([1, 2], "both", Path("/a,b"), None)


def test_the_first_failure_ends_the_commands_with_its_code(tmp_path: Path) -> None:
    write = "import sys; open(sys.argv[1], 'w'); sys.exit(int(sys.argv[2]))"
    commands = [["one", "0"], ["two", "138"], ["three", "0"]]
    assert run_all([sys.executable, "-c", write], commands, tmp_path) == 138
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one", "two"]
    assert run_all([sys.executable, "-c", write], commands[:1], tmp_path) == 0
