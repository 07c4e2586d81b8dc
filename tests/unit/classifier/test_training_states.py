"""Training that is stopped and goes on: equal to one that was never stopped, to the last bit."""

import errno
import json
import logging
import math
import re
import shutil
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from transformers import set_seed

from mentallam import files, interruption
from mentallam.classifier import gradients, training
from mentallam.classifier.prompts import PostExample, Prompter
from mentallam.classifier.training import TrainingOutcome, train
from mentallam.classifier.training_states import newest_state, save_state, set_weights, trained_weights
from mentallam.classifier.weights import BaseModel
from mentallam.config import Config, TrainConfig
from mentallam.errors import MentallamError
from mentallam.interruption import RunStoppedError
from tests.unit.classifier.builders import make_classifier

NEVER, ALWAYS = 1e6, 1e-9  # minutes
Log = list[tuple[dict[str, float], int]]


class Killed(BaseException):
    """The end of a process, which nothing catches."""


@dataclass
class Setting:
    """A model whose start can be restored, and posts to learn from."""

    model: PeftModel
    start: dict[str, torch.Tensor]
    learn: list[PostExample]
    choose: list[PostExample]
    config: TrainConfig

    def run(
        self, states: Path, at_log: Callable[[dict[str, float], int], object] = lambda *_: None, **changes: Any
    ) -> tuple[TrainingOutcome, dict[str, torch.Tensor], Log]:
        """Train from the start or a saved state, as in a new process; return also the weights and what was logged."""
        logged: Log = []

        def log(metrics: dict[str, float], step: int) -> None:
            at_log(metrics, step)
            logged.append((metrics, step))

        set_weights(self.model, self.start)
        set_seed(0)
        config = replace(self.config, **changes)
        outcome = train(self.model, self.learn, self.choose, config, 7, log, states, title="fold 2")
        return outcome, trained_weights(self.model), logged


def setting(base: BaseModel, config: Config, dropout: float = 0.0) -> Setting:
    """Return two steps an epoch; the second dev score is the best, so that its weights are those to find again."""
    model, prompter = make_classifier(base, replace(config, adapter=replace(config.adapter, dropout=dropout)))
    options = replace(
        config.training,
        **{"learning_rate": 5e-3, "warmup_ratio": 0.0, "max_epochs": 2, "patience": 3, "select_by": "loss"},
        **{"effective_batch_pairs": 6, "tokens_per_pass": 210, "save_minutes": ALWAYS},
    )
    return Setting(model, trained_weights(model), toy(prompter, range(4)), toy(prompter, range(20, 23)), options)


def toy(prompter: Prompter, numbers: range) -> list[PostExample]:
    texts = [f"On day {n} I was " + ("tired." if n % 2 else "at the lake.") for n in numbers]
    return [prompter.example(f"p{n}", text, labels=[n % 2] * 3) for n, text in zip(numbers, texts, strict=True)]


@pytest.fixture(autouse=True)
def no_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Skip what takes a second on a busy disk."""
    monkeypatch.setattr(files.os, "fsync", lambda descriptor: None)


@pytest.fixture(scope="module")
def plain(tiny_base: BaseModel, tiny_config: Config) -> Setting:
    return setting(tiny_base, tiny_config)


@pytest.fixture(scope="module")
def uninterrupted(
    plain: Setting, tmp_path_factory: pytest.TempPathFactory
) -> tuple[TrainingOutcome, dict[str, torch.Tensor], Log]:
    return plain.run(tmp_path_factory.mktemp("uninterrupted"), save_minutes=NEVER)


def killing(kind: str, at_step: int) -> Callable[[dict[str, float], int], object]:
    """Return a log that ends the process when the figures of a step ("loss") or of an evaluation ("dev_loss") come."""

    def log(metrics: dict[str, float], step: int) -> None:
        if kind in metrics and step == at_step:
            raise Killed

    return log


def figures(history: list[tuple[int, str, float]]) -> list[tuple[int, str, float]]:
    """Return a history without what measures the machine."""
    return [entry for entry in history if not entry[1].startswith(("pairs_per_second", "peak_"))]


def assert_equal(
    found: tuple[TrainingOutcome, dict[str, torch.Tensor], Log],
    expected: tuple[TrainingOutcome, dict[str, torch.Tensor], Log],
) -> None:
    """Compare outcome, history and weights to the last bit."""
    assert found[0] == expected[0]
    assert figures(found[0].history) == figures(expected[0].history)
    assert found[1].keys() == expected[1].keys()
    assert [name for name, weight in found[1].items() if not torch.equal(weight, expected[1][name])] == []


# Of four steps, two an epoch: in the first epoch; after its dev posts were scored; in the second epoch, twice.
@pytest.mark.parametrize(
    ("kills", "resumed_at"),
    [
        pytest.param([("loss", 2)], [1], marks=pytest.mark.slow),
        pytest.param([("dev_loss", 2)], [2], marks=pytest.mark.slow),
        ([("loss", 3), ("loss", 4)], [2, 3]),
    ],
)
def test_a_training_that_was_killed_ends_as_if_it_had_not_been(
    plain: Setting,
    uninterrupted: tuple[TrainingOutcome, dict[str, torch.Tensor], Log],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    kills: list[tuple[str, int]],
    resumed_at: list[int],
) -> None:
    for kind, step in kills:
        with pytest.raises(Killed):
            plain.run(tmp_path, killing(kind, step))
    caplog.clear()
    with caplog.at_level(logging.INFO):
        found = plain.run(tmp_path)
    assert_equal(found, uninterrupted)
    # Only what happens now is logged now; the last of two states says where that begins.
    steps = [step for metrics, step in found[2] if "loss" in metrics]
    assert steps == list(range(resumed_at[-1] + 1, 5))
    [line] = [text for text in caplog.messages if "goes on" in text]
    assert line.startswith(f"fold 2: goes on from step {resumed_at[-1]} (epoch {resumed_at[-1] / 2:.1f}), saved 20")
    assert found[0].seconds > 0


@pytest.mark.slow
def test_dropout_goes_on_with_its_random_numbers(tiny_base: BaseModel, tiny_config: Config, tmp_path: Path) -> None:
    dropped = setting(tiny_base, tiny_config, dropout=0.3)
    expected = dropped.run(tmp_path / "uninterrupted", save_minutes=NEVER)
    for kind, step in (("dev_loss", 2), ("loss", 4)):
        with pytest.raises(Killed):
            dropped.run(tmp_path / "killed", killing(kind, step))
    assert_equal(dropped.run(tmp_path / "killed"), expected)


@pytest.mark.slow
def test_what_had_ended_is_only_restored(
    plain: Setting,
    uninterrupted: tuple[TrainingOutcome, dict[str, torch.Tensor], Log],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first = plain.run(tmp_path, save_minutes=NEVER)
    monkeypatch.setattr(training._PackedTrainer, "training_step", None)
    again = plain.run(tmp_path)
    assert_equal(again, uninterrupted)
    assert [{name for name in metrics if not name.startswith("peak")} for metrics, _ in again[2]] == [{"train_loss"}]
    assert again[0].seconds == first[0].seconds > 0


@pytest.mark.slow
def test_early_stopping_counts_the_epochs_before_the_kill(plain: Setting, tmp_path: Path) -> None:
    """What is learned makes the turned dev labels ever more wrong, so the first epoch stays the best."""
    turned = replace(
        plain, choose=[replace(post, labels=[1 - label for label in post.labels]) for post in plain.choose]
    )
    expected = turned.run(tmp_path / "uninterrupted", patience=2, max_epochs=9, save_minutes=NEVER)
    assert expected[0].epochs < 9
    with pytest.raises(Killed):
        turned.run(tmp_path / "killed", killing("loss", expected[0].steps), patience=2, max_epochs=9)
    found = turned.run(tmp_path / "killed", patience=2, max_epochs=9)
    assert_equal(found, expected)


@pytest.fixture
def watched() -> Iterator[None]:
    interruption.watch()
    yield
    interruption.unwatch()


@pytest.mark.usefixtures("watched")
@pytest.mark.parametrize(("at", "saved"), [(1, (1, False)), pytest.param(2, (2, True), marks=pytest.mark.slow)])
def test_a_signal_stops_the_training_with_its_state_saved(
    plain: Setting,
    uninterrupted: tuple[TrainingOutcome, dict[str, torch.Tensor], Log],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    at: int,
    saved: tuple[int, bool],
) -> None:
    """At the end of its step; at the end of an epoch before the dev posts are scored, which may take minutes."""
    original = training._PackedTrainer.training_step

    def step(self: Any, *rest: Any) -> torch.Tensor:
        if self.state.global_step + 1 == at:
            signal.raise_signal(signal.SIGTERM)
        return original(self, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(training._PackedTrainer, "training_step", step)
        with pytest.raises(RunStoppedError, match="stopped by SIGTERM"):
            plain.run(tmp_path, save_minutes=NEVER)
    state = newest_state(tmp_path, "")
    assert state is not None
    assert (state.facts["step"], state.facts["owes_evaluation"]) == saved
    interruption.watch()
    assert_equal(plain.run(tmp_path, save_minutes=NEVER), uninterrupted)


def spoil(plain: Setting, monkeypatch: pytest.MonkeyPatch, at_step: int) -> None:
    """Make the gradients of a step infinite."""
    original = gradients.run_in_passes
    steps = 0

    def spoilt(examples: list[PostExample], tokens: int, *rest: Any) -> int:
        found = original(examples, tokens, *rest)
        if plain.model.training:
            nonlocal steps
            steps += 1
            if steps == at_step:
                next(p for p in plain.model.parameters() if p.grad is not None).grad.fill_(math.inf)  # type: ignore[union-attr]
        return found

    monkeypatch.setattr(gradients, "run_in_passes", spoilt)


def test_a_training_that_diverged_can_end_with_its_best_epoch(
    plain: Setting, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    expected = plain.run(tmp_path / "one_epoch", max_steps=2, scheduler="constant_with_warmup")
    options = {"scheduler": "constant_with_warmup", "save_minutes": NEVER}
    with monkeypatch.context() as patch:
        spoil(plain, patch, 4)
        with pytest.raises(
            MentallamError,
            match=r"^fold 2: the gradient's norm of step 4 is inf \(posts p\d, p\d\), so the training has diverged: "
            r"run this again with training.on_divergence=keep_best to keep epoch 1, its best so far \(it is saved in "
            r".*\), or start the fold anew with other settings: lower training.learning_rate",
        ):
            plain.run(tmp_path / "spoilt", **options)
    spoil(plain, monkeypatch, 2)  # the second step from the saved state on
    outcome, weights, logged = plain.run(tmp_path / "spoilt", on_divergence="keep_best", **options)
    assert (outcome.best_epoch, outcome.epochs, outcome.steps, outcome.diverged_at_step) == (1, 2, 3, 4)
    assert [step for metrics, step in logged if "loss" in metrics] == [3]
    assert all(torch.equal(weight, expected[1][name]) for name, weight in weights.items())
    assert "training.on_divergence=keep_best ends it with epoch 1, its best so far" in caplog.text
    assert all(math.isfinite(value) for _, _, value in outcome.history)
    assert plain.run(tmp_path / "spoilt", **options)[0] == outcome


def test_a_training_that_diverges_before_an_epoch_ends_has_nothing_to_keep(
    plain: Setting, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoil(plain, monkeypatch, 2)
    with pytest.raises(MentallamError, match="step 2 is inf .* has diverged before an epoch ended: lower"):
        plain.run(tmp_path, on_divergence="keep_best")


@pytest.mark.slow
def test_a_budget_that_was_halved_stays_so(
    plain: Setting, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    original = gradients.run_in_passes
    budgets: list[int] = []

    def halving(examples: list[PostExample], tokens: int, *rest: Any) -> int:
        budgets.append(tokens)
        return min(105, original(examples, tokens, *rest))

    monkeypatch.setattr(gradients, "run_in_passes", halving)
    with pytest.raises(Killed):
        plain.run(tmp_path, killing("loss", 2))
    plain.run(tmp_path, max_steps=2)
    assert budgets == [210, 105, 105]


def tensors(value: float) -> dict[str, dict[str, torch.Tensor]]:
    return {name: {"a": torch.full((50,), value)} for name in ("weights", "optimizer", "rng")}


def write(folder: Path, step: int) -> None:
    save_state(folder, step, {"step": step}, "{}", tensors(step))


def newest(folder: Path) -> int | None:
    state = newest_state(folder, "fold 2")
    return None if state is None else int(state.facts["step"])


def test_a_newer_state_replaces_an_older_one(tmp_path: Path) -> None:
    assert newest(tmp_path / "states") is None
    for step in (2, 10, 10):
        write(tmp_path / "states", step)
        assert newest(tmp_path / "states") == step
        assert [path.name for path in (tmp_path / "states").iterdir()] == [f"step_{step:08d}"]


FILES = ["weights.safetensors", "optimizer.safetensors", "rng.safetensors", "trainer_state.json", "state.json"]


@pytest.mark.parametrize("file", [*FILES, "manifest.json"])
@pytest.mark.parametrize("fault", ["missing", "shorter", "empty", "a flipped bit", "zeros"])
def test_a_state_that_is_not_complete_is_ignored(
    tmp_path: Path, file: str, fault: str, caplog: pytest.LogCaptureFixture
) -> None:
    write(tmp_path, 3)
    shutil.copytree(tmp_path / "step_00000003", tmp_path / "kept")
    write(tmp_path, 7)
    (tmp_path / "kept").rename(tmp_path / "step_00000003")
    path = tmp_path / "step_00000007" / file
    content = bytearray(path.read_bytes())
    if fault == "missing":
        path.unlink()
    elif fault == "a flipped bit":
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
    else:
        shorter = {"shorter": content[:-1], "empty": b"", "zeros": bytes(len(content))}[fault]
        path.write_bytes(shorter)
    assert newest(tmp_path) == 3
    [line] = caplog.messages
    reason = "is missing" if fault == "missing" else "is not as it was written"
    # A bit of the manifest may be one of a file's sha256.
    named = r"\S+" if (file, fault) == ("manifest.json", "a flipped bit") else re.escape(file)
    assert re.fullmatch(f"fold 2: the training state {re.escape(str(path.parent))} is ignored: {named} {reason}", line)


def test_a_state_whose_manifest_names_too_few_files_is_ignored(tmp_path: Path) -> None:
    write(tmp_path, 3)
    manifest = tmp_path / "step_00000003" / "manifest.json"
    hashes = json.loads(manifest.read_text())["sha256"]
    del hashes["weights.safetensors"]
    manifest.write_text(json.dumps({"sha256": hashes}))
    assert newest(tmp_path) is None


@pytest.mark.parametrize("new_step", [4, 5])  # the second state of one step replaces the first one
def test_a_kill_while_a_state_is_saved_leaves_the_old_or_the_new_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, new_step: int
) -> None:
    """Let the process die at each of the calls that change the disk."""
    outcomes = []
    for survived in range(100):
        folder = tmp_path / str(survived)
        write(folder, 4)
        old = newest_state(folder, "")
        assert old is not None
        left = survived

        def mortal(call: Callable[..., Any]) -> Callable[..., Any]:
            def dying(*args: Any, **named: Any) -> Any:
                nonlocal left
                left -= 1
                if left < 0:
                    raise Killed
                return call(*args, **named)

            return dying

        with monkeypatch.context() as patch:
            for place, name in (
                (files.os, "fsync"),
                (files.shutil, "rmtree"),
                (Path, "mkdir"),
                (Path, "replace"),
            ):
                patch.setattr(place, name, mortal(getattr(place, name)))
            try:
                save_state(folder, new_step, {"step": new_step, "new": True}, "{}", tensors(1.0))
                ended = True
            except Killed:
                ended = False
        state = newest_state(folder, "")
        assert state is not None
        outcomes.append(state.facts.get("new", False))
        if ended:
            break
        write(folder, 9)  # what the kill has left is cleared away
        assert [path.name for path in folder.iterdir()] == ["step_00000009"]
    assert outcomes == sorted(outcomes)
    assert len(outcomes) > 10
    assert outcomes[0] < outcomes[-1]


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EACCES, errno.EIO])
def test_a_disk_that_takes_no_more_is_one_sentence_and_the_earlier_state_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    write(tmp_path, 3)

    def full(*_: Any) -> None:
        raise OSError(code, "the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(files.os, "fsync", full)
        with pytest.raises(
            MentallamError,
            match=r"^.*step_00000004 can't be written \(.*\): check space and rights, then run this again$",
        ):
            write(tmp_path, 4)
    assert [path.name for path in tmp_path.iterdir()] == ["step_00000003"]
    assert newest(tmp_path) == 3
    write(tmp_path, 4)
    assert newest(tmp_path) == 4


def test_a_folder_that_cannot_be_made_is_named_before_the_training(plain: Setting, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(MentallamError, match=r"file/states can't be written \(Not a directory\): check space"):
        plain.run(tmp_path / "file" / "states")


def test_no_file_is_a_pickle_and_no_text_is_in_it(
    plain: Setting, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("load", "save"):
        monkeypatch.setattr(torch, name, None)
    with pytest.raises(Killed):
        plain.run(tmp_path, killing("loss", 4))
    plain.run(tmp_path)
    [folder] = tmp_path.iterdir()
    assert {path.name for path in folder.iterdir()} == {*FILES, "best.safetensors", "manifest.json"}
    for path in folder.iterdir():
        content = path.read_bytes()
        assert b"at the lake" not in content
        assert content[:1] != b"\x80"
        assert content[:2] != b"PK"
