"""The scoring server's answers to bad requests, by MLflow's own function and a model without weights."""

import json
import logging
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
from mlflow.exceptions import MlflowException
from mlflow.models import Model
from mlflow.pyfunc import PyFuncModel, scoring_server
from packaging.version import Version

from mentallam.errors import MentallamError
from mentallam.serving import scoring_server as ours
from mentallam.serving.output_fields import OUTPUT_FIELDS
from mentallam.serving.pyfunc import SIGNATURE, ScreeningModel
from mentallam.serving.scoring_server import answer_errors_in_a_sentence, is_scoring_server, without_request

SECRET = "Marzipan lighthouse"
NOT_READABLE = "the request can't be read: send JSON with one of dataframe_records"
JSON, CSV = "application/json", "text/csv"
# pandas 3 refuses such a character by itself; pandas 2, the last one for Python 3.10, lets it through to our reader.
HALF_A_PAIR = {True: "the request is not valid Unicode", False: "the input, row 1: text is not valid UTF-8"}[
    Version(pd.__version__) >= Version("3")
]


class Unweighted:
    """A predictor that answers nothing, or fails."""

    def __init__(self, error: Exception | None = None) -> None:
        self._error = error

    def prepare(self, post: Any) -> list[Any]:
        return []

    def answer(self, questions: Any) -> dict[str, list[Any]]:
        if self._error is not None:
            raise self._error
        return {field.name: [] for field in OUTPUT_FIELDS}


def request(
    content: str | bytes, content_type: str | None = JSON, error: Exception | None = None
) -> scoring_server.InvocationsResponse:
    screening = ScreeningModel()
    screening._predictor = Unweighted(error)  # type: ignore[assignment]
    model = SimpleNamespace(predict=lambda data, params=None: screening.predict(None, data))  # type: ignore[arg-type]
    meta = Model(signature=SIGNATURE, flavors={"python_function": {"loader_module": "none"}})
    data = content.encode() if isinstance(content, str) else content
    invocations = without_request(scoring_server.invocations)
    return invocations(data, content_type, PyFuncModel(meta, model), SIGNATURE.inputs)


@pytest.mark.parametrize(
    ("content", "content_type", "words"),
    [
        (f'{{"dataframe_records": [{{"text": "{SECRET}}}', JSON, "the request is not valid JSON: Unterminated string"),
        ("", JSON, "the request is not valid JSON: Expecting value at line 1, column 1"),
        (f'{{"instances": ["{SECRET} \xff"]}}'.encode("latin-1"), JSON, "the request is not valid Unicode"),
        (f'{{"dataframe_records": [{{"text": "{SECRET} \\ud800"}}]}}', JSON, HALF_A_PAIR),
        (f"text\n{SECRET} \xff\n".encode("latin-1"), CSV, "the request is not valid Unicode"),
        ("[" * 100_000, JSON, NOT_READABLE),
        (json.dumps({"text": SECRET}), JSON, NOT_READABLE),
        (json.dumps([SECRET]), JSON, NOT_READABLE),
        (json.dumps({"inputs": [SECRET], "instances": [SECRET]}), JSON, NOT_READABLE),
        (json.dumps({"instances": [{"text": SECRET, "criterion_id": "A.1"}, {"text": SECRET}]}), JSON, NOT_READABLE),
        (json.dumps({"dataframe_split": {"columns": ["text"], "data": [[SECRET, SECRET]]}}), JSON, NOT_READABLE),
        (json.dumps({"dataframe_split": {"columns": ["text"] * 2, "data": [[SECRET] * 2]}}), JSON, NOT_READABLE),
        (json.dumps({"messages": [{"role": "user", "content": SECRET}]}), JSON, "the input has no column text"),
        (json.dumps({"dataframe_records": []}), JSON, "the input has no column text"),
        (
            json.dumps({"dataframe_records": [{"text": SECRET, "post_id": 12}]}),
            JSON,
            "the input, row 1: post_id must be a string; put it in quotes",
        ),
        ("", CSV, NOT_READABLE),
        (f'text\n"{SECRET}\n', CSV, NOT_READABLE),
        (f"{SECRET}\n{SECRET}\n", CSV, "the input has no column text"),
        (f"post_id,text\n1,{SECRET}, so tired\n", CSV, "the first row has more values than the header"),
        (SECRET, "application/vnd.apache.parquet", NOT_READABLE),
    ],
)
def test_a_bad_request_is_answered_in_one_sentence_without_the_text(
    content: str | bytes, content_type: str, words: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG), pytest.raises(MlflowException) as refused:
        request(content, content_type)
    assert refused.value.get_http_status_code() == 400
    answer = json.loads(refused.value.serialize_as_json())
    assert answer["message"].startswith(words)
    assert "stack_trace" not in answer
    assert "arzipan" not in str(answer) + caplog.text


def test_a_good_request_goes_through() -> None:
    answered = request(json.dumps({"dataframe_records": [{"text": SECRET}]}))
    assert (answered.status, json.loads(answered.response)) == (200, {"predictions": []})


@pytest.mark.parametrize("content_type", [None, "text/plain", "application/json; charset=latin-1"])
def test_another_content_type_is_refused(content_type: str | None) -> None:
    answered = request(json.dumps({"dataframe_records": [{"text": SECRET}]}), content_type)
    assert answered.status == 415
    assert "arzipan" not in answered.response


def test_a_failure_of_the_program_is_500_and_its_place_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(MlflowException) as failed:
        request(json.dumps({"dataframe_records": [{"text": SECRET}]}), error=RuntimeError(f"no device for {SECRET}"))
    assert failed.value.get_http_status_code() == 500
    assert failed.value.message == "the prediction failed with RuntimeError; the server's log names the place"
    assert "a request failed: RuntimeError in " in caplog.text
    assert "test_scoring_server.py, line" in caplog.text
    assert "arzipan" not in failed.value.serialize_as_json() + caplog.text


def test_a_post_too_large_for_memory_is_400() -> None:
    with pytest.raises(MlflowException) as refused:
        request(json.dumps({"instances": [{"text": "x"}]}), error=MentallamError("post 1 does not fit into memory"))
    assert (refused.value.get_http_status_code(), refused.value.message) == (400, "post 1 does not fit into memory")


def test_mlflow_is_changed_in_its_server_only(monkeypatch: pytest.MonkeyPatch) -> None:
    before = scoring_server.invocations
    monkeypatch.setattr(ours.scoring_server, "invocations", before)  # pytest puts it back after the test
    monkeypatch.delenv(scoring_server._SERVER_MODEL_PATH, raising=False)
    assert not is_scoring_server()
    monkeypatch.setenv(scoring_server._SERVER_MODEL_PATH, "models:/m-1")
    assert is_scoring_server()
    answer_errors_in_a_sentence()
    assert scoring_server.invocations is not before
