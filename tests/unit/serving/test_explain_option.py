"""`mentallam predict --explain` on a checkpoint, without Kedro's session, which takes seconds to start."""

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from mentallam.classifier.checkpoint import TrainedFold, save_checkpoint
from mentallam.serving.command_line import main
from tests.samples import CRITERIA, PROJECT
from tests.unit.trained_folds import with_threshold

POST = "I am tired. \x1b[31mWe went [bold]out[/bold].\n\nAwake &amp; awake!"
SENTENCES = ["I am tired.", "We went [bold]out[/bold].", "Awake & awake!"]


@pytest.fixture(autouse=True)
def session(kedro: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(PROJECT)
    yield
    logging.disable(logging.NOTSET)  # the command silences logging for the whole process


def predict(trained: TrainedFold, folder: Path, threshold: float, *options: str) -> Result:
    save_checkpoint(with_threshold(trained, threshold), folder / "fold")
    result = CliRunner().invoke(main, ["predict", POST, "--model", str(folder / "fold"), *options])
    assert result.exit_code == 0, (result.output, result.exception)
    return result


def test_json_gives_places_in_the_written_text_and_no_text(trained: TrainedFold, tmp_path: Path) -> None:
    answers = json.loads(predict(trained, tmp_path, 0.0, "--explain", "--json").stdout)["answers"]
    assert [answer["criterion_id"] for answer in answers] == list(CRITERIA)
    found = [one for answer in answers for one in answer["evidence"]]
    assert found
    places = {0: (0, 11), 1: (12, 42), 2: (44, 62)}
    assert all(places[one["sentence"]] == (one["start"], one["end"]) for one in found)
    assert POST[44:62] == "Awake &amp; awake!"
    assert "tired" not in json.dumps(answers)


def test_the_table_shows_the_sentences_as_they_are_read(
    trained: TrainedFold, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    output = predict(trained, tmp_path, 0.0, "--explain").stdout
    assert "\x1b" not in output
    assert any(sentence in output for sentence in SENTENCES)
    assert "&amp;" not in output


def test_without_a_yes_the_command_says_so(trained: TrainedFold, tmp_path: Path) -> None:
    assert "No single sentence carries a yes." in predict(trained, tmp_path, 1.0, "--explain").stdout


def test_nothing_is_explained_unless_asked(trained: TrainedFold, tmp_path: Path) -> None:
    assert "evidence" not in json.loads(predict(trained, tmp_path, 0.0, "--json").stdout)["answers"][0]
    assert "tired" not in predict(trained, tmp_path, 0.0).stdout
