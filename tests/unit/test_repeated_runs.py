import json
import sys
from pathlib import Path

import pytest

from mentallam.errors import MentallamError
from mentallam.repeated_runs import PlannedRun, plan_runs, reports, run_all, train_folds, write_grid

DATA = Path("/somewhere/data")


def given(run: PlannedRun) -> dict[str, str]:
    return dict(part.split("=", 1) for part in ",".join(run.params).split(","))


def test_a_run_per_seed_of_which_the_first_seeds_comes_last_and_reports_all() -> None:
    *others, last = plan_runs([42, 7, 8], "both", DATA, "training.max_epochs=2", ["system_metrics_interval=3"])
    assert [given(run)["folds.seed"] for run in others] == ["7", "8"]
    assert {given(run)["registry.use"] for run in others} == {"none"}  # compared with the first, not offered
    tables = (f"/somewhere/data/seed_{seed}/07_model_output/oof_predictions.parquet" for seed in (7, 8))
    assert given(last) == {
        "data_dir": "/somewhere/data/seed_42",
        "overrides": "training.max_epochs=2 training.seed=42",
        "folds.seed": "42",
        "repeats": ";".join(tables),
        "study": last.study,
        "system_metrics_interval": "3",
    }
    assert last.arguments("test")[:4] == ["run", "--env", "test", "--params"]
    assert reports([*others, last]) == {"": DATA / "seed_42" / "08_reporting" / "report.html"}


@pytest.mark.parametrize(("vary", "seeded"), [("folds", {"folds.seed"}), ("training", {"overrides"})])
def test_one_of_the_two_seeds_is_varied_alone(vary: str, seeded: set[str]) -> None:
    *_, last = plan_runs([42, 7], vary, DATA)  # type: ignore[arg-type]
    assert given(last).keys() == {"data_dir", "repeats", "study", *seeded}
    assert last.arguments(None)[:2] == ["run", "--params"]


def test_each_configuration_of_a_grid_has_its_runs_and_its_report_and_none_is_registered() -> None:
    grid = ["adapter.r=8", "adapter.r=16  training.max_epochs=4"]
    runs = plan_runs([1, 2], "both", DATA, "training.learning_rate=0.002", grid=grid)
    assert [(run.configuration, run.seed) for run in runs] == [
        *(("adapter.r=8", seed) for seed in (2, 1)),
        *(("adapter.r=16 training.max_epochs=4", seed) for seed in (2, 1)),
    ]
    assert len({run.folder for run in runs}) == len(runs)
    assert given(runs[-1])["overrides"] == (
        "training.learning_rate=0.002 adapter.r=16 training.max_epochs=4 training.seed=1"
    )
    assert {given(run)["registry.use"] for run in runs} == {"none"}
    of_its_own = str(DATA / "adapter.r-16-training.max_epochs-4" / "seed_2" / "07_model_output/oof_predictions.parquet")
    assert given(runs[-1])["repeats"] == of_its_own
    assert [str(report.parent.parent.parent.name) for report in reports(runs).values()] == [
        "adapter.r-8",
        "adapter.r-16-training.max_epochs-4",
    ]


def test_a_study_has_one_name_that_the_same_command_gives_again() -> None:
    def names(*seeds: int, grid: tuple[str, ...] = ()) -> set[str]:
        return {run.study for run in plan_runs(seeds, "both", DATA, grid=grid)}

    assert len(names(1, 2)) == 1
    assert names(1, 2) == names(1, 2)
    assert len(names(1, 2) | names(1, 3) | names(1, 2, grid=("adapter.r=4",)) | names(1, 2, grid=("adapter.r=8",))) == 4


@pytest.mark.parametrize("seeds", [[], [42], [42, 42]])
def test_fewer_than_two_seeds_are_refused(seeds: list[int]) -> None:
    with pytest.raises(MentallamError, match="two or more seeds, each once"):
        plan_runs(seeds, "both", DATA)


@pytest.mark.parametrize(
    ("grid", "sentence"),
    [
        (["adapter.r=8", " adapter.r=8"], "twice"),
        (["adapter.r=8", ""], "nothing"),
        (["adapter.target_modules=[q_proj,v_proj]"], "comma"),
    ],
)
def test_a_grid_that_is_none_is_refused(grid: list[str], sentence: str) -> None:
    with pytest.raises(MentallamError, match=rf"--grid.*{sentence}"):
        plan_runs([1, 2], "both", DATA, grid=grid)


def test_a_folder_that_params_cannot_carry_is_refused() -> None:
    with pytest.raises(MentallamError, match="which --params can't carry"):
        plan_runs([1, 2], "both", Path("/a,b"))


def planned(folder: Path, *codes: int) -> list[PlannedRun]:
    """Return runs that write their parameters and end with a code."""
    return [
        PlannedRun(
            "a" if at < 2 else "b", at, folder / f"seed_{at}", "s", (f"code={code}", "x=1,fresh=true", "fresh=1")
        )
        for at, code in enumerate(codes)
    ]


def test_the_first_failure_ends_the_runs_with_its_code(tmp_path: Path) -> None:
    write = "import sys; open('log', 'a').write(sys.argv[-1] + '\\n'); sys.exit(int(sys.argv[-1][5:].split(',')[0]))"
    program = [sys.executable, "-c", write]
    assert run_all(program, planned(tmp_path, 0, 138, 0), None, tmp_path) == 138
    # What was to begin anew has been opened by the queue, and its folds are trained.
    assert (tmp_path / "log").read_text().splitlines() == [
        f"code={code},x=1,cluster.backend=sequential,cluster.storage=null" for code in (0, 138)
    ]
    assert run_all(program, planned(tmp_path, 0), None, tmp_path) == 0


def test_the_queue_and_the_table_get_all_runs(tmp_path: Path) -> None:
    program = [sys.executable, "-c", "import sys; open('got', 'w').write(sys.stdin.read()); sys.exit(3)"]
    runs = planned(tmp_path, 0, 0, 0)
    assert train_folds(program, runs, "test", tmp_path) == 3
    queued = json.loads((tmp_path / "got").read_text())
    assert [each["title"] for each in queued] == ["a seed 0", "a seed 1", "b seed 2"]
    assert queued[0]["arguments"] == ["--env", "test", "--params", "code=0,x=1,fresh=true,fresh=1"]
    assert write_grid(program, runs, tmp_path / "grid", tmp_path) == 3
    table = json.loads((tmp_path / "got").read_text())
    assert [list(seeds) for seeds in table["runs"].values()] == [["1", "0"], ["2"]]  # the reported run first
