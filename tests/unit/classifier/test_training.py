import logging
from collections.abc import Callable, Mapping
from itertools import count
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from peft import PeftModel
from sklearn.metrics import log_loss

from mentallam.classifier import dora, gradients, progress, training
from mentallam.classifier.callbacks import EndsAfter
from mentallam.classifier.gradients import pair_loss
from mentallam.classifier.packing import pack
from mentallam.classifier.prompts import PostExample, Prompter
from mentallam.classifier.scoring import score_pairs, sigmoid
from mentallam.classifier.training import (
    TrainingOutcome,
    class_weights,
    dev_scores,
    start_at_base_rate,
    train,
)
from mentallam.classifier.weights import BaseModel
from mentallam.config import Config, TrainConfig, compose_config
from mentallam.errors import MentallamError
from mentallam.evaluation.thresholds import best_threshold
from tests.samples import PROJECT
from tests.unit.classifier.builders import make_classifier

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
        "tokens_per_pass": 210,  # a post takes 75 to 195 tokens
        "select_by": "loss",
        "class_weight": "none",
    }
    return TrainConfig(**{**values, **changes})


def toy(prompter: Prompter, numbers: range, invert: bool = False) -> list[PostExample]:
    """Return posts of which every second says "tired" and matches all its criteria."""
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
def run(
    tiny_base: BaseModel, tiny_config: Config, tmp_path: Path
) -> Callable[..., tuple[PeftModel, TrainingOutcome, Logged]]:
    """Return a function that trains a classifier, always from the same start, and returns it with outcome and log."""
    runs = count()

    def run(
        train_numbers: range = range(7),
        dev_numbers: range = range(20, 26),
        invert_dev: bool = False,
        seed: int = 1,
        prepare: Callable[[PeftModel], object] = lambda model: None,
        logged: Logged | None = None,
        states: Path | None = None,
        epochs: int | None = None,
        ends: EndsAfter | None = None,
        **changes: Any,
    ) -> tuple[PeftModel, TrainingOutcome, Logged]:
        model, prompter = make_classifier(tiny_base, tiny_config)
        prepare(model)
        logged = [] if logged is None else logged
        dev = toy(prompter, dev_numbers, invert_dev)
        outcome = train(
            model,
            toy(prompter, train_numbers),
            dev,
            settings(**changes),
            seed,
            lambda metrics, step: logged.append((metrics, step)),
            states or tmp_path / f"states_{next(runs)}",
            epochs=epochs,
            ends=ends,
        )
        return model, outcome, logged

    return run


def figures(logged: Logged) -> Logged:
    """Return the logged values without those that measure the machine."""
    machine = ("per_second", "runtime", "peak_")
    return [
        ({name: value for name, value in metrics.items() if not any(part in name for part in machine)}, step)
        for metrics, step in logged
    ]


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
    model, _, logged = run(range(12), max_epochs=6, effective_batch_pairs=4)
    losses = [metrics["loss"] for metrics, _ in logged if "loss" in metrics]
    assert np.mean(losses[:3]) > 0.4
    assert np.mean(losses[-3:]) < 0.05
    dev = toy(prompter, range(20, 26))
    assert best_threshold(labels_of(dev), sigmoid(score_pairs(model, dev, 2))).f1 == 1.0


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

    def scripted(labels: NDArray[np.int64], logits: NDArray[np.float64], _: object) -> dict[str, float]:
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


def test_a_given_number_of_epochs_ends_it_on_the_same_schedule_and_no_dev_post_is_read(run: Any) -> None:
    whole, _, all_logged = run(max_epochs=3, learning_rate=2e-3)
    model, outcome, logged = run(dev_numbers=range(0), epochs=2, max_epochs=3, learning_rate=2e-3)
    assert (outcome.best_epoch, outcome.epochs, outcome.selected_by) == (2, 2, "the median of the folds")
    assert not any("dev_loss" in metrics for metrics, _ in logged)

    def steps(found: Logged) -> list[tuple[float, float]]:
        return [(metrics["loss"], metrics["learning_rate"]) for metrics, _ in found if "learning_rate" in metrics]

    assert steps(logged) == steps(all_logged)[: outcome.steps]
    assert 0 < outcome.steps < len(steps(all_logged))
    assert largest_difference(adapter_of(model), adapter_of(whole)) > 0


def test_it_ends_after_an_epoch_that_is_asked_for_with_the_best_until_then(run: Any) -> None:
    asked: list[tuple[int, float]] = []

    def ends(epoch: int, scores: Mapping[str, float]) -> bool:
        asked.append((epoch, scores["average_precision"]))
        return epoch == 2

    model, outcome, logged = run(ends=ends, max_epochs=4, select_by="loss")
    best, two, _ = run(max_epochs=4, select_by="loss", ends=lambda epoch, scores: epoch == 2)
    assert (outcome.epochs, outcome.best_epoch) == (2, two.best_epoch)
    assert [score for _, score in asked] == [m["dev_average_precision"] for m, _ in logged if "dev_loss" in m]
    assert [epoch for epoch, _ in asked] == [1, 2]
    assert largest_difference(adapter_of(model), adapter_of(best)) == 0


def test_a_training_that_was_ended_is_not_gone_on_with(run: Any, tmp_path: Path) -> None:
    states = tmp_path / "kept"
    first, outcome, _ = run(ends=lambda epoch, scores: epoch == 1, max_epochs=3, states=states)
    again, same, _ = run(max_epochs=3, states=states)
    assert outcome == same
    assert largest_difference(adapter_of(first), adapter_of(again)) == 0


def test_it_stops_early(run: Any) -> None:
    """What is learned makes the inverted dev labels ever more wrong."""
    _, outcome, logged = run(invert_dev=True, max_epochs=9, patience=2, select_by="loss", warmup_ratio=0.0)
    losses = [metrics["dev_loss"] for metrics, _ in logged if "dev_loss" in metrics]
    assert outcome.best_epoch == int(np.argmin(losses)) + 1
    assert outcome.epochs == len(losses) == outcome.best_epoch + 2  # patience
    assert outcome.epochs < 9


@pytest.mark.parametrize("tokens_per_pass", [1, 300])  # a pass for each post; passes of one to three
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


def test_the_same_seed_gives_the_same_metrics_and_weights(run: Any) -> None:
    first, second, other = run(max_epochs=2), run(max_epochs=2), run(max_epochs=2, seed=2)
    assert figures(first[2]) == figures(second[2])
    names = {name for metrics, _ in figures(first[2]) for name in metrics}
    assert {"loss", "grad_norm", "learning_rate", "dev_f1", "dev_loss", "train_loss"} <= names
    assert first[1] == second[1]
    assert largest_difference(adapter_of(first[0]), adapter_of(second[0])) == 0
    assert figures(first[2]) != figures(other[2])
    assert largest_difference(adapter_of(first[0]), adapter_of(other[0])) > 1e-3


def test_every_step_logs_loss_and_learning_rate(run: Any) -> None:
    options = {"effective_batch_pairs": 6, "learning_rate": 1e-3, "warmup_ratio": 0.2}
    _, outcome, logged = run(range(7), max_epochs=5, patience=5, **options)
    steps = {step: metrics for metrics, step in logged if "loss" in metrics}
    assert list(steps) == list(range(1, outcome.steps + 1)) == list(range(1, 16))  # 3 posts a step, 5 times 7 posts
    seen = {"loss", "learning_rate", "grad_norm", "pairs_per_second"}
    assert all(metrics.keys() >= seen for metrics in steps.values())
    assert all(metrics["pairs_per_second"] > 0 for metrics in steps.values())
    rates = [metrics["learning_rate"] for metrics in steps.values()]
    assert rates[0] == 0
    assert max(rates) == rates[3] == pytest.approx(1e-3)  # a fifth of 15 steps to get there
    assert rates[3:] == sorted(rates[3:], reverse=True)
    assert all(isinstance(value, float) for metrics, _ in logged for value in metrics.values())


def test_balanced_weights_reach_the_loss_that_chooses() -> None:
    labels, logits = np.array([0, 0, 0, 1]), np.array([-2.0, -2.0, -2.0, -2.0])
    weights = class_weights("balanced", labels)
    sure_no, sure_yes = -np.log(sigmoid(np.array(2.0))), -np.log(sigmoid(np.array(-2.0)))
    assert dev_scores(labels, logits)["loss"] == pytest.approx((3 * sure_no + sure_yes) / 4)
    assert dev_scores(labels, logits, weights)["loss"] == pytest.approx((sure_no + sure_yes) / 2)


@pytest.mark.parametrize("label", [0, 1])
def test_of_one_label_only_the_loss_is_the_only_score(label: int) -> None:
    scores = dev_scores(np.array([label, label]), np.array([-1.0, 1.0]))
    assert scores == {"loss": pytest.approx((np.log1p(np.exp(1)) + np.log1p(np.exp(-1))) / 2)}


@pytest.mark.parametrize("select_by", ["f1", "average_precision", "roc_auc"])
@pytest.mark.parametrize("label", [0, 1])
def test_the_loss_chooses_the_epoch_where_all_dev_pairs_have_the_same_label(
    run: Any, select_by: str, label: int, caplog: pytest.LogCaptureFixture
) -> None:
    """Any other score is the same for every epoch, so that the first, inside the warmup, would be taken."""
    options = {"dev_numbers": range(20, 26, 2), "invert_dev": bool(label), "warmup_ratio": 0.4, "learning_rate": 2e-3}
    _, outcome, logged = run(select_by=select_by, **options)
    epochs = [metrics for metrics, _ in logged if "dev_loss" in metrics]
    losses = [metrics["dev_loss"] for metrics in epochs]
    assert outcome.selected_by == "loss"
    assert outcome.best_epoch == 1 + int(np.argmin(losses)) > 1
    assert not [metrics for metrics in epochs if {"dev_f1", "dev_average_precision", "dev_roc_auc"} & metrics.keys()]
    assert f"all dev pairs have the same label, so their {select_by} says nothing" in caplog.text


def test_the_outcome_says_what_chose_the_epoch(run: Any, caplog: pytest.LogCaptureFixture) -> None:
    assert run(select_by="roc_auc", max_epochs=1)[1].selected_by == "roc_auc"
    assert "same label" not in caplog.text


def without_memory_for(tokens: int, error: Exception) -> Callable[[PeftModel], object]:
    """Return a function that makes passes of more tokens fail in the middle of a backward pass, for lack of memory."""

    def prepare(model: PeftModel) -> object:
        def fail(module: torch.nn.Module, gradients: tuple[torch.Tensor]) -> None:
            if gradients[0].shape[1] > tokens:
                raise error

        return model.base_model.model.model.layers[0].register_full_backward_pre_hook(fail)

    return prepare


def checkpointed(model: PeftModel) -> None:
    model.gradient_checkpointing_enable({"use_reentrant": False})


GPU = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
CPU = RuntimeError("[enforce fail at alloc_cpu.cpp:125] DefaultCPUAllocator: can't allocate memory: you tried to ...")


@pytest.mark.parametrize(("error", "checkpointing"), [(GPU, False), (CPU, True)])
def test_a_lack_of_memory_changes_no_weight(
    run: Any, error: Exception, checkpointing: bool, caplog: pytest.LogCaptureFixture
) -> None:
    def prepare(model: PeftModel) -> None:
        without_memory_for(210, error)(model)
        if checkpointing:
            checkpointed(model)

    model, outcome, logged = run(tokens_per_pass=840, prepare=prepare)
    warnings = [record.args for record in caplog.records if "out of memory" in record.msg]
    assert [budget for _, budget in warnings] == [420, 210]  # and none in later steps
    calm, expected, figures_expected = run(tokens_per_pass=210, prepare=checkpointed if checkpointing else str)
    assert outcome == expected
    assert figures(logged) == figures(figures_expected)
    assert largest_difference(adapter_of(model), adapter_of(calm)) == 0


def test_a_post_that_cannot_be_trained_names_the_way_out(run: Any) -> None:
    with pytest.raises(MentallamError, match=r"^post p\d \(195 tokens .*set model.gradient_checkpointing=true, lower "):
        run(tokens_per_pass=400, prepare=without_memory_for(190, CPU))


def spoilt(step: int, where: str) -> Callable[[PeftModel], object]:
    """Return a function that makes the head's output, or only its gradient, not finite from a step on."""

    def prepare(model: PeftModel) -> object:
        calls = count(1)

        def spoil(module: torch.nn.Module, inputs: tuple[torch.Tensor], output: torch.Tensor) -> torch.Tensor:
            if not output.requires_grad or next(calls) < step:
                return output
            if where == "loss":
                return output * torch.nan
            output.register_hook(lambda gradient: gradient * torch.inf)
            return output

        return model.base_model.model.score.register_forward_hook(spoil)

    return prepare


@pytest.mark.parametrize(("where", "value"), [("loss", "nan"), ("gradient's norm", "(nan|inf)")])
def test_a_training_that_diverges_stops_at_its_step(run: Any, where: str, value: str) -> None:
    logged: Logged = []
    with pytest.raises(
        MentallamError, match=rf"^training: the {where} of step 2 is {value} \(posts p\d, .*\), .*: lower training"
    ):
        run(tokens_per_pass=10_000, prepare=spoilt(2, where), logged=logged)
    assert [step for metrics, step in logged if "loss" in metrics] == [1]


def test_dev_scores_that_are_not_finite_stop_the_training(run: Any) -> None:
    def prepare(model: PeftModel) -> object:
        def spoil(module: torch.nn.Module, inputs: tuple[torch.Tensor], output: torch.Tensor) -> torch.Tensor:
            return output if output.requires_grad or not started else output * torch.nan

        started: list[bool] = []
        model.register_forward_pre_hook(lambda module, inputs: started.append(True) if module.training else None)
        return model.base_model.model.score.register_forward_hook(spoil)

    with pytest.raises(MentallamError, match=r"^training: the dev scores after step \d are not finite, .*: lower"):
        run(prepare=prepare)


def test_gradient_checkpointing_changes_no_weight(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    norms: list[object] = []
    original = dora.refresh_norms
    monkeypatch.setattr(dora, "refresh_norms", lambda layers: norms.append(layers) or original(layers))
    plain, _, _ = run(learning_rate=1e-3)
    without = len(norms)
    model, outcome, _ = run(learning_rate=1e-3, prepare=checkpointed)
    assert largest_difference(adapter_of(model), adapter_of(plain)) < 1e-6
    assert len(norms) - without == without
    # 14 layers: once before the first step, once after each, and maybe again with the best epoch's weights.
    assert without in {14 * (1 + outcome.steps), 14 * (2 + outcome.steps)}


def test_activations_are_recomputed_in_training_and_not_in_scoring(tiny_base: BaseModel) -> None:
    config = compose_config(PROJECT / "hydra_configs", "tiny", "model.gradient_checkpointing=true")
    model, prompter = make_classifier(tiny_base, config)
    forwards: list[int] = []
    model.base_model.model.model.layers[0].self_attn.register_forward_hook(lambda *_: forwards.append(1))
    dev = toy(prompter, range(20, 26))
    score_pairs(model.train(), dev, 10_000)
    assert len(forwards) == 1
    batch = cast(dict[str, Any], pack(dev))
    labels = batch.pop("labels")
    pair_loss(model(**batch), labels).backward()
    assert len(forwards) == 3  # once, and once more on the way back


def test_the_steps_of_an_epoch_do_not_depend_on_the_budget(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[list[list[str]]] = []
    original = gradients.run_in_passes

    def spy(examples: list[PostExample], *rest: Any) -> int:
        steps[-1].append([example.post_id for example in examples])
        return original(examples, *rest)

    monkeypatch.setattr(gradients, "run_in_passes", spy)
    for budget in (1, 10_000):
        steps.append([])
        run(tokens_per_pass=budget, max_epochs=2)
    assert steps[0] == steps[1]
    assert [len(step) for step in steps[0]] == [3, 3, 1, 3, 3, 1]
    epochs = [[post_id for step in steps[0][start : start + 3] for post_id in step] for start in (0, 3)]
    assert sorted(epochs[0]) == sorted(epochs[1]) == [f"p{number}" for number in range(7)]
    assert epochs[0] != epochs[1]


def test_max_steps_ends_training_and_schedule(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    best = iter([0.3, 0.8])
    monkeypatch.setattr(training, "dev_scores", lambda *_: {**DEV_SCORES, "f1": next(best)})
    _, outcome, logged = run(max_epochs=9, max_steps=5, warmup_ratio=0.4, select_by="f1", learning_rate=1e-3)
    assert (outcome.steps, outcome.epochs, outcome.best_epoch) == (5, 2, 2)  # 3 steps are an epoch
    rates = [metrics["learning_rate"] for metrics, _ in logged if "loss" in metrics]
    assert rates[:3] == pytest.approx([0, 5e-4, 1e-3])  # two of five steps to get there
    assert rates[4] == pytest.approx(1e-3 * (1 + np.cos(np.pi * 2 / 3)) / 2)


def test_max_steps_beyond_the_last_epoch_change_nothing(run: Any) -> None:
    assert run(max_epochs=1, max_steps=99)[1].steps == 3


def test_weights_decay(run: Any) -> None:
    decayed, plain = (adapter_of(run(weight_decay=decay, max_epochs=1)[0]) for decay in (0.5, 0.0))
    size = [sum(float(w.square().sum()) for name, w in each.items() if "lora_A" in name) for each in (decayed, plain)]
    # AdamW shrinks weights by rate * decay at each step: by 0.5 % at the second of three, by less at the third.
    assert size[0] < size[1] * (1 - 5e-3) ** 2


def test_beta2_counts_from_the_second_step_on(run: Any) -> None:
    def difference(steps: int) -> float:
        close, far = (
            adapter_of(run(adam_beta2=beta2, max_steps=steps, warmup_ratio=0, scheduler="constant_with_warmup")[0])
            for beta2 in (0.5, 0.999)
        )
        return largest_difference(close, far)

    assert difference(1) < 1e-5
    assert difference(2) > 1e-4


def test_balanced_weights_move_what_cannot_be_learnt_to_one_half(
    tiny_base: BaseModel, tiny_config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All posts are the same, and one in four pairs matches: there is nothing to learn but how many."""
    monkeypatch.setattr(training, "start_at_base_rate", lambda *_: None)
    means = {}
    for name in ("none", "balanced"):
        model, prompter = make_classifier(tiny_base, tiny_config)
        posts = [prompter.example(f"p{n}", "A day.", ["A.1"], [int(n % 4 == 0)]) for n in range(640)]
        options = settings(class_weight=name, effective_batch_pairs=32, max_epochs=1, tokens_per_pass=2000)
        train(model, posts, posts[:8], options, 1, lambda *_: None, tmp_path / name)
        means[name] = float(sigmoid(score_pairs(model, posts[:1], 10_000)).mean())
    assert means == {"none": pytest.approx(0.25, abs=0.1), "balanced": pytest.approx(0.5, abs=0.1)}


def test_the_log_says_how_far_training_is(
    run: Any, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "_SECONDS_PER_LINE", 0.0)
    with caplog.at_level(logging.INFO):
        run(max_epochs=2)
    lines = [record.getMessage() for record in caplog.records if record.name.endswith("progress")]
    for word in ("6/6 steps", "epoch=2.0/2", "loss=", "dev_f1=", "dev_loss=", "pairs/s=", "GiB", " left"):
        assert word in lines[-1]


def test_a_macs_gpu_is_left_alone(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    # What accelerate and PEFT do there by themselves: it works on a Mac, and they copy to the CPU in the end.
    monkeypatch.setattr(torch.mps, "empty_cache", lambda: None)
    monkeypatch.setattr("peft.peft_model.infer_device", lambda: "cpu")
    monkeypatch.setattr("peft.utils.save_and_load.infer_device", lambda: "cpu")
    model, outcome, _ = run(max_epochs=1)
    assert outcome.steps == 3
    assert {parameter.device.type for parameter in model.parameters()} == {"cpu"}


def test_one_gpu_of_several_is_taken(tmp_path: Path) -> None:
    arguments = training._OneDevice(output_dir=str(tmp_path), use_cpu=True)
    assert arguments.n_gpu == 0
    for in_sight in (1, 4):
        arguments._n_gpu = in_sight  # as where the Trainer's arguments have counted them
        assert arguments.n_gpu == 1


def test_memory_is_logged_at_the_end_and_flops_are_not(run: Any) -> None:
    _, outcome, logged = run(max_epochs=1)
    [(peaks, step)] = [(metrics, step) for metrics, step in logged if "peak_rss_bytes" in metrics]
    assert peaks["peak_rss_bytes"] > 1e8
    assert step == outcome.steps
    assert not [metrics for metrics, _ in logged if "total_flos" in metrics]
