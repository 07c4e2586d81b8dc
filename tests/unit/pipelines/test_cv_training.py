import shutil
from pathlib import Path

import pandas as pd
import pytest
from mlflow import MlflowClient

from mentallam import tracking
from mentallam.classifier.fold import learnt_from
from mentallam.config import compose_config
from mentallam.errors import MentallamError
from mentallam.pipelines import reporting
from mentallam.pipelines.cv_training import create_pipeline, nodes
from mentallam.resumption import RECORD
from tests.samples import PROJECT


def test_baselines_are_fitted_once_before_the_folds_that_processes_may_share() -> None:
    """The commands of docs/contracts/cli.md, Several processes: each of the three parts has what it needs."""
    prepared = {"posts", "pairs", "criteria", "groups", "data_statistics", "data_manifest"}
    wanted = {name for name in reporting.create_pipeline(3).inputs() if not name.startswith("params:")}
    pipeline = create_pipeline(3, wanted)
    opening = pipeline.to_nodes("open_cv_run")
    assert [node.name for node in opening.nodes].count("fit_baselines") == 1
    assert {"baseline_predictions", "frozen_states"} <= opening.all_outputs()
    for fold in range(3):
        fold_nodes = pipeline.only_nodes_with_namespaces([f"fold_{fold}"])
        assert {node.namespace for node in fold_nodes.nodes} == {f"fold_{fold}"}
        assert "baseline_predictions" not in fold_nodes.inputs()
    closing = pipeline.from_nodes("close_cv_run")
    of_folds = {
        name for fold in range(3) for name in pipeline.only_nodes_with_namespaces([f"fold_{fold}"]).all_outputs()
    }
    assert closing.inputs() <= opening.all_outputs() | of_folds | prepared
    splits = {name for name in pipeline.only_nodes("fit_baselines").inputs() if name.endswith("_split")}
    assert splits == {f"fold_{fold}_split" for fold in range(3)}


def test_an_unknown_baseline_or_source_is_refused_before_anything_is_trained() -> None:
    folder = str(PROJECT / "hydra_configs")
    manifest = {"counts": {"posts": 60}}

    def compose(overrides: str) -> None:
        nodes.check_configuration(folder, "tiny", overrides, None)

    def compose_for_corpus(overrides: str) -> None:
        nodes.compose_training_config(folder, "tiny", overrides, manifest, None)

    for each in (compose, compose_for_corpus):
        each("baselines.models=[tfidf]")
        with pytest.raises(MentallamError, match=r"baselines\.models is \[tfidf, bm25\]; it takes each of "):
            each("baselines.models=[tfidf,bm25]")
        with pytest.raises(MentallamError, match=r"model\.source is 'disk'; it must be one of hub, wheel, random"):
            each("model.source=disk")


@pytest.mark.parametrize("fraction", [0.1, 1.0])
def test_states_are_computed_of_the_posts_that_some_fold_learns_from(
    monkeypatch: pytest.MonkeyPatch, fraction: float
) -> None:
    post_ids = [f"p{number}" for number in range(60)]
    splits = [{"fold": k, "seed": 1, "train": post_ids[k:40], "dev": post_ids[40 + k : 50]} for k in range(2)]
    overrides = f"adapter.top_layers=1 training.sample_fraction={fraction}"
    training_config = compose_config(PROJECT / "hydra_configs", "tiny", overrides)
    asked: list[str] = []
    monkeypatch.setattr(
        "mentallam.classifier.fold.frozen_states", lambda _, base, posts, *rest: asked.extend(posts["post_id"])
    )
    base = {"name": "tiny", "source": "random", "folder": "", "fingerprint": ""}
    posts = pd.DataFrame({"post_id": post_ids, "text": "words"})
    nodes.compute_frozen_states(training_config, base, posts, pd.DataFrame(), pd.DataFrame(), *splits)
    wanted = {post_id for split in splits for part in learnt_from(split, fraction).values() for post_id in part}
    assert set(asked) == wanted
    assert len(wanted) <= (50 if fraction == 1 else 2 * (4 + 1))
    assert fraction < 1 or len(wanted) == 50


def test_a_cross_validation_is_complete_after_its_last_artifact(
    experiment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever is killed before may not leave a run that the next attempt takes for complete."""
    cv_run = tracking.open_cv_run("a study", experiment, "study")
    monkeypatch.setattr(tracking, "keep_report_inputs", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        nodes.keep_report_inputs(cv_run, data_statistics={"posts": 1})
    assert [file.path for file in MlflowClient().list_artifacts(cv_run["run_id"])] == ["data_statistics.json"]
    assert "mentallam.retries" in MlflowClient().get_run(cv_run["run_id"]).data.tags
    assert not tracking.is_complete(cv_run["run_id"])


@pytest.mark.parametrize(
    ("lost", "fresh", "status"),
    [("results", False, "FAILED"), ("record", False, "FAILED"), ("folder", False, "FAILED"), ("", True, "FINISHED")],
)
def test_a_finished_fold_whose_results_or_record_are_lost_is_finished_no_more(
    experiment: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, lost: str, fresh: bool, status: str
) -> None:
    """Otherwise MLflow shows two finished runs of the fold that is trained anew."""
    cv_run = tracking.open_cv_run("a study", experiment, "study")
    monkeypatch.setattr(nodes, "fingerprint", lambda *_, **__: {"code": "same"})
    monkeypatch.setattr(nodes, "load_fold_results", lambda *_: 1 / 0 if lost != "results" else None)
    monkeypatch.setattr(nodes, "_seeds", lambda *_: 1 / 0)  # the new training goes no further
    first = tracking.open_fold_run(cv_run, 0, nodes.begin(tmp_path, {"code": "same"}).token)
    tracking.Run(first["run_id"]).finish()
    other = tracking.open_fold_run(cv_run, 1, "another fold")
    tracking.Run(other["run_id"]).finish()
    if lost == "record":
        (tmp_path / RECORD).write_text("{")
    if lost == "folder":
        shutil.rmtree(tmp_path)
    base = {"name": "tiny", "source": "random", "folder": "", "fingerprint": ""}
    tables = [pd.DataFrame()] * 4
    with pytest.raises(ZeroDivisionError):
        nodes.run_fold(cv_run, None, base, {}, {"fold": 0}, {}, {}, "", 1.0, fresh, tmp_path, *tables)  # type: ignore[arg-type]
    runs = MlflowClient().search_runs([cv_run["experiment_id"]], "tags.`mentallam.fold` = '0'")
    assert {run.info.run_id == first["run_id"]: run.info.status for run in runs} == {True: status, False: "RUNNING"}
    assert MlflowClient().get_run(other["run_id"]).info.status == "FINISHED"
