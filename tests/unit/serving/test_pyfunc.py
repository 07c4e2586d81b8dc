import ast
import importlib.metadata
import logging
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

import httpx
import mlflow
import numpy as np
import pandas as pd
import pytest
import torch
from fastapi.testclient import TestClient
from mlflow.exceptions import MlflowException
from mlflow.pyfunc import PyFuncModel, scoring_server
from scipy.special import expit, logit

from mentallam.classifier.checkpoint import TrainedFold, save_checkpoint
from mentallam.config import Config, InferenceConfig
from mentallam.errors import MentallamError
from mentallam.model_folders import ENSEMBLE_FILE
from mentallam.serving.output_fields import OUTPUT_FIELDS, Answers
from mentallam.serving.posts import Post
from mentallam.serving.predictor import Predictor
from mentallam.serving.pyfunc import INPUT_EXAMPLE, SIGNATURE, requirements, save_pyfunc
from mentallam.variables import BASE_MODELS
from tests.samples import PROJECT
from tests.unit.trained_folds import with_threshold

SECRET = "Marzipan lighthouse"
COLUMNS = [field.name for field in OUTPUT_FIELDS if field.served]


@pytest.fixture
def folds(trained: TrainedFold, tmp_path: Path) -> dict[int, Path]:
    """Save checkpoints of two folds that differ in head and threshold."""
    folders = {1: tmp_path / "fold_1", 3: tmp_path / "fold_3"}
    save_checkpoint(trained, folders[1])
    head = trained.model.base_model.model.score.modules_to_save["default"].weight  # type: ignore[union-attr,index]
    with torch.no_grad():
        head.mul_(-0.5)  # type: ignore[operator,union-attr]
    save_checkpoint(with_threshold(trained, 0.61), folders[3])
    return folders


@pytest.fixture
def base_models(trained: TrainedFold) -> Path:
    return Path(trained.base.folder).parent


@pytest.fixture
def model(folds: dict[int, Path], base_models: Path, tiny_config: Config, tmp_path: Path) -> Path:
    save_pyfunc(tmp_path / "model", {1: folds[1]}, base_models, tiny_config.inference)
    return tmp_path / "model"


def posts(**columns: list[str | None]) -> pd.DataFrame:
    return pd.DataFrame({"text": ["I am tired.", "We went to the lake."], **columns}, dtype=object)


def alone(folder: Path, base_models: Path, config: Config, asked: Sequence[Post]) -> Answers:
    return Predictor.load([folder], base_models, config.inference).predict(asked)


def test_it_answers_as_the_predictor_does(
    model: Path, folds: dict[int, Path], base_models: Path, tiny_config: Config
) -> None:
    loaded = mlflow.pyfunc.load_model(str(model))
    asked = [Post("a", "I am tired.", ("A.4",)), Post("b", "We went to the lake.")]
    expected = pd.DataFrame(alone(folds[1], base_models, tiny_config, asked))
    answer = loaded.predict(posts(post_id=["a", "b"], criterion_id=["A.4", None]))
    pd.testing.assert_frame_equal(answer, expected[COLUMNS])
    assert list(zip(answer["post_id"], answer["criterion_id"], strict=True)) == [
        ("a", "A.4"),
        ("b", "A.1"),
        ("b", "A.4"),
        ("b", "A.6"),
    ]
    assert loaded.predict(posts())["post_id"].tolist() == ["1"] * 3 + ["2"] * 3


def test_rows_that_name_their_criterion_are_answered_one_by_one(model: Path) -> None:
    """A function of Spark takes answers by their position; rows of a post need not stand together, and may recur."""
    loaded = mlflow.pyfunc.load_model(str(model))
    asked = [("a", "A.4"), ("b", "A.6"), ("a", "A.1"), ("b", "A.6")]
    texts = {"a": "I am tired.", "b": "We went to the lake."}
    frame = pd.DataFrame(
        [(post, texts[post], criterion) for post, criterion in asked], columns=["post_id", "text", "criterion_id"]
    )
    answer = loaded.predict(frame)
    assert list(zip(answer["post_id"], answer["criterion_id"], strict=True)) == asked
    one_by_one = [loaded.predict(frame.iloc[[row]])["probability"].item() for row in range(len(frame))]
    assert answer["probability"].tolist() == pytest.approx(one_by_one, abs=1e-6)
    assert len({*one_by_one}) == 3


def in_a_new_process(model: Path) -> tuple[str, list[str]]:
    """Return the answer to the input example, and the files of the package that loading and predicting import."""
    code = (
        "import sys, mlflow; model = mlflow.pyfunc.load_model(sys.argv[1]); print(model.predict(model.input_example)"
        ".to_json()); print(*[m.__file__ for n, m in sys.modules.items() if n.startswith('mentallam')], sep='\\n')"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error::UserWarning:mlflow.pyfunc", "-c", code, str(model)],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "Mismatch" not in done.stderr
    answer, *files = done.stdout.strip().splitlines()
    return answer, files


def test_a_new_process_takes_the_package_from_the_model_and_its_imports_are_the_requirements(model: Path) -> None:
    """A registered model does not change when the installed package changes."""
    answer, files = in_a_new_process(model)
    assert str(model / "code" / "mentallam" / "__init__.py") in files
    assert all(Path(file).is_relative_to(model / "code") for file in files)
    expected = mlflow.pyfunc.load_model(str(model)).predict(INPUT_EXAMPLE)
    assert answer == expected.to_json()
    assert_required(files)
    assert (model / "requirements.txt").read_text().split() == requirements()
    assert not [line for line in requirements() if "+" in line]


def test_nothing_is_pickled_and_the_base_model_stays_where_it_is(model: Path) -> None:
    files = [path for path in model.rglob("*") if path.is_file()]
    assert not [path for path in files if path.suffix in (".pkl", ".bin", ".pt", ".pyc")]
    assert [path.parent.name for path in files if path.suffix == ".safetensors"] == ["fold_1"]


def test_an_ensemble_is_the_calibrated_mean_of_its_folds_from_each_entry(
    folds: dict[int, Path], base_models: Path, tiny_config: Config, tmp_path: Path
) -> None:
    calibration = tmp_path / ENSEMBLE_FILE
    calibration.write_text('{"slope": 1.5, "intercept": -0.25}')
    save_pyfunc(tmp_path / "both", folds, base_models, tiny_config.inference, ensemble=calibration)
    asked = [Post("a", "I am tired."), Post("b", "We went to the lake.")]
    answer = mlflow.pyfunc.load_model(str(tmp_path / "both")).predict(posts(post_id=["a", "b"]))
    one, two = (np.array(alone(folder, base_models, tiny_config, asked)["probability"]) for folder in folds.values())
    assert np.abs(one - two).min() > 1e-3
    mean = expit(1.5 * (logit(one) + logit(two)) / 2 - 0.25)
    np.testing.assert_allclose(answer["probability"], mean, rtol=1e-9)
    parts = [calibration, *folds.values()]
    answered = Predictor.load(parts, base_models, tiny_config.inference).predict(asked)
    assert answer["probability"].tolist() == answered["probability"]
    assert set(answer["threshold"]) == {(0.37 + 0.61) / 2}
    assert answer["label"].tolist() == ["yes" if value >= 0.49 else "no" for value in mean]


def test_a_model_config_at_loading_counts(model: Path, tmp_path: Path, base_models: Path) -> None:
    nowhere = str(tmp_path / "nowhere")
    with pytest.raises(MentallamError, match=f"{nowhere} is not on this machine: .* {BASE_MODELS}"):
        mlflow.pyfunc.load_model(str(model), model_config={"base_models": nowhere})
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(BASE_MODELS, str(base_models))
        moved = mlflow.pyfunc.load_model(str(model), model_config={"base_models": nowhere})
    merged = mlflow.pyfunc.load_model(str(model), model_config={"merge_adapter": True})
    answers = [each.predict(posts()) for each in (moved, merged, mlflow.pyfunc.load_model(str(model)))]
    pd.testing.assert_frame_equal(answers[0], answers[2])
    pd.testing.assert_frame_equal(answers[1], answers[2], atol=1e-5)
    (tmp_path / "empty").mkdir()  # a random base model is rebuilt there from its seed
    rebuilt = mlflow.pyfunc.load_model(str(model), model_config={"base_models": str(tmp_path / "empty")})
    pd.testing.assert_frame_equal(rebuilt.predict(posts()), answers[2])


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"text": [SECRET, " "]}, "the input, row 2: the text is empty"),
        ({"text": [SECRET, "x"], "post_id": ["a", "a"]}, "the input, row 2: post_id 'a' has two texts"),
        ({"text": [SECRET], "criterion_id": ["A.99"]}, "unknown criterion A.99; this model knows A.1, A.4, A.6"),
        ({"body": [SECRET]}, "the input has no column text; it needs text, and may have post_id and criterion_id"),
        ({"text": [SECRET, 17]}, "the input, row 2: text must be a string"),
        ({"text": [SECRET, "x"], "post_id": ["1", 2]}, "the input, row 2: post_id must be a string"),
        ({"text": [SECRET, "x"], "post_id": ["1", True]}, "the input, row 2: post_id must be a string"),
        ({"text": [SECRET, "x"], "criterion_id": ["A.1", 1.5]}, "the input, row 2: criterion_id must be a string"),
        ({"text": [SECRET, "x"], "post_id": ["1", None]}, "the input, row 2: post_id is missing; give all posts one"),
        ({"text": [SECRET, "x"], "post_id": [1, 2]}, "Failed to enforce model input schema"),
    ],
)
def test_bad_input_is_named_without_its_text(
    model: Path, asked: dict[str, list[object]], words: str, caplog: pytest.LogCaptureFixture
) -> None:
    loaded = mlflow.pyfunc.load_model(str(model))
    with pytest.raises((MentallamError, MlflowException), match=words) as error, caplog.at_level(logging.DEBUG):
        loaded.predict(pd.DataFrame(asked))
    assert "arzipan" not in str(error.value) + caplog.text


def test_no_text_is_logged_or_returned(
    model: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    loaded = mlflow.pyfunc.load_model(str(model))
    with caplog.at_level(logging.DEBUG):
        answer = loaded.predict(pd.DataFrame({"text": [f"{SECRET} " * 50]}))
    assert list(answer.columns) == COLUMNS == SIGNATURE.outputs.input_names()
    assert "arzipan" not in answer.to_json() + caplog.text + "".join(capfd.readouterr())


def test_signature_and_example_go_with_the_model(model: Path) -> None:
    loaded: PyFuncModel = mlflow.pyfunc.load_model(str(model))
    assert loaded.metadata.signature == SIGNATURE
    pd.testing.assert_frame_equal(loaded.input_example, INPUT_EXAMPLE)


def assert_required(files: list[str]) -> None:
    """Assert that each distribution which one of the modules imports is a requirement."""
    imported = set()
    for file in files:
        for node in ast.walk(ast.parse(Path(file).read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                imported |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                imported.add(node.module.split(".")[0])
    assert "torch" in imported
    owners = importlib.metadata.packages_distributions()
    listed = {re.split("==", line)[0].lower() for line in requirements()}
    for name in imported - {"mentallam", "bitsandbytes", "plotly"}:  # plotly is imported for the type checker only
        needed = {owner.lower().replace("_", "-") for owner in owners.get(name, ())}  # mlflow's are three
        assert not needed or needed & listed, name


ODD_IDS = ["0012", "1e5", "true", "-5", "=1+1", "007.0", "inf", "größe", "a b"]


@pytest.fixture
def server(model: Path, monkeypatch: pytest.MonkeyPatch) -> TestClient:
    """Return MLflow's scoring server, as `mlflow models serve` starts it."""
    monkeypatch.delenv("_MLFLOW_IS_IN_SERVING_ENVIRONMENT", raising=False)  # pytest removes it again after the test
    monkeypatch.setattr(scoring_server, "invocations", scoring_server.invocations)  # it is replaced
    monkeypatch.setenv(scoring_server._SERVER_MODEL_PATH, str(model))
    return TestClient(scoring_server.init(mlflow.pyfunc.load_model(str(model))))


def answers(response: httpx.Response) -> list[tuple[str, str]]:
    assert response.status_code == 200, response.text
    return [(row["post_id"], row["criterion_id"]) for row in response.json()["predictions"]]


def test_ids_come_back_from_the_server_as_they_went_in(server: TestClient) -> None:
    frame = pd.DataFrame({"post_id": ODD_IDS, "text": "I am tired.", "criterion_id": "A.4"})
    expected = [(post_id, "A.4") for post_id in ODD_IDS]
    as_csv = server.post("/invocations", content=frame.to_csv(index=False), headers={"content-type": "text/csv"})
    assert answers(as_csv) == expected
    na = [*ODD_IDS, "NA", "null", "nan", ""]
    for orient in ("records", "split"):
        frame = pd.DataFrame({"post_id": na, "text": "I am tired.", "criterion_id": "A.4"})
        as_json = server.post("/invocations", json={f"dataframe_{orient}": frame.to_dict(orient)})
        assert answers(as_json) == [(post_id, "A.4") for post_id in na[:-1]] + [("13", "A.4")]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (f"post_id,text\nNA,{SECRET}\n", "the input, row 1: post_id is missing; give all posts one"),
        (f"post_id,body\n1,{SECRET}\n", "the input has no column text"),
        (f"post_id,text\n1,{SECRET}\n2,\n", "the input, row 2: the text is empty"),
        (f"post_id,text\n1,{SECRET}, so tired\n", "the first row has more values than the header"),
    ],
)
def test_the_server_refuses_in_a_sentence_without_the_text(server: TestClient, content: str, words: str) -> None:
    response = server.post("/invocations", content=content, headers={"content-type": "text/csv"})
    assert response.status_code == 400
    assert response.json()["message"].startswith(words)
    assert "stack_trace" not in response.json()
    assert "arzipan" not in response.text


def test_a_file_that_mlflow_reads_without_the_schema_is_refused_where_ids_were_changed(
    model: Path, tmp_path: Path
) -> None:
    """`mlflow models predict --content-type csv` does this: its reader turns such ids into numbers."""
    file = tmp_path / "posts.csv"
    file.write_text("post_id,text\n0012,I am tired.\n1e5,Not me.\n")
    loaded = mlflow.pyfunc.load_model(str(model))
    with pytest.raises(MlflowException, match="Failed to enforce model input schema"):
        loaded.predict(scoring_server.parse_csv_input(str(file)))


def test_the_docs_list_what_a_model_config_may_hold() -> None:
    docs = (PROJECT / "docs" / "registry.md").read_text(encoding="utf-8")
    listed = re.search(r"changes how the model predicts: ([^.]+)\.", docs)
    assert listed
    assert re.findall(r"`(\w+)`", listed[1]) == [*(field.name for field in fields(InferenceConfig)), "base_models"]


def test_a_damaged_checkpoint_in_a_registered_model_is_refused_by_file(model: Path) -> None:
    (folder,) = (model / "artifacts").iterdir()
    for file in folder.iterdir():
        content = file.read_bytes()
        file.write_bytes(content[:-20] + bytes([content[-20] ^ 1]) + content[-19:])
        # MLflow imports the model's own copy of the package, whose errors are of another class.
        with pytest.raises(
            Exception, match=r"artifacts/fold_1/[\w.]+ (has changed|is damaged|is missing).*fold 1 again"
        ):
            mlflow.pyfunc.load_model(str(model))
        file.write_bytes(content)
    mlflow.pyfunc.load_model(str(model))
