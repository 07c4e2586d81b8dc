"""A training on several ranks, each a process: from its start to its end, however it ends."""

import os
import signal
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch

from mentallam import interruption
from mentallam.classifier import ranks
from mentallam.classifier.ranks import open_ranks
from mentallam.classifier.training import TrainingOutcome, train
from mentallam.classifier.weights import BaseModel
from mentallam.config import Config
from mentallam.errors import MentallamError
from mentallam.interruption import RunStoppedError
from tests.unit.classifier.builders import make_classifier
from tests.unit.classifier.test_ranks import BUDGET, with_ranks
from tests.unit.classifier.test_training import adapter_of, figures, largest_difference, toy

Trained = tuple[dict[str, torch.Tensor], TrainingOutcome, list[tuple[dict[str, float], int]]]

OPTIONS = {"max_epochs": 2, "learning_rate": 1e-3}


def trained(base: BaseModel, config: Config, states: Path, on_step: Any = lambda step: None) -> Trained:
    """Train the tiny model on as many ranks as the configuration says; return adapters, outcome and log."""
    logged: list[tuple[dict[str, float], int]] = []

    def log(metrics: dict[str, float], step: int) -> None:
        logged.append((metrics, step))
        if "loss" in metrics:
            on_step(step)

    with open_ranks(base, config) as found:
        model, prompter = make_classifier(base, config)
        learn, choose = toy(prompter, range(7)), toy(prompter, range(20, 26))
        outcome = train(model, learn, choose, config.training, 1, log, states, ranks=found)
    assert not torch.distributed.is_initialized()
    assert other_ranks() == []
    return adapter_of(model), outcome, logged


def other_ranks() -> list[psutil.Process]:
    """Return the ranks that run; a process of another test that has just ended has no command line."""
    found = []
    for child in psutil.Process().children():
        with suppress(psutil.ZombieProcess, psutil.NoSuchProcess):
            found += [child] if "spawn_main" in " ".join(child.cmdline()) else []
    return found


@pytest.fixture(scope="module")
def whole(tiny_base: BaseModel, tiny_config: Config, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """Return an uninterrupted training on two ranks."""
    return trained(tiny_base, with_ranks(tiny_config, 2, **OPTIONS), tmp_path_factory.mktemp("whole"))


def test_two_ranks_train_as_one_process_does(
    whole: Trained, tiny_base: BaseModel, tiny_config: Config, tmp_path: Path
) -> None:
    two, outcome, log = whole
    one, alone, log_alone = trained(tiny_base, with_ranks(tiny_config, 1, **OPTIONS), tmp_path)
    assert (outcome.steps, outcome.best_epoch, outcome.epochs) == (alone.steps, alone.best_epoch, alone.epochs)
    assert outcome.steps == 6
    for (measured, step), (expected, expected_step) in zip(figures(log), figures(log_alone), strict=True):
        assert step == expected_step
        assert measured == pytest.approx(expected, abs=1e-5)
    assert 0 < largest_difference(two, one) < 1e-5


def test_a_training_that_is_stopped_and_then_loses_a_rank_goes_on_to_the_same_bits(
    whole: Trained, tiny_base: BaseModel, tiny_config: Config, tmp_path: Path
) -> None:
    config, threads = with_ranks(tiny_config, 2, **OPTIONS), torch.get_num_threads()

    def stop(step: int) -> None:
        if step == 1:
            os.kill(os.getpid(), signal.SIGTERM)

    interruption.watch()
    try:
        with pytest.raises(RunStoppedError, match="SIGTERM"):
            trained(tiny_base, config, tmp_path, stop)
    finally:
        interruption.unwatch()
        interruption._State.noted = None
    assert (tmp_path / "step_00000002").is_dir()
    assert other_ranks() == []
    assert torch.get_num_threads() == threads

    def lose(step: int) -> None:
        if step == 4:
            other_ranks()[0].kill()

    gone = r"^the process of rank 1 has ended by SIGKILL, maybe for lack of memory: .* to go on$"
    with pytest.raises(MentallamError, match=gone):
        trained(tiny_base, config, tmp_path, lose)
    assert other_ranks() == []
    found, outcome, log = trained(tiny_base, config, tmp_path)
    assert min(step for metrics, step in log if "loss" in metrics) == 4  # the state of the first epoch's end
    assert outcome == whole[1]
    assert largest_difference(found, whole[0]) == 0


def test_a_rank_that_fails_ends_the_training_with_its_sentence(
    tiny_base: BaseModel, tiny_config: Config, tmp_path: Path
) -> None:
    model, prompter = make_classifier(tiny_base, tiny_config)
    elsewhere = replace(tiny_base, folder=tmp_path / "nothing")
    with (
        pytest.raises(MentallamError, match=r"^rank 1: the base model in .*nothing can't be loaded"),
        open_ranks(elsewhere, with_ranks(tiny_config, 2)) as found,
    ):
        found.score(model, toy(prompter, range(2)), BUDGET)
    assert other_ranks() == []


def test_too_few_gpus_are_refused(tiny_base: BaseModel, tiny_config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranks, "on_gpu", lambda: True)
    monkeypatch.setattr(ranks, "visible_gpus", lambda: ["3"])
    with (
        pytest.raises(MentallamError, match=r"^training\.ranks=2 needs 2 GPUs, and this process sees 1: lower it$"),
        open_ranks(tiny_base, with_ranks(tiny_config, 2)),
    ):
        pass
