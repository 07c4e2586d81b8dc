from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from peft import PeftModel
from sklearn.metrics import log_loss

from mentallam.classifier import training
from mentallam.classifier.prompts import PostExample, Prompter
from mentallam.classifier.scoring import score_pairs, sigmoid
from mentallam.classifier.training import (
    TrainingOutcome,
    class_weights,
    dev_scores,
    pair_loss,
    start_at_base_rate,
    train,
)
from mentallam.classifier.weights import BaseModel
from mentallam.config import Config, TrainConfig
from mentallam.evaluation.thresholds import best_threshold
from tests.unit.classifier.conftest import make_classifier

Logged = list[tuple[dict[str, float], int]]

DEV_SCORES = {"f1": 0.0, "average_precision": 0.0, "roc_auc": 0.0, "loss": 1.0}


def settings(**changes: Any) -> TrainConfig:
    values: dict[str, Any] = {
        "learning_rate": 1e-2,
        "scheduler": "cosine",
        "warmup_ratio": 0.1,
        "weight_decay": 0.01,
        "max_epochs": 3,
        "patience": 3,
        "effective_batch_pairs": 6,
        "tokens_per_pass": 300,
        "select_by": "loss",
        "class_weight": "none",
    }
    return TrainConfig(**{**values, **changes})


def toy(prompter: Prompter, numbers: range, invert: bool = False) -> list[PostExample]:
    """Posts that match every criterion asked of them if they say "tired", which every second does."""
    examples = []
    for number in numbers:
        text = f"On day {number} I was " + ("tired." if number % 2 else "at the lake.")
        asked = (None, ["A.6", "A.1"], ["A.4"])[number % 3]
        n_pairs = len(asked or prompter.criteria)
        examples.append(prompter.example(f"p{number}", text, asked, [(number + invert) % 2] * n_pairs))
    return examples


def labels_of(examples: list[PostExample]) -> NDArray[np.int64]:
    return np.array([label for example in examples for label in example.labels])


def adapter_of(model: PeftModel) -> dict[str, torch.Tensor]:
    return {name: p.detach().clone() for name, p in model.named_parameters() if p.requires_grad}


def largest_difference(left: dict[str, torch.Tensor], right: dict[str, torch.Tensor]) -> float:
    assert left.keys() == right.keys()
    return max(float((left[name] - right[name]).abs().max()) for name in left)


@pytest.fixture
def run(tiny_base: BaseModel, tiny_config: Config) -> Callable[..., tuple[PeftModel, TrainingOutcome, Logged]]:
    """Trains a classifier that is the same at each start; returns it, the outcome and all that was logged."""

    def run(
        train_numbers: range = range(7), invert_dev: bool = False, seed: int = 1, **changes: Any
    ) -> tuple[PeftModel, TrainingOutcome, Logged]:
        model, prompter = make_classifier(tiny_base, tiny_config)
        logged: Logged = []
        dev = toy(prompter, range(20, 26), invert_dev)
        outcome = train(
            model,
            toy(prompter, train_numbers),
            dev,
            settings(**changes),
            seed,
            lambda metrics, step: logged.append((metrics, step)),
        )
        return model, outcome, logged

    return run


@pytest.fixture
def prompter(tiny_base: BaseModel, tiny_config: Config) -> Prompter:
    return make_classifier(tiny_base, tiny_config)[1]


@pytest.mark.parametrize(("head_rate", "head_moves"), [(1e-12, False), (None, True)])
def test_the_head_has_its_own_learning_rate(
    run: Any, tiny_base: BaseModel, tiny_config: Config, head_rate: float | None, head_moves: bool
) -> None:
    start, prompter = make_classifier(tiny_base, tiny_config)
    start_at_base_rate(start, toy(prompter, range(7)))
    before = adapter_of(start)
    after = adapter_of(run(head_learning_rate=head_rate, max_epochs=1)[0])
    moved = {name: bool((after[name] - before[name]).abs().max() > 1e-6) for name in after}
    assert {moved[name] for name in moved if "score" in name} == {head_moves}
    assert all(moved[name] for name in moved if "lora_B" in name)


@pytest.mark.parametrize("balanced", [False, True])
def test_the_head_starts_at_the_base_rate(tiny_base: BaseModel, tiny_config: Config, balanced: bool) -> None:
    model, prompter = make_classifier(tiny_base, tiny_config)
    examples = [prompter.example(f"p{n}", f"Day {n}.", labels=[int(n == k) for k in range(9)]) for n in range(4)]
    labels = labels_of(examples)
    before = adapter_of(model)
    start_at_base_rate(model, examples, class_weights("balanced" if balanced else "none", labels))
    odds = 1.0 if balanced else (4 + 0.5) / (32 + 0.5)
    assert score_pairs(model, examples, 2).mean() == pytest.approx(np.log(odds), abs=0.15 if balanced else 1e-4)
    changed = {name for name, weight in adapter_of(model).items() if not torch.equal(weight, before[name])}
    assert len(changed) == 1
    assert "score" in changed.pop()


def test_it_learns(run: Any, prompter: Prompter) -> None:
    model, outcome, logged = run(range(12), max_epochs=6, effective_batch_pairs=4)
    losses = [metrics["loss"] for metrics, _ in logged if "loss" in metrics]
    assert np.mean(losses[:3]) > 0.4
    assert np.mean(losses[-3:]) < 0.05
    assert outcome.dev_f1 == 1.0
    dev = toy(prompter, range(20, 26))
    assert ((sigmoid(score_pairs(model, dev, 2)) >= outcome.threshold) == labels_of(dev)).all()


def test_only_adapters_and_head_are_trained(run: Any, tiny_base: BaseModel, tiny_config: Config) -> None:
    start, _ = make_classifier(tiny_base, tiny_config)
    model, _, _ = run(max_epochs=1)
    before, after = dict(start.named_parameters()), dict(model.named_parameters())
    changed = {name for name in after if not torch.equal(before[name], after[name])}
    kinds = ("lora_A", "lora_B", "lora_magnitude_vector", "score.modules_to_save")
    assert all(any(kind in name for kind in kinds) for name in changed)
    assert all(any(kind in name for name in changed) for kind in kinds)


@pytest.mark.parametrize("select_by", ["f1", "average_precision", "roc_auc", "loss"])
def test_the_best_epochs_weights_are_restored(
    run: Any, prompter: Prompter, monkeypatch: pytest.MonkeyPatch, select_by: str
) -> None:
    """The dev scores are scripted: the second of four epochs is the best."""
    best = iter([0.3, 0.8, 0.5, 0.7])
    seen: list[NDArray[np.float64]] = []

    def scripted(labels: NDArray[np.int64], logits: NDArray[np.float64]) -> dict[str, float]:
        seen.append(logits)
        score = next(best)
        return {**DEV_SCORES, select_by: 1 - score if select_by == "loss" else score}

    monkeypatch.setattr(training, "dev_scores", scripted)
    model, outcome, _ = run(max_epochs=4, patience=4, select_by=select_by)
    assert (outcome.best_epoch, outcome.epochs, len(seen)) == (2, 4, 4)
    dev = toy(prompter, range(20, 26))
    restored = score_pairs(model, dev, 2)
    np.testing.assert_allclose(restored, seen[1], rtol=0, atol=1e-6)
    assert abs(seen[3] - seen[1]).max() > 1e-2  # the last epoch's weights are others
    choice = best_threshold(labels_of(dev), sigmoid(restored))
    assert (outcome.threshold, outcome.dev_f1) == (choice.threshold, choice.f1)


def test_dev_scores_after_training_are_those_logged_for_the_best_epoch(run: Any, prompter: Prompter) -> None:
    model, outcome, logged = run(max_epochs=3, learning_rate=2e-3)
    epochs = [metrics for metrics, _ in logged if "dev_loss" in metrics]
    assert len(epochs) == outcome.epochs == 3
    assert outcome.best_epoch == 1 + int(np.argmin([metrics["dev_loss"] for metrics in epochs]))
    dev = toy(prompter, range(20, 26))
    again = dev_scores(labels_of(dev), score_pairs(model, dev, 2))
    then = {name.removeprefix("dev_"): value for name, value in epochs[outcome.best_epoch - 1].items()}
    assert then.pop("epoch") == outcome.best_epoch
    assert then == pytest.approx(again, abs=1e-6)


def test_it_stops_early(run: Any) -> None:
    """What is learned makes the inverted dev labels ever more wrong."""
    _, outcome, logged = run(invert_dev=True, max_epochs=9, patience=2, select_by="loss", warmup_ratio=0.0)
    losses = [metrics["dev_loss"] for metrics, _ in logged if "dev_loss" in metrics]
    assert outcome.best_epoch == int(np.argmin(losses)) + 1
    assert outcome.epochs == len(losses) == outcome.best_epoch + 2  # patience
    assert outcome.epochs < 9


@pytest.mark.parametrize("tokens_per_pass", [1, 200])  # a pass for each post; passes of one or two
@pytest.mark.parametrize("class_weight", ["none", "balanced"])
def test_the_budget_of_a_pass_changes_no_weight(run: Any, class_weight: str, tokens_per_pass: int) -> None:
    # 7 posts with 3, 2 or 1 pairs each; 3 posts per step, which leaves the last step of an epoch with one.
    options = {"effective_batch_pairs": 6, "class_weight": class_weight, "learning_rate": 1e-3, "max_epochs": 2}
    in_parts, first, _ = run(range(7), tokens_per_pass=tokens_per_pass, **options)
    together, second, logged = run(range(7), tokens_per_pass=10_000, **options)
    assert first.steps == second.steps == 6
    assert sum("loss" in metrics for metrics, _ in logged) == 6
    assert largest_difference(adapter_of(in_parts), adapter_of(together)) < 1e-5


def test_the_loss_is_the_mean_over_pairs(prompter: Prompter) -> None:
    generator = torch.Generator().manual_seed(0)
    logits, labels = torch.randn(6, 2, generator=generator), torch.tensor([0, 1, 0, 0, 1, 0])
    probabilities = logits.softmax(1)[:, 1].numpy()
    whole = pair_loss(outputs(logits), labels)
    assert float(whole) == pytest.approx(log_loss(labels, probabilities))
    parts = sum(pair_loss(outputs(logits[part]), labels[part], 6) for part in (slice(0, 1), slice(1, 6)))
    assert float(parts) == pytest.approx(float(whole))


def outputs(logits: torch.Tensor) -> Any:
    return type("Outputs", (), {"logits": logits})


def test_balanced_weights_give_both_labels_the_same_share(prompter: Prompter) -> None:
    labels = np.array([0, 0, 0, 1])
    weights = class_weights("balanced", labels)
    assert weights is not None
    assert weights.tolist() == pytest.approx([2 / 3, 2])
    assert class_weights("none", labels) is None
    assert class_weights("balanced", np.array([0, 0])) is None
    even = pair_loss(outputs(torch.zeros(4, 2)), torch.from_numpy(labels), class_weights=weights)
    assert float(even) == pytest.approx(np.log(2))  # on average 1 per pair


def test_the_same_seed_gives_the_same_metrics(run: Any) -> None:
    first, second, other = run(max_epochs=2), run(max_epochs=2), run(max_epochs=2, seed=2)
    figures = [[figure for figure in logged if "train_runtime" not in figure[0]] for _, _, logged in (first, second)]
    assert figures[0] == figures[1]
    assert first[1] == second[1]
    assert largest_difference(adapter_of(first[0]), adapter_of(second[0])) == 0
    assert [metrics.get("loss") for metrics, _ in first[2]] != [metrics.get("loss") for metrics, _ in other[2]]


def test_every_step_logs_loss_and_learning_rate(run: Any) -> None:
    options = {"effective_batch_pairs": 6, "learning_rate": 1e-3, "warmup_ratio": 0.2}
    _, outcome, logged = run(range(7), max_epochs=5, patience=5, **options)
    steps = {step: metrics for metrics, step in logged if "loss" in metrics}
    assert list(steps) == list(range(1, outcome.steps + 1)) == list(range(1, 16))  # 3 posts a step, 5 times 7 posts
    assert all(
        metrics.keys() >= {"loss", "learning_rate", "grad_norm", "pairs_per_second"} for metrics in steps.values()
    )
    rates = [metrics["learning_rate"] for metrics in steps.values()]
    assert rates[0] == 0
    assert max(rates) == rates[3] == pytest.approx(1e-3)  # a fifth of 15 steps to get there
    assert rates[3:] == sorted(rates[3:], reverse=True)
    assert all(isinstance(value, float) for metrics, _ in logged for value in metrics.values())


def test_dev_scores_of_one_label_only_choose_no_epoch() -> None:
    scores = dev_scores(np.array([0, 0]), np.array([-1.0, 1.0]))
    assert (scores["f1"], scores["average_precision"], scores["roc_auc"]) == (0.0, 0.0, 0.0)
    assert scores["loss"] > 0
