import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from kedro.io import DataCatalog, DatasetError

from mentallam.classifier.checkpoint import TrainedFold
from mentallam.classifier.scoring import score_pairs
from mentallam.config import Config, to_dict
from mentallam.datasets import CheckpointDataset, CorpusDataset, ParquetDataset
from mentallam.errors import MentallamError
from tests.samples import PROJECT, SAMPLE
from tests.unit.classifier.builders import make_examples

CRITERIA_FILE = PROJECT / "data" / "01_raw" / "dsm5_criteria.csv"


@pytest.fixture
def checkpoints(trained: TrainedFold, tmp_path: Path) -> DataCatalog:
    """Return a catalog with one entry for all folds, as in the project."""
    entry = {
        "type": "mentallam.datasets.CheckpointDataset",
        "folder": f"{tmp_path}/fold_{{k}}",
        "base_models": str(Path(trained.base.folder).parent),
        "metadata": {"kedro-viz": {"layer": "models"}},
    }
    return DataCatalog.from_config({"fold_{k}_checkpoint": entry})


def root_of(error: BaseException) -> MentallamError:
    """Return the error with the message for the user; Kedro wraps it once or twice."""
    while error.__cause__ is not None:
        error = error.__cause__
    assert isinstance(error, MentallamError)
    return error


def test_the_corpus_is_read(caplog: pytest.LogCaptureFixture) -> None:
    dataset = CorpusDataset(format="redsm5", folder=str(SAMPLE), criteria=str(CRITERIA_FILE))
    corpus = dataset.load()
    assert len(corpus.posts) > 0
    assert corpus.criteria["criterion_id"].tolist() == [f"A.{number}" for number in range(1, 10)]
    assert corpus.posts["text"].iloc[0] not in repr(dataset) + repr(corpus) + caplog.text


def test_options_of_the_pairs_format(tmp_path: Path) -> None:
    for name, content in {
        "posts": "post_id,post\np1,a\np2,b\n",
        "criteria": "criterion_id,criterion\nx,c\ny,d\n",
        "groundtruth": "post_id,criterion_id,label\np1,x,yes\np2,y,no\n",
    }.items():
        (tmp_path / f"{name}.csv").write_text(content)
    entry: dict[str, dict[str, Any]] = {
        "corpus": {"type": "mentallam.datasets.CorpusDataset", "format": "pairs", "folder": str(tmp_path)}
    }
    with pytest.raises(DatasetError) as error:
        DataCatalog.from_config(entry).load("corpus")
    assert "`missing_pairs: allowed`" in root_of(error.value).message
    entry["corpus"]["missing_pairs"] = "allowed"
    assert DataCatalog.from_config(entry).load("corpus").pairs["label"].tolist() == [1, 0]
    (tmp_path / "posts.csv").write_text("id,selftext\np1,a\np2,b\n")
    (tmp_path / "groundtruth.csv").write_text("post_id,criterion_id,label\np1,x,hit\np2,y,miss\n")
    entry["corpus"] |= {"columns": {"text": "selftext", "post_id": "id"}, "label_values": "hit:miss"}
    assert DataCatalog.from_config(entry).load("corpus").pairs["label"].tolist() == [1, 0]


def test_the_corpus_is_never_written() -> None:
    dataset = CorpusDataset(format="redsm5", folder=str(SAMPLE), criteria=str(CRITERIA_FILE))
    with pytest.raises(DatasetError, match="read-only"):
        dataset.save(dataset.load())  # type: ignore[arg-type]


def test_a_missing_corpus_keeps_its_sentence(tmp_path: Path) -> None:
    dataset = CorpusDataset(format="redsm5", folder=str(tmp_path), criteria=str(CRITERIA_FILE))
    with pytest.raises(DatasetError) as error:
        dataset.load()
    assert "redsm5_posts.csv is missing" in root_of(error.value).message


def test_a_configuration_is_the_yaml_of_its_values_and_comes_back_as_its_type(
    tiny_config: Config, tmp_path: Path
) -> None:
    entry = {"type": "mentallam.datasets.ConfigDataset", "filepath": f"{tmp_path}/config.yml", "metadata": {"a": 1}}
    catalog = DataCatalog.from_config({"training_config": entry})
    assert not catalog.exists("training_config")
    catalog.save("training_config", tiny_config)
    assert catalog.exists("training_config")
    saved = (tmp_path / "config.yml").read_text(encoding="utf-8")
    assert saved == yaml.dump(to_dict(tiny_config), default_flow_style=False)
    assert catalog.load("training_config") == tiny_config
    assert catalog["training_config"].metadata == {"a": 1}
    for content, reason in (
        ("training: {epochs: 3}", "epochs"),
        ("", "remove it and rebuild it with"),
    ):
        (tmp_path / "config.yml").write_text(content)
        with pytest.raises(DatasetError) as error:
            catalog.load("training_config")
        assert reason in root_of(error.value).message


def test_a_checkpoint_comes_back_as_it_was(checkpoints: DataCatalog, trained: TrainedFold, tmp_path: Path) -> None:
    assert not checkpoints.exists("fold_3_checkpoint")
    checkpoints.save("fold_3_checkpoint", trained)
    assert checkpoints.exists("fold_3_checkpoint")
    assert not checkpoints.exists("fold_4_checkpoint")
    loaded = checkpoints.load("fold_3_checkpoint")
    assert loaded.folder == tmp_path / "fold_3"
    assert (loaded.decision, loaded.origin) == (trained.decision, trained.origin)
    examples = make_examples(trained.prompter)
    assert score_pairs(loaded.model, examples, 4).tolist() == score_pairs(trained.model, examples, 4).tolist()


def test_a_checkpoint_without_its_facts_does_not_exist(
    checkpoints: DataCatalog, trained: TrainedFold, tmp_path: Path
) -> None:
    checkpoints.save("fold_3_checkpoint", trained)
    (tmp_path / "fold_3" / "mentallam.json").unlink()
    assert not checkpoints.exists("fold_3_checkpoint")
    shutil.rmtree(tmp_path / "fold_3")
    with pytest.raises(DatasetError) as error:
        checkpoints.load("fold_3_checkpoint")
    assert "holds no complete checkpoint" in root_of(error.value).message


def test_datasets_say_what_they_are(tmp_path: Path) -> None:
    checkpoint = CheckpointDataset(folder=str(tmp_path / "fold_0"), base_models="base", metadata={"layer": "models"})
    assert checkpoint.metadata == {"layer": "models"}
    assert "fold_0" in repr(checkpoint)
    corpus = CorpusDataset(format="redsm5", folder="folder", criteria="file", metadata={"layer": "raw"})
    assert corpus.metadata == {"layer": "raw"}
    assert "redsm5" in repr(corpus)


def test_a_flipped_bit_in_the_values_of_a_table_is_noticed(tmp_path: Path) -> None:
    """Without a checksum of the page the table is loaded with another value."""
    dataset = ParquetDataset(filepath=str(tmp_path / "table.parquet"), save_args={"compression": None})
    dataset.save(pd.DataFrame({"post_id": ["marked", "other"]}))
    content = (tmp_path / "table.parquet").read_bytes()
    (tmp_path / "table.parquet").write_bytes(content.replace(b"marked", b"masked", 1))
    with pytest.raises(DatasetError, match="CRC checksum verification failed"):
        dataset.load()
