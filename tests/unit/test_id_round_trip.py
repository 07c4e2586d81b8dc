"""Every file with ids keeps them as the strings that they were, even if they look like numbers or dates."""

import csv
import json
from collections.abc import Iterator
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest
import torch
from kedro.framework.session import KedroSession
from kedro.framework.startup import bootstrap_project
from kedro.io import CatalogProtocol

from mentallam.corpus.readers import read_corpus
from mentallam.evaluation.label_audit import audit_labels
from mentallam.spreadsheets import marked
from mentallam.tracking import find_report_inputs, keep_report_inputs, load_report_input
from tests.samples import PROJECT
from tests.streamed import read_posts
from tests.unit.corpus.files import write_table

IDS = [
    *("0012", "12", "1e5", "100000.0", "NA", "N/A", "nan", "NaN", "null", "None", "true", "TRUE", "False", "-5", "+5"),
    *(
        "=1+1",
        "inf",
        "-inf",
        "1_000",
        "0x1F",
        "2024-01-05",
        "12:30",
        "1700000000000000001",
        "café",
        "cafe\u0301",
        "日記",
    ),
    *("a/b", "a b", "#1", "p,1", 'say "p1"', "'7", "-", "\U0001f319"),
]
CRITERIA = ["NA", "1e5", "0012"]


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CatalogProtocol]:
    folder, before = tmp_path_factory.mktemp("ids"), mlflow.get_tracking_uri()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/mlflow.db")
        bootstrap_project(PROJECT)
        with KedroSession.create(PROJECT, runtime_params={"data_dir": str(folder / "data")}) as session:
            yield session.load_context().catalog
    mlflow.set_tracking_uri(before)


def pairs() -> pd.DataFrame:
    """Return every id with every criterion, and the columns that tables have after the folds."""
    table = pd.MultiIndex.from_product([IDS, CRITERIA], names=["post_id", "criterion_id"]).to_frame(index=False)
    probability = np.random.default_rng(0).uniform(size=len(table))
    return table.assign(fold=0, label=np.arange(len(table)) // 3 % 2, probability=probability)


@pytest.mark.parametrize("ending", [".csv", ".CSV", ".jsonl", ".parquet"])
def test_a_corpus_keeps_its_ids(tmp_path: Path, ending: str) -> None:
    tables = {
        "posts": (["post_id", "post", "author"], [(name, "A day.", name) for name in IDS]),
        "criteria": (["criterion_id", "criterion"], [(name, "A thing.") for name in CRITERIA]),
        "groundtruth": (["post_id", "criterion_id", "label"], [(p, c, "no") for p in IDS for c in CRITERIA]),
    }
    for name, (columns, rows) in tables.items():
        write_table((tmp_path / name).with_suffix(ending.lower()), columns, rows)
        (tmp_path / name).with_suffix(ending.lower()).rename((tmp_path / name).with_suffix(ending))
    corpus = read_corpus("pairs", tmp_path)
    assert corpus.posts["post_id"].tolist() == corpus.posts["author"].tolist() == IDS
    assert corpus.criteria["criterion_id"].tolist() == CRITERIA
    assert corpus.pairs["post_id"].unique().tolist() == IDS
    assert corpus.pairs["criterion_id"].unique().tolist() == CRITERIA


@pytest.mark.parametrize("ending", [".csv", ".jsonl", ".parquet"])
def test_the_input_of_inference_keeps_its_ids(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"posts{ending}"
    write_table(path, ["post_id", "text", "criterion_id"], [(p, "A day.", c) for p in IDS for c in CRITERIA])
    asked = read_posts(str(path))
    assert asked["post_id"].tolist() == pairs()["post_id"].tolist()
    assert asked["criterion_id"].tolist() == pairs()["criterion_id"].tolist()


@pytest.mark.parametrize(
    "name",
    [
        *("posts", "criteria", "pairs", "duplicates", "groups", "baseline_predictions", "oof_predictions"),
        *("fold_0_predictions", "fold_0_dev_predictions"),
    ],
)
def test_tables_keep_their_ids(catalog: CatalogProtocol, name: str) -> None:
    catalog.save(name, pairs())
    pd.testing.assert_frame_equal(catalog.load(name)[["post_id", "criterion_id"]], pairs()[["post_id", "criterion_id"]])


def test_a_split_keeps_its_ids(catalog: CatalogProtocol) -> None:
    split = {"train": IDS, "dev": [], "held_out": [], "label_distribution": {"train": dict.fromkeys(CRITERIA, 1)}}
    catalog.save("fold_0_split", split)
    assert catalog.load("fold_0_split") == split


def test_frozen_states_keep_their_ids(catalog: CatalogProtocol) -> None:
    catalog.save("frozen_states", {f"1/{name}": torch.zeros(1) for name in IDS})
    assert set(catalog.load("frozen_states")) == {f"1/{name}" for name in IDS}


def test_the_label_audit_keeps_its_ids(catalog: CatalogProtocol) -> None:
    doubtful = audit_labels(pairs().assign(explicit_negative=False))
    assert len({"NA", "null", "nan", "0012", "1e5"}.intersection(doubtful["post_id"])) >= 3
    catalog.save("label_audit", doubtful)
    loaded = catalog.load("label_audit")
    pd.testing.assert_frame_equal(loaded, doubtful, check_dtype=False, rtol=1e-12)
    assert [loaded[name].dtype.kind for name in ("fold", "label", "probability", "quality")] == list("iiff")
    with Path(catalog["label_audit"]._filepath).open(encoding="utf-8", newline="") as file:
        assert [row["post_id"] for row in csv.DictReader(file)] == marked(doubtful)["post_id"].tolist()


def test_predictions_keep_their_ids(catalog: CatalogProtocol) -> None:
    path = Path(catalog["predictions"]._filepath)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{json.dumps(row)}\n" for row in pairs()[["post_id", "criterion_id"]].to_dict("records")))
    catalog.save("predictions", path)
    loaded = catalog.load("predictions")
    assert loaded["post_id"].tolist() == pairs()["post_id"].tolist()
    assert loaded["criterion_id"].tolist() == pairs()["criterion_id"].tolist()


def test_the_inputs_of_a_report_keep_their_ids(experiment: str) -> None:
    with mlflow.start_run(experiment_id=mlflow.get_experiment_by_name(experiment).experiment_id) as run:
        pass
    keep_report_inputs(run.info.run_id, {"fold_0_predictions": pairs(), "fold_0_split": {"train": IDS}})
    kept = find_report_inputs(run.info.run_id)
    table, split = (load_report_input(run.info.run_id, kept[name]) for name in ("fold_0_predictions", "fold_0_split"))
    assert table["post_id"].tolist() == pairs()["post_id"].tolist()
    assert split == {"train": IDS}
