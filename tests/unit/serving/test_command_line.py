import json
import logging
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import mlflow
import pytest
from click.testing import CliRunner, Result

import mentallam
from mentallam.classifier.checkpoint import TrainedFold, save_checkpoint
from mentallam.config import InferenceConfig
from mentallam.config_loading import DATA_FOLDER
from mentallam.serving import command_line
from mentallam.serving.command_line import main
from mentallam.serving.command_line import predict as predict_command
from mentallam.serving.output_fields import fields_with
from mentallam.tracking import BEST_RUN_TAG, CHECKPOINT, Run
from tests.samples import CRITERIA, PROJECT

SECRET = "Marzipan lighthouse"


@pytest.fixture(autouse=True)
def project(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Run in the project's folder, and undo that the command silences logging for the whole process."""
    monkeypatch.chdir(PROJECT)
    yield
    logging.disable(logging.NOTSET)


@pytest.fixture
def model(experiment: str, trained: TrainedFold, tmp_path: Path) -> str:
    """Log a finished cross-validation; return the run of its best fold."""
    mlflow.set_experiment(experiment)
    with mlflow.start_run() as run:
        pass
    save_checkpoint(trained, tmp_path / "fold_1")
    Run(run.info.run_id).log_folder(tmp_path / "fold_1", CHECKPOINT)
    Run(run.info.run_id).set_tags({BEST_RUN_TAG: run.info.run_id})
    return str(run.info.run_id)


def predict(*arguments: str, stdin: str | bytes | None = None) -> Result:
    return CliRunner().invoke(main, ["predict", *arguments], input=stdin)


def check_refused(result: Result, *words: str) -> None:
    assert result.exit_code == 1, (result.output, result.exception)
    assert result.stdout == ""
    sentence = result.stderr.strip()
    assert sentence.startswith("Error: ")
    assert "\n" not in sentence
    assert all(word in sentence for word in words), sentence
    assert "arzipan" not in result.output


def test_json_is_all_that_is_on_standard_output(kedro: dict[str, Any], model: str) -> None:
    result = predict(f"{SECRET} with, commas: and 'quotes' # @", "--json")
    assert result.exit_code == 0, result.output
    content = json.loads(result.stdout)
    assert [row["criterion_id"] for row in content["answers"]] == list(CRITERIA)
    for row in content["answers"]:
        assert [*row] == [f.name for f in fields_with(explain=False) if f.name not in ("post_id", "run_id")]
        assert row["label"] == ("yes" if row["probability"] >= row["threshold"] else "no")
        assert row["threshold"] == 0.37
    assert content["model"]["run_id"] == "fold-run"
    assert "never a diagnosis" in content["notice"] and "988" in content["notice"]
    assert "arzipan" not in result.output


def test_the_table_has_a_row_per_criterion_and_the_notice(kedro: dict[str, Any], model: str) -> None:
    result = predict(SECRET)
    assert result.exit_code == 0, result.output
    for criterion_id, wording in CRITERIA.items():
        line = next(line for line in result.stdout.splitlines() if criterion_id in line)
        assert wording.split()[0] in line
        assert "0.37" in line
        assert "yes" in line or "no" in line
    assert "never a diagnosis" in " ".join(result.stdout.split())
    assert "Caution: SYNTHETIC training posts\n" in result.stdout  # of every criterion, so none is named
    assert "arzipan" not in result.output


def test_a_caution_names_the_criteria_that_it_is_about() -> None:
    answers = {"criterion_id": ["A.1", "A.2", "A.3"], "caution": ["one; two", "one", "one; two"]}
    assert command_line._cautions(answers) == {"one": ["A.1", "A.2", "A.3"], "two": ["A.1", "A.3"]}


def test_an_unknown_criterion_is_refused_before_a_model_is_loaded(
    kedro: dict[str, Any], model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "mentallam.serving.predictor", None)
    check_refused(predict(SECRET, "--criterion", "A.99"), "unknown criterion A.99; this model knows A.1, A.4, A.6")


def test_named_criteria_are_asked_in_order_and_once(kedro: dict[str, Any], model: str) -> None:
    result = predict("text", "--json", "--criterion", "A.6", "--criterion", "A.1", "--criterion", "A.6")
    assert [row["criterion_id"] for row in json.loads(result.stdout)["answers"]] == ["A.6", "A.1"]


def test_a_dash_reads_standard_input(kedro: dict[str, Any], model: str) -> None:
    text = "Schlaflos \u2014 I can't sleep."
    piped = predict("-", "--json", stdin=text.encode())
    assert piped.exit_code == 0, piped.output
    assert json.loads(piped.stdout) == json.loads(predict(text, "--json").stdout)
    assert json.loads(piped.stdout) != json.loads(predict("something else", "--json").stdout)


def test_a_text_may_start_with_a_dash(kedro: dict[str, Any], model: str) -> None:
    for arguments in (["- could not sleep"], ["--json could not sleep"], ["--", "-sleepless"], ["-- not a word"]):
        result = predict("--json", *arguments, *(["--criterion", "A.4"] if "--" not in arguments else []))
        assert result.exit_code == 0, (arguments, result.output)
        assert json.loads(result.stdout) != json.loads(predict("something else", "--json").stdout)
    text = "- could not sleep"
    rows = json.loads(predict(text, "--criterion=A.4", "--json").stdout)
    assert rows == json.loads(predict("-", "--criterion", "A.4", "--json", stdin=text).stdout)


def test_one_word_with_a_dash_hints_at_the_way_out(kedro: dict[str, Any]) -> None:
    result = predict("-sleepless")
    assert result.exit_code == 2
    assert "a text that starts with a dash goes behind `--`" in result.stderr


def test_the_profile_and_the_project_are_passed_on(kedro: dict[str, Any], model: str) -> None:
    predict("text", "--env", "test")
    assert kedro == {"project": PROJECT, "env": "test", "sessions": 1}
    predict("text")
    assert kedro["env"] is None


def test_another_run_can_be_named(kedro: dict[str, Any], model: str) -> None:
    assert predict("text", "--model", model).exit_code == 0
    check_refused(predict(SECRET, "--model", "feed"), "model=feed is no run")


def test_a_folder_can_be_named(kedro: dict[str, Any], trained: TrainedFold, tmp_path: Path) -> None:
    save_checkpoint(trained, tmp_path / "somewhere")
    result = predict("text", "--model", str(tmp_path / "somewhere"), "--json")
    assert json.loads(result.stdout)["model"]["run_id"] == "fold-run"
    assert kedro["sessions"] == 0
    check_refused(predict(SECRET, "--model", str(tmp_path)), f"model={tmp_path} is no folder of a checkpoint")
    check_refused(predict(SECRET, "--model", str(tmp_path / "nowhere")), "is no folder of a checkpoint")


def test_a_champion_is_found_without_mlflow_until_another_version_is(
    kedro: dict[str, Any], trained: TrainedFold, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = (tmp_path / name for name in ("first", "second"))
    for folder, run_id in ((first, "one"), (second, "two")):
        save_checkpoint(replace(trained, origin={**trained.origin, "run_id": run_id}), folder)
    now = [first]
    monkeypatch.setattr("mentallam.registry.find_checkpoints", lambda *_: now)
    client, name = mlflow.MlflowClient(), f"champion of {tmp_path.name}"
    monkeypatch.setitem(command_line.load_parameters(PROJECT, None)["registry"], "model", name)
    client.create_registered_model(name)
    for number in (1, 2):
        client.create_model_version(name, source=str(tmp_path))
        client.set_registered_model_alias(name, "champion", str(number))
        for asked in range(2):
            kedro["sessions"] = 0
            found = json.loads(predict("text", "--model", "champion", "--json").stdout)["model"]["run_id"]
            assert (found, kedro["sessions"]) == (("one", "two")[number - 1], 1 - asked)
        now[:] = [second]
    shutil.rmtree(second)  # the note names what is gone
    predict("text", "--model", "champion")
    assert kedro["sessions"] == 1


def test_the_default_is_the_champion(kedro: dict[str, Any]) -> None:
    check_refused(predict(SECRET, "--model", "champion"), "no champion yet", "never registered", "model=latest")


def test_a_wording_of_several_words_is_asked_and_marked(kedro: dict[str, Any], model: str) -> None:
    wording = "The author feels alone."
    rows = json.loads(predict("text", "--json", "--criterion", wording, "--criterion", "A.4").stdout)["answers"]
    assert [(row["criterion_id"], row["wording"]) for row in rows] == [
        ("A.4", "trained"),
        ("own_1", "untrained wording, uncalibrated"),
    ]
    table = " ".join(predict("text", "--criterion", wording).stdout.split())
    assert "own_1" in table and "untrained wording" in table
    known = json.loads(predict("text", "--json", "--criterion", CRITERIA["A.4"]).stdout)["answers"]
    assert [(row["criterion_id"], row["wording"]) for row in known] == [("A.4", "trained")]


def test_no_trained_model_yet_is_one_sentence(kedro: dict[str, Any]) -> None:
    check_refused(predict(SECRET), "no trained model yet", "kedro run --pipeline cv_training")


def test_an_unknown_criterion_is_one_sentence(kedro: dict[str, Any], model: str) -> None:
    check_refused(predict(SECRET, "--criterion", "B.2"), "unknown criterion B.2", "A.1, A.4, A.6")


@pytest.mark.parametrize("text", ["", "  \n", "\u200b\ufeff"])
def test_an_empty_text_is_one_sentence(text: str) -> None:
    check_refused(predict(text), "the text is empty")
    check_refused(predict("-", stdin=text), "the text is empty")


@pytest.mark.parametrize("arguments", [["-"], ["Marzipan \udcff"]])  # how Python receives a byte that is not UTF-8
def test_a_text_that_is_not_utf8_is_one_sentence(arguments: list[str]) -> None:
    check_refused(predict(*arguments, stdin=SECRET.encode() + b"\xff\xfe"), "not UTF-8")


def test_outside_a_project_a_folder_answers_as_in_one(
    kedro: dict[str, Any], trained: TrainedFold, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Outside, the base model is made again from what the checkpoint records."""
    save_checkpoint(trained, tmp_path / "fold_1")
    assert export(str(tmp_path / "fold_1"), "--to", str(tmp_path / "exported")).exit_code == 0
    names = ("fold_1", "exported")
    inside = [json.loads(predict("I am tired.", "--json", "--model", str(tmp_path / name)).stdout) for name in names]
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    asked = dict(kedro)
    for name, answer in zip(names, inside, strict=True):
        outside = predict("I am tired.", "--json", "--model", f"../{name}")
        assert outside.exit_code == 0, (outside.output, outside.exception)
        found = json.loads(outside.stdout)
        assert (found["answers"], found["model"]) == (answer["answers"], answer["model"])
        assert "findahelpline" in found["notice"]
    assert kedro == asked  # no configuration of a project was read
    assert sorted(path.name.partition("-")[0] for path in (tmp_path / "cache/mentallam/base_models").glob("[!.]*")) == [
        "merged",
        "tiny",
    ]
    assert export("../fold_1", "--to", "again").exit_code == 0
    weights = [folder / "model.safetensors" for folder in (tmp_path / "exported", Path("again"))]
    assert weights[0].read_bytes() == weights[1].read_bytes()


def test_outside_a_project_it_says_what_needs_one(
    trained: TrainedFold, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_checkpoint(trained, tmp_path / "fold_1")
    monkeypatch.chdir(tmp_path)
    for options in ([], ["--model", "champion"], ["--model", "nowhere"], ["--model", "fold_1", "--env", "test"]):
        check_refused(predict(SECRET, *options), "no mentallam project here", "name the folder of a checkpoint")
    for command in (["report"], ["runs"], ["seeds", "1", "2"], ["run"], ["run", "--help"]):
        check_refused(CliRunner().invoke(main, command), "no mentallam project here", "hydra_configs")
    machine = CliRunner().invoke(main, ["doctor"])
    assert machine.exit_code == 1
    assert [line.split()[1] for line in machine.stdout.splitlines() if "->" not in line] == [
        "mentallam",
        "Python",
        "memory",
        "compute",
    ]
    assert "no mentallam project here" in machine.stderr


def export(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["export", *arguments])


def test_a_run_or_a_folder_is_exported(kedro: dict[str, Any], model: str, tmp_path: Path) -> None:
    for number, source in enumerate((model, str(tmp_path / "fold_1"))):
        folder = tmp_path / f"exported_{number}"
        result = export(source, "--to", str(folder), "--dtype", "bfloat16", "--env", "test")
        assert result.exit_code == 0, (result.output, result.exception)
        assert json.loads((folder / "mentallam.json").read_text())["exported"]["dtype"] == "bfloat16"
        assert result.stdout.startswith(f"{folder} is written. Research screening, never a diagnosis.")
        assert f"python {folder}/example.py" in result.stdout
    assert kedro["env"] == "test"


def test_the_dtype_is_that_of_predictions_unless_it_is_named(
    kedro: dict[str, Any], model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = InferenceConfig(dtype="bfloat16")
    monkeypatch.setattr("mentallam.config.compose_inference", lambda *_: config)
    assert export(model, "--to", str(tmp_path / "exported")).exit_code == 0
    assert json.loads((tmp_path / "exported" / "config.json").read_text())["dtype"] == "bfloat16"


def test_a_champion_of_several_folds_is_exported_fold_by_fold(
    kedro: dict[str, Any], model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "ensemble.json").write_text('{"slope": 1.5, "intercept": -0.25}')
    asked: list[tuple[Any, ...]] = []

    def parts(*arguments: object) -> list[Path]:
        asked.append(arguments)
        return [tmp_path / "ensemble.json", tmp_path / "fold_1"]

    monkeypatch.setattr("mentallam.registry.find_checkpoints", parts)
    exported = tmp_path / "exported"
    result = export("champion", "--to", str(exported))
    assert result.exit_code == 0, (result.output, result.exception)
    assert {path.name for path in exported.iterdir()} == {"ensemble.json", "fold_1", "example.py", "README.md"}
    assert [(model, options.model) for _, model, options in asked] == [("champion", "never registered")]
    # It is a model like any other.
    assert predict("I am tired.", "--model", str(exported)).exit_code == 0


def test_what_cannot_be_exported_is_one_sentence(kedro: dict[str, Any], tmp_path: Path) -> None:
    to = ("--to", str(tmp_path / "exported"))
    check_refused(export("feed", *to), "feed is no run")
    check_refused(export(str(tmp_path), *to), "is no folder of a checkpoint")
    assert export("feed").exit_code == 2  # without --to
    assert export("feed", *to, "--dtype", "int8").exit_code == 2


def test_help_names_the_options_and_the_notice() -> None:
    overview = CliRunner().invoke(main, ["--help"])
    assert overview.exit_code == 0
    assert "predict" in overview.output
    assert "never a" in overview.output
    details = CliRunner().invoke(main, ["predict", "--help"])
    assert all(option in details.output for option in ("TEXT", "--criterion", "--json", "--model", "--env"))


def test_help_names_every_environment() -> None:
    environments = {folder.name for folder in (PROJECT / "conf").iterdir() if folder.is_dir()} - {"base", "local"}
    (option,) = (option for option in predict_command.params if option.name == "env")
    assert all(re.search(rf"\b{name}\b", str(option.help)) for name in environments)  # type: ignore[attr-defined]


def test_it_is_a_command(python: str) -> None:
    done = subprocess.run([python, "-m", "mentallam", "predict", " "], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.strip() == "Error: the text is empty; nothing to compare"


def test_run_is_kedros_own_command(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    details = CliRunner().invoke(main, ["run", "--help"])
    assert details.exit_code == 0
    assert "mentallam run" in details.output and "--namespaces" in details.output
    monkeypatch.chdir(tmp_path)
    check_refused(CliRunner().invoke(main, ["run", "--env", "test"]), "no mentallam project here", "hydra_configs")
    for folder in ("conf/base", "hydra_configs"):
        (tmp_path / folder).mkdir(parents=True)
    assert "--namespaces" in CliRunner().invoke(main, ["run", "--help"]).output


def test_the_latest_cross_validations_are_listed(kedro: dict[str, Any], model: str) -> None:
    client = mlflow.MlflowClient()
    experiment = client.get_experiment_by_name(command_line.load_parameters(PROJECT, None)["tracking_experiment"])
    assert experiment is not None
    tags = {"mentallam.data_hash": "00", "mlflow.runName": "tiny on a corpus"}
    reported = client.create_run(experiment.experiment_id, start_time=10**12, tags=tags).info.run_id
    for name, value in (("pooled_f1", 0.4444), ("baseline_tfidf_f1_mean", 0.6053)):
        client.log_metric(reported, name, value)
    client.set_terminated(reported, end_time=10**12 + 90_000)
    fold = client.create_run(experiment.experiment_id, tags={**tags, "mlflow.parentRunId": reported}).info.run_id
    opened = client.create_run(experiment.experiment_id, tags=tags).info.run_id
    lines = CliRunner().invoke(main, ["runs"]).stdout.splitlines()
    assert [line.split()[2] for line in lines[1:3]] == [opened, reported]
    assert lines[2].split()[3:] == ["FINISHED", "0.444", "0.605", "1.5", "tiny", "on", "a", "corpus"]
    assert fold not in "".join(lines) and model not in "".join(lines)  # a fold, and a run of something else
    assert len(CliRunner().invoke(main, ["runs", "-n", "1"]).stdout.splitlines()) == 4
    assert f"/#/experiments/{experiment.experiment_id}/runs?workflowType=machine_learning" in lines[-1]


def test_the_report_is_found_or_said_to_be_missing(
    kedro: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.setitem(command_line.load_parameters(PROJECT, None), DATA_FOLDER, str(tmp_path))
    refused = CliRunner().invoke(main, ["report", "--env", "test"])
    assert refused.exit_code == 1 and "run `kedro run --env test` first" in refused.stderr
    page = tmp_path / "08_reporting" / "report.html"
    page.parent.mkdir()
    page.touch()
    assert CliRunner().invoke(main, ["report"]).stdout == f"{page}\n"


def test_the_version_is_the_packages() -> None:
    assert CliRunner().invoke(main, ["--version"]).stdout == f"mentallam {mentallam.__version__}\n"


def test_example_files_are_written_once_and_then_checked(tmp_path: Path) -> None:
    folder = tmp_path / "my posts"
    first, again = (CliRunner().invoke(main, ["init-data", str(folder)]) for _ in range(2))
    assert first.exit_code == again.exit_code == 0
    assert "posts.csv, criteria.csv and groundtruth.csv now" in first.output and "now" not in again.output
    assert f"kedro run --env pairs --params 'corpus_dir={folder}'" in again.output
    (folder / "posts.csv").write_text("post_id,post\np1,fine\np1,Marzipan lighthouse\n")
    check_refused(CliRunner().invoke(main, ["init-data", str(folder)]), "posts.csv", "p1")


def test_help_fits_80_columns_and_cuts_no_sentence() -> None:
    page = CliRunner().invoke(main, ["--help"]).output
    assert "..." not in page.partition("Commands:")[2]
    for name in set(main.commands) - {"run"}:  # whose help is Kedro's
        page += CliRunner().invoke(main, [name, "--help"]).output
    assert max(map(len, page.splitlines())) <= 80


def test_a_misspelt_command_or_option_is_met_with_the_right_one() -> None:
    for arguments, right in ((["predct", "x"], "predict"), (["predict", "--jsno", "x"], "--json")):
        hint = CliRunner().invoke(main, arguments).output.partition("Did you mean")[2]
        assert f"'{right}'" in hint
