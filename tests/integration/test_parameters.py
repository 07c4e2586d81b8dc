"""A given parameter takes effect or is refused, however the run starts; nothing is trained here."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner
from kedro.framework.startup import bootstrap_project

from mentallam.cli import run
from tests.integration.workspace import Workspace
from tests.samples import PROJECT

REFUSED = {
    "inptu=x": "nothing reads the parameter inptu: did you mean input",
    "inference.threshold=0.9": 'write --params "overrides=inference.threshold=0.9" instead',
    "modle=": "did you mean model",
    "fold.seed=": "did you mean folds.seed",
    "overide=": "did you mean overrides",
    "folds.sed=1": "did you mean folds.seed",
    "folds.seed=-1": "folds.seed is -1; it must be greater than or equal to 0",
    "uncertainty.confidence=95": "uncertainty.confidence is 95; it must be less than 1",
    "registry.use=folds": "registry.use is 'folds'; it takes 'ensemble', 'best_fold', 'refit' or 'none'",
    "cleaning.mask=maybe": "cleaning.mask is 'maybe'; it takes true or false",
    "audited_profiles=nope": "audited_profiles is 'nope'; it takes a list",
    "system_metrics_interval=abc": "system_metrics_interval is 'abc'; it takes a number",
    "model=2": "model is read as a number, but takes text: quote it",
    "corpus_dir=x": "nothing reads the parameter corpus_dir here, but under --env mentallam or pairs",
    "input=[a].csv": "quote the value, as in --params \"input='[a].csv'\"",
    "input=a #b.csv": "YAML, which ignores everything from `#` on",
    "input=${nope}": "the parameters can't be read: ",
}


@pytest.mark.parametrize("params", REFUSED)
def test_what_takes_no_effect_is_refused(untouched: Workspace, kedro_run: Callable[..., str], params: str) -> None:
    sentence = kedro_run(untouched, params=params)
    assert sentence.startswith("Error: ")
    assert REFUSED[params] in sentence
    assert not (untouched.folder / "mlflow.db").exists()  # no connection was made


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--pipeline", "infrence"), "--pipelines infrence: there is no such name: did you mean inference"),
        (("--pipelines", "nope"), "there are: __default__, compare, cv_training, data_processing"),
        (("--from-nodes", "assign_fold"), "did you mean data_processing.assign_folds"),
        (("--pipelines", "cv_training", "--namespaces", "fold_9"), "--namespaces fold_9: there is no such name"),
        (("--to-outputs", "post"), "--to-outputs post: there is no such name: did you mean posts"),
    ],
)
def test_a_misspelt_name_on_the_command_line(
    empty: Workspace, kedro_run: Callable[..., str], arguments: tuple[str, ...], sentence: str
) -> None:
    assert sentence in kedro_run(empty, *arguments)


@pytest.mark.parametrize(
    ("pipeline", "params", "sentence"),
    [
        ("inference", "input=x.csv,folds.seed=3", "folds.seed would change nothing in this run: group_posts"),
        ("inference", "input=x.csv,repeats=x.parquet", "of the pipeline reporting"),
        ("inference", "input=x.csv,output_format=xlsx", "output_format=xlsx is not one of jsonl, csv, parquet"),
        ("inference", "input=x.csv,output=y.csv,output_format=jsonl", "does not fit output_format=jsonl"),
        ("memory_plan", "system_metrics_interval=3", "of the pipeline refit reads it"),
        ("compare", "first=a,second=b,overrides=adapter.r=4", "overrides would change nothing in this run"),
    ],
)
def test_what_the_chosen_nodes_do_not_read(
    empty: Workspace, kedro_run: Callable[..., str], pipeline: str, params: str, sentence: str
) -> None:
    assert sentence in kedro_run(empty, "--pipeline", pipeline, params=params)


@pytest.mark.parametrize(
    ("name", "option"),
    [
        *((name, "--pipeline") for name in ("my posts.csv", "2024-01-01.csv", "1e5.csv", "true.csv", "a:b.csv")),
        *(("a=b.csv", option) for option in ("--pipeline", "--pipelines")),
    ],
)
def test_every_other_path_is_an_input(
    empty: Workspace, kedro_run: Callable[..., str], tmp_path: Path, name: str, option: str
) -> None:
    (tmp_path / name).write_text("text\nsleepless\n", encoding="utf-8")
    sentence = kedro_run(empty, option, "inference", params=f"input={tmp_path}/{name}")
    assert "no champion yet" in sentence  # so the file was read


def test_a_run_file_is_checked_as_the_command_line_is(
    empty: Workspace, kedro_run: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", empty.environment["MLFLOW_TRACKING_URI"])
    file = tmp_path / "run.yml"
    file.write_text(yaml.safe_dump({"run": {"env": "test", "params": {"folds.seed": 7}}}))
    result = CliRunner().invoke(run, ["--config", str(file)])
    assert result.exit_code == 1
    assert "the parameter folds.seed has a dot in its key" in result.stderr
    file.write_text(yaml.safe_dump({"run": {"env": "test", "pipeline": "inference", "params": {"input": "a, b.csv"}}}))
    assert "a, b.csv is no file" in CliRunner().invoke(run, ["--config", str(file)]).stderr


def test_the_environment_may_come_from_a_variable(
    empty: Workspace, kedro_run: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KEDRO_ENV", "tset")
    assert "--env tset: there is no folder tset in conf" in kedro_run(empty, env="")
    monkeypatch.setenv("KEDRO_ENV", "pairs")
    assert "corpus_dir" not in kedro_run(empty, "--pipeline", "data_processing", params="corpus_dir=/nowhere", env="")


def test_a_configuration_elsewhere_with_another_environment(
    empty: Workspace, kedro_run: Callable[..., str], tmp_path: Path
) -> None:
    conf = Path(shutil.copytree(PROJECT / "conf", tmp_path / "conf"))
    shutil.copytree(conf / "test", conf / "lab")
    elsewhere = ("--conf-source", str(conf), "--pipeline", "data_processing")
    assert kedro_run(empty, *elsewhere, env="lab") == ""
    (conf / "lab" / "parameters.yml").write_text("folds:\n  sed: 3\n")
    assert "nothing reads the parameter folds.sed: did you mean folds.seed" in kedro_run(empty, *elsewhere, env="lab")
    (conf / "lab" / "parameters.yml").write_text("fold:\n  seed: 3\n")
    assert "no pipeline reads the parameter fold: did you mean folds" in kedro_run(empty, *elsewhere, env="lab")
    (conf / "lab" / "parameters.yml").write_text("folds: [\n")
    assert "lab/parameters.yml line 2 is not valid YAML" in kedro_run(empty, *elsewhere, env="lab")


def test_all_datasets_agree_on_what_a_relative_folder_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from kedro.framework.session import KedroSession

    bootstrap_project(PROJECT)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    params = {"data_dir": "out2", "raw_dir": "raw2", "base_models": "base2"}
    with KedroSession.create(PROJECT, env="test", runtime_params=params) as session:
        context = session.load_context()  # type: ignore[attr-defined]
    checkpoint, corpus = (context.catalog[name]._describe() for name in ("fold_1_checkpoint", "corpus"))
    assert str(context.catalog["posts"]._describe()["filepath"]) == f"{PROJECT}/out2/02_intermediate/posts.parquet"
    assert checkpoint == {"folder": f"{PROJECT}/out2/06_models/fold_1", "base_models": f"{PROJECT}/base2"}
    assert corpus["folder"] == f"{PROJECT}/raw2/sample"
    assert context.params["criteria_file"] == f"{PROJECT}/raw2/dsm5_criteria.csv"


@pytest.mark.parametrize("command", [("kedro", "registry", "list"), ("mentallam", "predict", "tired")])
def test_a_wrong_number_of_folds_is_one_line_in_every_command(empty: Workspace, command: tuple[str, ...]) -> None:
    done = empty.forked(*command, MENTALLAM_CV_FOLDS="2.0")
    assert done.returncode == 1
    assert "Error: MENTALLAM_CV_FOLDS is '2.0'; it takes a whole number from 2 on" in done.stderr
    assert "Traceback" not in done.stdout + done.stderr
