"""What a user finds after one real `kedro run --env test`."""

import json
import math
import re
import sqlite3
from pathlib import Path

import pandas as pd
import plotly.io
import pytest
from safetensors import safe_open

from mentallam.seeds import training_seed
from mentallam.tracking_view import COLUMNS
from tests.integration.workspace import Workspace
from tests.samples import SAMPLE

METRICS = ("f1", "precision", "recall", "accuracy", "roc_auc", "f1_same_fold")


@pytest.fixture(scope="module")
def summary(trained: Workspace) -> dict:
    return json.loads((trained.data / "08_reporting" / "cv_summary.json").read_text())


def test_summary_has_the_promised_keys(summary: dict) -> None:
    assert (summary["n_folds"], summary["n_posts"], summary["n_pairs"]) == (5, 60, 540)
    for metric in METRICS:
        assert math.isfinite(summary["metrics"][metric]["mean"])
        assert math.isfinite(summary["metrics"][metric]["std"])
    assert [fold["fold"] for fold in summary["folds"]] == [0, 1, 2, 3, 4]
    assert all({"run_id", "threshold", "f1", "checkpoint"} <= fold.keys() for fold in summary["folds"])
    assert summary["best_fold"] in range(5)
    for fold in summary["folds"]:
        assert (Path(fold["checkpoint"]) / "adapter_model.safetensors").is_file()


def test_the_data_audit_is_one_file_and_its_plots_load(trained: Workspace) -> None:
    folder = trained.data / "08_reporting"
    page = folder.joinpath("data_audit.html").read_text(encoding="utf-8")
    body = re.sub(r"<script>.*?</script>", "", page, flags=re.DOTALL)
    assert "Data audit: synthetic sample" in body
    assert "tiny:" in body and "not counted" not in body
    assert not re.search(r"(src|href|url)\s*[=(]", body)
    assert set(re.findall(r"id=\"plot-(\w+)\"", body)) == {path.stem for path in folder.glob("data_audit/*.json")}
    for path in folder.glob("data_audit/*.json"):
        assert plotly.io.read_json(path).data
    posts = pd.read_parquet(trained.data / "02_intermediate" / "posts.parquet")["text"]
    sentences = [part for text in posts for part in text.split(". ") if len(part) > 12]
    saved = [page, *(path.read_text(encoding="utf-8") for path in folder.glob("data_audit/*.json"))]
    assert not any(part in text for part in sentences for text in saved)


def test_every_pair_is_held_out_once_and_never_trained_on(trained: Workspace) -> None:
    table = pd.read_parquet(trained.data / "07_model_output" / "oof_predictions.parquet")
    assert len(table) == 540
    assert not table.duplicated(["post_id", "criterion_id"]).any()
    for fold in range(5):
        split = json.loads((trained.data / "05_model_input" / "folds" / f"fold_{fold}.json").read_text())
        assert set(table.loc[table["fold"] == fold, "post_id"]) == set(split["held_out"])
        assert not set(split["held_out"]) & (set(split["train"]) | set(split["dev"]))
        assert not set(split["train"]) & set(split["dev"])


def test_baselines_are_scored_on_the_models_pairs(trained: Workspace, summary: dict) -> None:
    model = pd.read_parquet(trained.data / "07_model_output" / "oof_predictions.parquet")
    baselines = pd.read_parquet(trained.data / "07_model_output" / "baseline_predictions.parquet")
    facts = ["post_id", "criterion_id", "group", "fold", "label", "explicit_negative", "truncated"]
    expected = model[facts].sort_values(facts, ignore_index=True)
    assert list(baselines["model"].unique()) == ["tfidf", "embedding"] == list(summary["learned_baselines"])
    metrics = trained.client().get_run(summary["cv_run_id"]).data.metrics
    for name, table in baselines.groupby("model"):
        pd.testing.assert_frame_equal(table[facts].sort_values(facts, ignore_index=True), expected)
        f1 = summary["learned_baselines"][name]["metrics"]["f1"]
        assert metrics[f"baseline_{name}_f1_mean"] == pytest.approx(f1["mean"])
        assert metrics[f"baseline_{name}_f1_std"] == pytest.approx(f1["std"])
    assert "baselines tfidf and embedding on 5 folds: " in (trained.folder / "log.txt").read_text()
    audit = pd.read_csv(trained.data / "08_reporting" / "label_audit.csv")
    assert audit["quality"].is_monotonic_increasing
    assert len(audit.merge(model, on=["post_id", "criterion_id", "fold", "label"])) == len(audit) > 0


def test_mlflow_holds_one_parent_and_five_complete_children(trained: Workspace, summary: dict) -> None:
    client = trained.client()
    experiment = client.get_experiment_by_name("mentallam-tiny")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id])
    assert len(runs) == 6
    parent = client.get_run(summary["cv_run_id"])
    assert parent.info.run_name == "tiny on synthetic sample"
    children = [run for run in runs if run.data.tags.get("mlflow.parentRunId") == parent.info.run_id]
    assert {run.info.run_name for run in children} == {f"fold_{fold}" for fold in range(5)}
    assert {run.info.status for run in runs} == {"FINISHED"}

    for metric in METRICS:
        assert parent.data.metrics[f"{metric}_mean"] == pytest.approx(summary["metrics"][metric]["mean"])
        assert parent.data.metrics[f"{metric}_std"] == pytest.approx(summary["metrics"][metric]["std"])
    assert parent.data.tags["mentallam.best_fold"] == str(summary["best_fold"])
    reports = {file.path for file in client.list_artifacts(parent.info.run_id, "reporting")}
    assert {f"reporting/{name}" for name in ("cv_summary.json", "thresholds.json", "report.md")} <= reports

    manifest = json.loads((trained.data / "03_primary" / "manifest.json").read_text())
    assert (
        json.loads((Path(client.download_artifacts(parent.info.run_id, "data_manifest.json"))).read_text()) == manifest
    )
    kept = {file.path for file in client.list_artifacts(parent.info.run_id)}
    assert {"data_statistics.json", "training_config.yaml", "package_versions.json", "machine.json"} <= kept
    assert parent.data.metrics["data_pairs"] == manifest["counts"]["pairs"] == 540
    assert parent.data.tags["mentallam.corpus"] == "synthetic sample"
    for run in runs:
        [data] = run.inputs.dataset_inputs
        assert (data.dataset.name, data.dataset.digest) == ("synthetic sample", manifest["data_hash"][:36])
        assert json.loads(data.dataset.source) == {"uri": "sample"}
        assert run.data.tags["mentallam.data_hash"] == manifest["data_hash"]

    of_each_kind = {"metrics": parent.data.metrics, "tags": parent.data.tags, "params": parent.data.params}
    for column in COLUMNS:  # of the view in MLflow
        kind, name = column.rstrip("`").split(".`")
        assert name in (children[0].data.metrics if name == "f1" else of_each_kind[kind])
    results = [
        json.loads(trained.data.joinpath(f"07_model_output/folds/fold_{k}_result.json").read_text()) for k in range(5)
    ]
    assert parent.data.metrics["duration_s"] == pytest.approx(sum(result["seconds"] for result in results))
    names = {name for run in children for name in run.data.metrics}
    for run in children:  # folds are compared by metrics of the same names
        undefined = {
            name for name, value in results[int(run.data.tags["mentallam.fold"])]["metrics"].items() if value is None
        }
        assert names - undefined <= {*run.data.metrics, "dev_f1"}

    for run in children:
        assert run.info.run_id in parent.data.tags["mlflow.note.content"]
        fold = int(run.data.tags["mentallam.fold"])
        assert run.data.params["adapter.r"] == "8"
        assert run.data.params["training.learning_rate"] == "0.002"
        assert "f1" in run.data.metrics
        steps = client.get_metric_history(run.info.run_id, "loss")
        assert [point.step for point in steps] == list(range(1, len(steps) + 1))
        for name in ("learning_rate", "grad_norm", "pairs_per_second"):
            assert len(client.get_metric_history(run.info.run_id, name)) == len(steps)
        assert run.data.metrics["peak_rss_bytes"] > 1e8
        assert run.data.metrics["system/system_memory_usage_megabytes"] > 0
        seeds = {"seed": training_seed(42, fold), "training_seed": 42, "folds_seed": 42}
        assert {name: run.data.params[name] for name in seeds} == {name: str(seed) for name, seed in seeds.items()}
        saved = json.loads((trained.data / "06_models" / f"fold_{fold}" / "mentallam.json").read_text())
        assert {name: saved["origin"][name] for name in seeds} == seeds
        assert len(client.get_metric_history(run.info.run_id, "dev_f1")) >= 2
        [output] = run.outputs.model_outputs
        model = client.get_logged_model(output.model_id)
        assert (model.name, model.source_run_id, model.status.name) == (f"fold_{fold}", run.info.run_id, "READY")
        assert model.params == {"model": "tiny", "adapter.r": "8"}
        of_model = {metric.key: metric for metric in model.metrics}
        assert of_model["f1"].value == run.data.metrics["f1"]
        assert of_model["f1"].dataset_digest == manifest["data_hash"][:36]
        files = {file.path for file in client.list_artifacts(run.info.run_id)}
        expected = {"checkpoint", "figures.html", f"fold_{fold}.json"}
        expected |= {"training_config.yaml", "package_versions.json", "machine.json"}
        assert expected <= files


def test_checkpoints_hold_safetensors_only_and_the_head(trained: Workspace) -> None:
    folder = trained.data / "06_models" / "fold_0"
    names = {path.name for path in folder.iterdir()}
    assert {"adapter_model.safetensors", "mentallam.json", "tokenizer.json", "README.md"} <= names
    assert not [name for name in names if name.endswith((".bin", ".pt", ".pkl", ".pth"))]
    with safe_open(folder / "adapter_model.safetensors", framework="pt") as weights:
        assert any("score" in name for name in weights.keys())  # noqa: SIM118
    assert "SYNTHETIC" in (folder / "README.md").read_text()


def test_the_screen_shows_each_fold_and_what_came_out_and_the_file_each_node(trained: Workspace) -> None:
    shown = (trained.folder / "log.txt").read_text()
    assert "\r" not in shown and "Running node" not in shown
    for fold in range(5):
        [line] = re.findall(rf"^fold {fold}: F1 .*", shown, re.MULTILINE)
        assert re.fullmatch(
            rf"fold {fold}: F1 \S+ on \d+ held-out pairs; on the dev posts \S+, in epoch \d of \d", line
        )
    summary = json.loads((trained.data / "08_reporting" / "cv_summary.json").read_text())
    f1 = f"F1 {summary['pooled']['f1']:.3f} (95 % interval "
    assert f1 in shown.partition("reporting: done")[2]
    assert str(trained.data / "08_reporting" / "report.html") in shown
    assert (trained.data / "run.log").read_text().count("Running node: train_and_score") >= 5


def test_report_says_what_the_data_is(trained: Workspace) -> None:
    report = (trained.data / "08_reporting" / "report.md").read_text()
    assert "SYNTHETIC" in report
    assert "never a diagnosis" in report


def test_no_word_of_a_post_leaves_the_corpus(trained: Workspace) -> None:
    """Logs, MLflow's database and artifacts, and results hold ids only."""
    posts = pd.read_csv(SAMPLE / "redsm5_posts.csv", keep_default_na=False)
    snippets = [text[:25].encode() for text in posts["text"]] + [text[-25:].encode() for text in posts["text"]]
    texts = {trained.data / "02_intermediate" / "posts.parquet"}
    files = [path for path in trained.folder.rglob("*") if path.is_file() and path not in texts]
    assert len(files) > 60
    for path in files:
        content = path.read_bytes()
        assert not [snippet for snippet in snippets if snippet in content], path
    with sqlite3.connect(trained.folder / "mlflow.db") as database:
        # Only the training's runs; other tests use other experiments.
        assert database.execute("select count(*) from runs where experiment_id = 1").fetchone() == (6,)


def test_a_fold_in_another_process_finds_its_cross_validation(trained: Workspace, empty: Workspace) -> None:
    for part in (("--to-nodes", "open_cv_run"), ("--namespaces", "fold_2")):
        done = empty.kedro("--pipelines", "cv_training", *part, MLFLOW_RUN_ID="left over")
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    here, there = (
        json.loads((workspace.data / "07_model_output" / "folds" / "fold_2_result.json").read_text())
        for workspace in (empty, trained)
    )
    assert here["metrics"] == there["metrics"]  # same seed, same machine, same result
    cv_run = json.loads((empty.data / "06_models" / "cv_run.json").read_text())
    runs = {run.info.run_id: run for run in empty.client().search_runs([cv_run["experiment_id"]])}
    assert runs.keys() == {cv_run["run_id"], here["run_id"]}  # no other run was opened
    assert runs[here["run_id"]].data.tags["mlflow.parentRunId"] == cv_run["run_id"]
    assert runs[here["run_id"]].info.status == "FINISHED"
    assert runs[cv_run["run_id"]].info.status == "SCHEDULED"  # it waits for the other folds


def test_a_finished_cross_validation_is_kept(trained: Workspace, summary: dict) -> None:
    results = {path: path.read_bytes() for path in (trained.data / "07_model_output" / "folds").iterdir()}
    before = trained.client().get_run(summary["cv_run_id"]).to_dictionary()
    experiment_id = before["info"]["experiment_id"]
    n_models = len(trained.client().search_logged_models([experiment_id]))
    done = trained.kedro("--pipelines", "cv_training", "--namespaces", "fold_2", MLFLOW_RUN_ID=summary["cv_run_id"])
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert "fold 2 is finished: its results are kept" in done.stdout + done.stderr
    assert len(trained.client().search_logged_models([experiment_id])) == n_models
    trained.run("cv_training", selected={"from_nodes": ["close_cv_run"]})
    assert trained.client().get_run(summary["cv_run_id"]).to_dictionary() == before
    assert {path: path.read_bytes() for path in (trained.data / "07_model_output" / "folds").iterdir()} == results
