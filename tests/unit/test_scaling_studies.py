"""The models behind docs/scaling.md: FLOPs against PyTorch's count, and the queue of folds against exact cases."""

import importlib
import json
import re
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as functional
from accelerate.utils import send_to_device
from hypothesis import assume, given
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode
from transformers import LlamaConfig

from mentallam.classifier.memory import empty_classifier
from mentallam.classifier.model import empty_base
from mentallam.classifier.packing import pack
from mentallam.classifier.prompts import PostExample
from mentallam.config import compose_config
from tests.samples import PROJECT

with pytest.MonkeyPatch.context() as patch:
    patch.syspath_prepend(PROJECT / "studies")
    fold_queue, scaling_model, step_flops = map(importlib.import_module, ("fold_queue", "scaling_model", "step_flops"))

Post = step_flops.Post
SHAPE = step_flops.Shape(hidden=128, inner=352, layers=3, heads=4, kv_heads=2, head_dim=32)
# One prefix is longer than a piece of the attention; suffixes differ in length.
POSTS = [Post(40, (7, 9, 8)), Post(400, (9, 5, 6)), Post(300, (12, 11, 12))]
CALM = fold_queue.Conditions(preemptions_per_day=0, failures_per_day=0)


def architecture() -> LlamaConfig:
    return LlamaConfig(
        hidden_size=SHAPE.hidden,
        intermediate_size=SHAPE.inner,
        num_hidden_layers=SHAPE.layers,
        num_attention_heads=SHAPE.heads,
        num_key_value_heads=SHAPE.kv_heads,
        vocab_size=300,
        max_position_embeddings=1024,
    )


def batch() -> dict[str, Any]:
    examples = [
        PostExample(
            str(number),
            [1] * post.prefix,
            False,
            [str(k) for k in range(len(post.suffixes))],
            [[1] * length for length in post.suffixes],
            [0] * len(post.suffixes),
        )
        for number, post in enumerate(POSTS)
    ]
    return dict(send_to_device(pack(examples), "meta"))


def counter() -> FlopCounterMode:
    """PyTorch's count, with the product that it does not know: `addmm_`, by which an adapter is added in place."""
    in_place = {torch.ops.aten.addmm_: lambda out, a, b, *_, **__: 2 * a[0] * a[1] * b[1]}
    return FlopCounterMode(display=False, custom_mapping=in_place)


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_the_flops_of_a_training_step_are_pytorchs_count(checkpointing: bool) -> None:
    model = empty_classifier(architecture(), compose_config(PROJECT / "hydra_configs", "smollm2", "")).train()
    if checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    inputs = batch()
    labels = inputs.pop("labels")
    with counter() as counted:
        functional.cross_entropy(model(**inputs).logits, labels).backward()
    calculated = step_flops.training_flops(SHAPE, POSTS, checkpointing, as_multiplied=True)
    assert calculated.total == pytest.approx(counted.get_total_flops(), rel=0.01)


def test_the_flops_of_a_prediction_are_pytorchs_count() -> None:
    with torch.device("meta"):
        model = empty_base(architecture(), torch.bfloat16).eval()
    inputs = batch()
    del inputs["labels"]
    with torch.no_grad(), counter() as counted:
        model(**inputs)
    calculated = step_flops.prediction_flops(SHAPE, POSTS, as_multiplied=True)
    assert calculated.total == pytest.approx(counted.get_total_flops(), rel=0.01)


def test_needed_flops_are_those_of_the_benchmark() -> None:
    result = json.loads((PROJECT / "benchmarks/results/training.json").read_text(encoding="utf-8"))
    posts = [Post(prefix, scaling_model.SUFFIXES) for prefix in scaling_model.TWIN_STEPS[0]]
    needed = step_flops.training_flops(step_flops.SMOLLM2, posts).needed
    assert needed == result["rounds"][0]["runs"]["padded"]["needed_flops"]


@given(st.integers(1, 600), st.lists(st.integers(1, 60), min_size=1, max_size=9))
def test_what_is_multiplied_is_never_less_than_what_is_visible(prefix: int, suffixes: list[int]) -> None:
    post = Post(prefix, tuple(suffixes))
    length = post.tokens
    assert post.visible <= post.multiplied
    assert post.visible <= length * (length + 1) / 2


@given(st.integers(1, 29))
def test_fewer_trained_layers_need_less_and_kept_states_least(layers: int) -> None:
    needed = [
        step_flops.training_flops(step_flops.SMOLLM2, POSTS, trained_layers=layers, states_kept=kept).needed
        for kept in (True, False)
    ]
    every = step_flops.training_flops(step_flops.SMOLLM2, POSTS).needed
    assert needed[0] < needed[1] < every
    assert needed[0] == pytest.approx(every * layers / 30)


def test_the_measured_steps_are_those_of_the_page() -> None:
    page = (PROJECT / "docs/performance.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (DoRA|LoRA) \| \d+, \d+, ([\d,]+) \| compiled \| (\d+) \| ([\d.]+) \|", page, re.MULTILINE)
    named = [("DoRA", step) for step in scaling_model.DORA] + [("LoRA", step) for step in scaling_model.LORA]
    assert sorted(rows) == sorted(
        (name, f"{step.tokens:,}", f"{1e3 * step.seconds:.0f}", f"{step.share:.2f}") for name, step in named
    )
    for _, step in named:
        assert sum(post.tokens for post in step.posts) == step.tokens


def test_a_fitted_line_goes_through_its_points() -> None:
    for steps in (scaling_model.DORA, scaling_model.LORA):
        line = scaling_model.line_of(steps)
        assert [line.seconds(scaling_model.needed(step)) for step in steps] == pytest.approx(
            [step.seconds for step in steps]
        )


def test_the_page_has_every_row_that_the_model_prints(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["scaling_model.py"])
    scaling_model.main()
    printed = capsys.readouterr().out.splitlines()
    page = (PROJECT / "docs/scaling.md").read_text(encoding="utf-8").splitlines()
    assert [line for line in printed if line.startswith("|") and line not in page] == []


@st.composite
def conditions(draw: st.DrawFn) -> Any:
    return fold_queue.Conditions(
        startup_seconds=draw(st.floats(0, 500)),
        slowdown=draw(st.floats(1, 2)),
        preemptions_per_day=draw(st.floats(0, 20)),
        failures_per_day=draw(st.floats(0, 20)),
        restart_seconds=draw(st.floats(0, 2000)),
        save_minutes=draw(st.floats(1, 60)),
        epochs=draw(st.integers(1, 30)),
    )


UNITS = st.lists(st.floats(10, 10_000), min_size=1, max_size=12)
GPUS = st.integers(1, 16)


@given(UNITS, GPUS, conditions(), st.integers(0, 100))
def test_a_queue_takes_its_lower_bound_at_least_and_no_work_disappears(
    units: list[float], gpus: int, given_conditions: Any, seed: int
) -> None:
    outcome = fold_queue.simulate(units, gpus, given_conditions, seed)
    startup = given_conditions.startup_seconds
    bound = max(max(units) + startup, (sum(units) + len(units) * startup) / gpus)
    assert outcome.makespan >= bound * (1 - 1e-9)
    spent = outcome.useful + outcome.lost + outcome.started
    assert outcome.useful == sum(units)
    assert spent * (1 - 1e-9) <= outcome.busy <= spent * given_conditions.slowdown * (1 + 1e-9)
    rounding = 1e-9 * max(1.0, outcome.busy)  # `started` is a difference of large sums
    assert len(units) * startup - rounding <= outcome.started
    assert outcome.started <= (len(units) + outcome.breaks) * startup + rounding
    assert outcome.lost <= outcome.breaks * min(60 * given_conditions.save_minutes, max(units)) * (1 + 1e-9)
    assert outcome.busy <= gpus * outcome.makespan * (1 + 1e-9)
    assert fold_queue.simulate(units, gpus, given_conditions, seed) == outcome


@given(UNITS, GPUS)
def test_without_breaks_the_makespan_is_exact_or_within_grahams_bound(units: list[float], gpus: int) -> None:
    makespan = fold_queue.simulate(units, gpus, CALM, 0).makespan
    jobs = [unit + CALM.startup_seconds for unit in units]
    assert makespan <= (sum(jobs) / gpus + (1 - 1 / gpus) * max(jobs)) * (1 + 1e-9)
    assert fold_queue.simulate(units, gpus + 1, CALM, 0).makespan <= makespan * (1 + 1e-9)
    assert fold_queue.simulate(units, 1, CALM, 0).makespan == pytest.approx(sum(jobs))
    assert fold_queue.simulate(units, len(units), CALM, 0).makespan == pytest.approx(max(jobs))


def test_two_workers_on_one_machine_slow_each_other_down_and_the_last_fold_runs_alone() -> None:
    shared = replace(CALM, startup_seconds=20, slowdown=1.5)
    outcome = fold_queue.simulate([100.0] * 5, 2, shared, 0)
    assert outcome.makespan == pytest.approx(2 * 1.5 * 120 + 120)
    # Of two folds the longer one runs alone at the end.
    assert fold_queue.simulate([80.0, 180.0], 2, shared, 0).makespan == pytest.approx(1.5 * 100 + 100)


@given(st.floats(100, 20_000), st.floats(0, 1), st.floats(0, 1), conditions())
def test_the_last_state_is_the_newest_of_those_that_were_saved(
    seconds: float, begun: float, done: float, given_conditions: Any
) -> None:
    begun, done = sorted((begun * seconds, done * seconds))
    state = fold_queue.last_state(seconds, begun, done, given_conditions)
    epoch, save = seconds / given_conditions.epochs, 60 * given_conditions.save_minutes
    # Step by step, as a training saves: after `save` seconds, or at the end of an epoch if that comes first.
    saved = [begun]
    for end in [*(epoch * number for number in range(1, given_conditions.epochs + 1)), np.inf]:
        while saved[-1] + save < min(end, done):
            saved.append(saved[-1] + save)
        if saved[-1] < end <= done:
            saved.append(end)
    assert begun <= state <= done
    moments = (*saved, saved[-1] + save, epoch * round(done / epoch))
    assume(all(abs(done - moment) > 1e-6 * seconds for moment in moments))  # there rounding decides what counts
    assert state == pytest.approx(saved[-1], abs=1e-6 * seconds)


def test_failures_cost_on_average_what_renewal_theory_says() -> None:
    """A fold of n segments between states, on one GPU that fails at rate f and is back after d seconds.

    After a start of s seconds, a segment of t seconds succeeds with probability q = exp(-f (s + t)), which takes
    (1 - q) (1 / f + d) / q seconds on average; a following segment needs no start unless it fails.
    """
    start, save, segments, back, rate = 200.0, 900.0, 8, 300.0, 1 / 3000
    failing = replace(
        CALM,
        startup_seconds=start,
        save_minutes=save / 60,
        failures_per_day=rate * 86_400,
        restart_seconds=back,
        epochs=1,
    )
    after_start, goes_on = np.exp(-rate * (start + save)), np.exp(-rate * save)
    first = (1 - after_start) * (1 / rate + back) / after_start
    following = (1 - goes_on) * (1 / rate + back + first)
    expected = first + (segments - 1) * following
    makespans = [fold_queue.simulate([segments * save], 1, failing, seed).makespan for seed in range(3000)]
    error = np.std(makespans) / np.sqrt(len(makespans))
    assert abs(np.mean(makespans) - expected) < 4 * error
    assert error < 0.02 * expected


def test_a_signal_loses_no_work_and_more_breaks_take_longer_on_average() -> None:
    signalled = replace(CALM, preemptions_per_day=20)
    assert {outcome.lost for outcome in fold_queue.repeat(10, 4, signalled, 20)} == {0.0}
    ways = [CALM, replace(CALM, failures_per_day=5), replace(CALM, failures_per_day=40)]
    for gpus in (1, 4):
        means = [np.mean([outcome.makespan for outcome in fold_queue.repeat(10, gpus, way, 40)]) for way in ways]
        assert all(fewer < more for fewer, more in pairwise(means))
    # With the same breaks, work that is lost comes on top.
    seeds = range(30)
    units = fold_queue.draw_folds(CALM, 10, 0)
    kept, lost = (
        np.mean([fold_queue.simulate(units, 1, way, seed).makespan for seed in seeds])
        for way in (signalled, replace(CALM, failures_per_day=20))
    )
    assert kept < lost


def test_folds_have_the_mean_and_the_spread_that_were_asked_for() -> None:
    folds = np.array(fold_queue.draw_folds(replace(CALM, spread=0.3), 200_000, 0))
    assert folds.mean() == pytest.approx(CALM.fold_seconds, rel=0.01)
    assert folds.std() / folds.mean() == pytest.approx(0.3, rel=0.02)
    assert set(fold_queue.draw_folds(replace(CALM, spread=0), 5, 0)) == {CALM.fold_seconds}


def test_the_command_compares_with_a_measurement(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    options = "--folds 5 --fold-seconds 100 --gpus 2 --startup-seconds 20 --slowdown 1.5 --spread 0 --repeats 1"
    options += " --preemptions-per-day 0 --failures-per-day 0 --measured 400"
    monkeypatch.setattr("sys.argv", ["fold_queue.py", *options.split()])
    fold_queue.main()
    assert capsys.readouterr().out.splitlines()[-1] == "simulated 480 s, measured 400 s: ratio 1.20"
