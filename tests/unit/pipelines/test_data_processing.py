import json
from pathlib import Path

import pandas as pd
import pytest
from kedro.config import OmegaConfigLoader
from kedro.io import DataCatalog, MemoryDataset
from kedro.runner import SequentialRunner

from mentallam import settings
from mentallam.corpus.cleaning import CleaningOptions
from mentallam.corpus.folds import FoldOptions
from mentallam.corpus.manifest import CorpusLabel
from mentallam.corpus.pairs import Expectation
from mentallam.corpus.readers import read_corpus
from mentallam.corpus.synthetic import write
from mentallam.corpus.synthetic_corpus import TWIN, generate
from mentallam.errors import MentallamError
from mentallam.pipelines.data_processing import create_pipeline

ROOT = Path(__file__).parents[3]
TYPES = {"cleaning": CleaningOptions, "folds": FoldOptions, "expectation": Expectation, "corpus_label": CorpusLabel}


def loader(env: str) -> OmegaConfigLoader:
    return OmegaConfigLoader(str(ROOT / "conf"), env=env, **settings.CONFIG_LOADER_ARGS)


def parameters(env: str) -> dict[str, object]:
    """Return the parameters as Kedro builds them for an environment."""
    found = loader(env)["parameters"]
    assert found["audited_profiles"] == [found["profile"]]
    return {name: kind.model_validate(found[name]) for name, kind in TYPES.items()}


class KeptDataset(MemoryDataset):
    """A dataset that outlives the run, so that a test can read it."""

    def _release(self) -> None:
        pass


def run(
    params: dict[str, object],
    n_folds: int,
    folder: Path = ROOT / "data/01_raw/sample",
    format: str = "redsm5",
    **others: object,
) -> DataCatalog:
    # The tests need no tokens, so the audited base model is one that is not on this machine.
    params |= {"audited_profiles": ["mentallam"], "profile": "tiny", "overrides": "", "base_models": "unused"}
    params |= {"hydra_configs": str(ROOT / "hydra_configs")} | others
    corpus = read_corpus(format, folder, ROOT / "data/01_raw/dsm5_criteria.csv" if format == "redsm5" else None)
    inputs = {"corpus": corpus, "params:n_folds": n_folds} | {f"params:{k}": v for k, v in params.items()}
    pipeline = create_pipeline(n_folds)
    catalog = DataCatalog({name: KeptDataset(copy_mode="assign") for name in pipeline.all_outputs()})
    for name, value in inputs.items():
        catalog[name] = MemoryDataset(value, copy_mode="assign")
    SequentialRunner().run(pipeline, catalog)
    return catalog


@pytest.fixture(scope="module")
def base() -> DataCatalog:
    return run(parameters("base"), 5)


def test_frames_follow_the_contract(base: DataCatalog) -> None:
    assert list(base["posts"].load()) == ["post_id", "text", "raw_sha256", "author"]
    assert list(base["groups"].load()) == ["post_id", "group", "cluster"]
    assert list(base["duplicates"].load()) == ["post_id", "duplicate_of", "similarity", "containment"]
    assert list(base["criteria"].load()) == ["criterion_id", "symptom", "criterion"]
    pairs: pd.DataFrame = base["pairs"].load()
    assert pairs.dtypes[["label", "explicit_negative"]].astype(str).tolist() == ["int8", "bool"]
    assert pairs["criterion_id"].iloc[:9].tolist() == [f"A.{number}" for number in range(1, 10)]


def test_folds_hold_out_every_post_once(base: DataCatalog) -> None:
    folds = [base[f"fold_{fold}_split"].load() for fold in range(5)]
    held_out = [post for fold in folds for post in fold["held_out"]]
    assert sorted(held_out) == sorted(base["posts"].load()["post_id"])
    assert [fold["fold"] for fold in folds] == list(range(5))
    # Each fold of the sample lacks the positives of at most one criterion.
    for fold in folds:
        empty = [name for name, n in fold["label_distribution"]["held_out"].items() if n["positive"] == 0]
        assert len(empty) <= 1


def test_statistics_agree_with_the_folds(base: DataCatalog) -> None:
    found = base["data_statistics"].load()
    assert json.loads(json.dumps(found)) == found
    assert found["data_hash"] == base["fold_0_split"].load()["data_hash"] == base["data_manifest"].load()["data_hash"]
    assert found["counts"]["override_reason"] is None
    assert found["synthetic"] is True


def test_the_audit_shows_what_the_other_datasets_hold(base: DataCatalog) -> None:
    page = base["data_audit"].load()
    assert base["data_statistics"].load()["data_hash"] in page
    balance = base["audit_class_balance"].load().data[0]
    assert sum(balance.x) == base["pairs"].load()["label"].sum()
    (tokens,) = base["token_statistics"].load()
    assert "klyang/MentaLLaMA-chat-7B (revision main) is not on this machine yet" in tokens["not_counted"]
    assert "Tokens of mentallama-chat-7b were not counted: klyang/MentaLLaMA-chat-7B" in page


def test_overrides_apply_to_the_profile_of_the_run(tmp_path: Path) -> None:
    others = {"audited_profiles": ["tiny", "mentallam"], "overrides": "model.max_length=200"}
    tiny, mentallam = run(parameters("base"), 2, base_models=str(tmp_path), **others)["token_statistics"].load()
    assert (tiny["max_length"], mentallam["max_length"]) == (200, 512)
    assert tiny["not_counted"] is None
    assert 200 in [cut["max_length"] for cut in tiny["truncated"]]


def test_no_sentence_of_a_post_is_in_what_the_audit_saves(base: DataCatalog) -> None:
    saved = [base[name].load() for name in base if name.startswith("audit_")]
    saved = [base["data_audit"].load(), *(plot.to_json() for plot in saved)]
    sentences = {part for text in base["posts"].load()["text"] for part in text.split(". ") if len(part) > 12}
    assert len(saved) == 7 and len(sentences) > 60
    assert not [part for part in sentences for text in saved if part in text]


def write_pairs(folder: Path, texts: list[str]) -> Path:
    """Write a corpus in the format pairs; every second post matches."""
    ids = [f"p{number:02}" for number in range(len(texts))]
    labels = ["yes" if number % 2 else "no" for number in range(len(texts))]
    tables = {
        "posts": {"post_id": ids, "post": texts},
        "criteria": {"criterion_id": ["x"], "criterion": ["People."]},
        "groundtruth": {"post_id": ids, "criterion_id": "x", "label": labels},
    }
    for name, columns in tables.items():
        pd.DataFrame(columns).to_csv(folder / f"{name}.csv", index=False)
    return folder


def post_of(number: int) -> str:
    return " ".join(f"word{number}of{place}" for place in range(20))


def test_placeholders_are_counted_and_in_no_fold(tmp_path: Path) -> None:
    texts = [post_of(number) if number % 3 else "[removed]" for number in range(60)]
    params = parameters("pairs")
    params["expectation"] = Expectation(posts=60, criteria=1, pairs=60)  # of the corpus as read
    catalog = run(params, 5, write_pairs(tmp_path, texts), "pairs")
    kept = [f"p{number:02}" for number in range(60) if number % 3]
    for name in ("posts", "pairs", "groups"):
        assert catalog[name].load()["post_id"].tolist() == kept
    assert sorted(post for fold in range(5) for post in catalog[f"fold_{fold}_split"].load()["held_out"]) == kept
    found = catalog["data_statistics"].load()
    assert (found["n_posts"], found["n_pairs"], found["placeholder_posts"]) == (40, 40, {"[removed]": 20})
    assert found["counts"]["found"]["posts"] == 60
    assert catalog["data_manifest"].load()["counts"]["placeholder_posts"] == 20
    assert "left out of posts and pairs: 20 ([removed] 20)" in catalog["data_audit"].load()


def test_a_corpus_with_other_counts_gets_no_folds(tmp_path: Path) -> None:
    params = parameters("pairs") | {"expectation": Expectation(posts=61, criteria=None, pairs=None)}
    with pytest.raises(MentallamError, match=r"60 posts \(expected 61\)"):
        run(params, 5, write_pairs(tmp_path, [post_of(number) for number in range(60)]), "pairs")
    pipeline = create_pipeline(5)
    for name in ("data_manifest", "fold_0_split", "data_statistics"):
        assert "data_processing.check_counts" in {node.name for node in pipeline.to_outputs(name).nodes}


def test_placeholders_can_be_kept(tmp_path: Path) -> None:
    """Kept placeholders are copies of one post, and so one group."""
    texts = [post_of(number) if number % 3 else "[removed]" for number in range(60)]
    params = parameters("pairs") | {"cleaning": CleaningOptions(mask=False, placeholders=())}
    folder = write_pairs(tmp_path, texts)
    kept = run(params, 5, folder, "pairs")
    assert kept["data_statistics"].load()["placeholder_posts"] == {}
    assert len(kept["posts"].load()) == 60
    pd.DataFrame({"post_id": [f"p{number:02}" for number in range(60)], "post": "[removed]"}).to_csv(
        folder / "posts.csv", index=False
    )
    with pytest.raises(MentallamError, match=r"^a single group \(posts: 60\) can't be split into 5 folds"):
        run(params, 5, folder, "pairs")


def test_labels_that_are_all_the_same_are_refused(tmp_path: Path) -> None:
    folder = write_pairs(tmp_path, [post_of(number) for number in range(40)])
    labels = (folder / "groundtruth.csv").read_text(encoding="utf-8")
    (folder / "groundtruth.csv").write_text(labels.replace("yes", "no"), encoding="utf-8")
    with pytest.raises(MentallamError, match="no pair is labelled as positive"):
        run(parameters("pairs"), 5, folder, "pairs")


@pytest.mark.parametrize(("handling", "straddling"), [("group", 0), ("report", 4), ("ignore", 0)])
def test_near_duplicates_share_a_fold_if_they_are_grouped(tmp_path: Path, handling: str, straddling: int) -> None:
    texts = [post_of(number // 2) + f" end{number}" if number < 16 else post_of(number) for number in range(40)]
    params = parameters("pairs")
    params["folds"] = FoldOptions(seed=42, group_by="post_id", dev_splits=5, duplicates=handling)  # type: ignore[arg-type]
    catalog = run(params, 5, write_pairs(tmp_path, texts), "pairs")
    groups = catalog["groups"].load()["group"]
    assert groups.nunique() == (32 if handling == "group" else 40)
    found = catalog["data_statistics"].load()["duplicates"]
    assert (found["sets"], found["posts"]) == ((0, 0) if handling == "ignore" else (8, 16))
    assert found["sets_straddling_folds"] >= straddling
    assert bool(found["sets_straddling_folds"]) == bool(straddling)


@pytest.mark.parametrize(
    ("env", "format", "folder", "criteria"),
    [
        ("local", "redsm5", "sample", "dsm5_criteria.csv"),
        ("test", "redsm5", "sample", "dsm5_criteria.csv"),
        ("twin", "redsm5", "twin", "dsm5_criteria.csv"),
        ("mentallam", "redsm5", "redsm5", "dsm5_criteria.csv"),
        ("pairs", "pairs", "pairs", None),
    ],
)
def test_an_environment_names_what_is_different_about_its_corpus(
    env: str, format: str, folder: str, criteria: str | None
) -> None:
    entry = loader(env)["catalog"]["corpus"]
    raw = str(ROOT / "data" / "01_raw")
    assert (entry["format"], entry["folder"]) == (format, f"{raw}/{folder}")
    assert entry["criteria"] == (criteria and f"{raw}/{criteria}")
    assert entry["metadata"] == {"kedro-viz": {"layer": "01_raw", "preview": False}}


def test_the_experiment_is_named_once() -> None:
    for env, name in (("local", "mentallam-smollm2"), ("twin", "mentallam-smollm2_corpus-twin")):
        found = loader(env)
        assert found["mlflow"]["tracking"]["experiment"]["name"] == name
        assert found["parameters"]["tracking_experiment"] == found["parameters"]["registry"]["model"] == name


def test_number_of_folds_is_an_argument() -> None:
    assert {name for name in create_pipeline(3).all_outputs() if name.startswith("fold_")} == {
        "fold_0_split", "fold_1_split", "fold_2_split"
    }  # fmt: skip
    assert run(parameters("base"), 3)["fold_2_split"].load()["n_folds"] == 3


def test_the_profile_of_the_study_refuses_the_sample() -> None:
    params = parameters("mentallam")
    assert params["expectation"] == Expectation(posts=1484, criteria=9, pairs=13356, positive=1292)
    assert params["corpus_label"] == CorpusLabel(name="ReDSM5", synthetic=False)
    with pytest.raises(MentallamError, match=r"60 posts \(expected 1484\), 540 pairs \(expected 13356\), 61 positive"):
        run(params, 5)


def test_the_twin_has_the_size_that_its_profile_expects(tmp_path: Path) -> None:
    write([generate(TWIN, 42)], tmp_path, TWIN, "the command")
    params = parameters("twin")
    assert params["expectation"] == parameters("mentallam")["expectation"]
    found = run(params, 5, tmp_path)["data_statistics"].load()
    assert (found["corpus"], found["synthetic"]) == ("synthetic twin", True)
    assert (found["n_posts"], found["n_pairs"], found["n_positive"], found["n_without_symptom"]) == (
        1484, 13356, 1292, 392
    )  # fmt: skip
    assert {c["symptom"]: c["positive"] for c in found["criteria"].values()} == dict(TWIN.positives)
    assert found["counts"]["override_reason"] is None
