import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from peft import PeftModel

from mentallam.classifier.gradients import pair_loss
from mentallam.classifier.packing import pack
from mentallam.classifier.prompts import PostExample, Prompter
from mentallam.classifier.weights import BaseModel, prepare_base_model
from mentallam.config import Config, compose_config
from tests.samples import PROJECT
from tests.unit.classifier.builders import (
    gradients,
    make_classifier,
    make_examples,
    pairwise_logits,
    relative_difference,
)

Gradients = dict[str, torch.Tensor]


def packed_loss(model: PeftModel, examples: list[PostExample]) -> tuple[torch.Tensor, torch.Tensor]:
    batch = pack(examples)
    labels = batch.pop("labels")
    outputs = model(**batch)
    return outputs.logits, pair_loss(outputs, labels)


def check_logits(model: PeftModel, examples: list[PostExample]) -> tuple[Gradients, Gradients]:
    """Check that the logits are equal, and return the packed and the pairwise gradients."""
    packed, loss = packed_loss(model, examples)
    loss.backward()
    packed_gradients = gradients(model)
    model.zero_grad()

    pairwise = pairwise_logits(model, examples)
    labels = torch.tensor([label for example in examples for label in example.labels])
    torch.nn.functional.cross_entropy(pairwise, labels).backward()

    assert (packed - pairwise).abs().max() < 1e-5
    assert pairwise.std() > 1e-3  # The equality would mean nothing for constant logits.
    return packed_gradients, gradients(model)


def test_packed_equals_pairwise_on_tiny(classifier: tuple[PeftModel, Prompter], examples: list[PostExample]) -> None:
    packed, pairwise = check_logits(classifier[0], examples)
    assert relative_difference(packed, pairwise) < 1e-5  # weight by weight


def test_packed_equals_pairwise_on_smollm2(project: object) -> None:
    config = compose_config(PROJECT / "hydra_configs", "smollm2", "model.dtype=float32")
    base = prepare_base_model(config.model, PROJECT / "data" / "06_models" / "base")
    model, prompter = make_classifier(base, config)
    packed, pairwise = check_logits(model, make_examples(prompter))
    # All weights count together because single ones differ by more than 1e-5 after 30 float32 layers, also between an
    # ordinary padded batch and single pairs (docs/adr/0002).
    difference = sum(float((packed[name] - pairwise[name]).square().sum()) for name in packed)
    assert (difference / sum(float(gradient.square().sum()) for gradient in pairwise.values())) ** 0.5 < 1e-5


def test_gradient_checkpointing_changes_no_gradient(
    classifier: tuple[PeftModel, Prompter], examples: list[PostExample]
) -> None:
    model, _ = classifier
    model.train()
    packed_loss(model, examples)[1].backward()
    plain = gradients(model)
    model.zero_grad()
    model.gradient_checkpointing_enable({"use_reentrant": False})
    packed_loss(model, examples)[1].backward()
    assert relative_difference(gradients(model), plain) < 1e-6


def test_dropout_and_bfloat16_run(tiny_base: BaseModel, project: object) -> None:
    overrides = "model.dtype=bfloat16 adapter.dropout=0.1"
    config = compose_config(PROJECT / "hydra_configs", "tiny", overrides)
    model, prompter = make_classifier(tiny_base, config)
    _, loss = packed_loss(model.train(), make_examples(prompter))
    loss.backward()
    assert all(torch.isfinite(gradient).all() for gradient in gradients(model).values())


posts = st.lists(
    st.tuples(st.integers(1, 9), st.lists(st.integers(1, 5), min_size=1, max_size=4)), min_size=1, max_size=4
)


@given(posts)
@settings(max_examples=60)
def test_packing_places_every_token_once(lengths: list[tuple[int, list[int]]]) -> None:
    tokens = iter(range(1, 1000))
    examples = [
        PostExample(
            str(number),
            [next(tokens) for _ in range(prefix)],
            False,
            [str(k) for k in range(len(suffixes))],
            [[next(tokens) for _ in range(length)] for length in suffixes],
            [],
        )
        for number, (prefix, suffixes) in enumerate(lengths)
    ]
    batch = pack(examples)
    row, packing = batch["input_ids"][0], batch["packing"]
    pooled = iter(batch["pool_index"].tolist())
    end = 0
    for post, example in zip(packing, examples, strict=True):
        assert post.start == end  # Nothing lies between two posts.
        end = post.end
        assert row[post.start : post.suffixes].tolist() == example.prefix
        length = len(example.prefix)
        assert batch["position_ids"][0, post.start : post.suffixes].tolist() == list(range(length))
        table = torch.zeros(post.criteria * post.longest, dtype=torch.long)
        table[post.cells] = torch.arange(post.suffixes, post.end) + 1
        for line, suffix in zip(table.view(post.criteria, post.longest), example.suffixes, strict=True):
            place = line[line > 0] - 1
            assert row[place].tolist() == suffix
            assert (line[: len(suffix)] > 0).all()  # A suffix fills its line from the left.
            assert batch["position_ids"][0, place].tolist() == list(range(length, length + len(suffix)))
            assert next(pooled) == int(place[-1])
    assert end == len(row)


@pytest.mark.parametrize("tokens_per_pass", [1, 300])
def test_batched_scores_equal_single_ones(
    classifier: tuple[PeftModel, Prompter], examples: list[PostExample], tokens_per_pass: int, tiny_config: Config
) -> None:
    from mentallam.classifier.scoring import score_pairs

    model, prompter = classifier
    together = score_pairs(model, examples, tokens_per_pass=10_000)
    assert abs(together - score_pairs(model, examples, tokens_per_pass)).max() < 1e-5
    alone = prompter.example(
        "s_2_1", "Tired. So tired that the dishes have been in the sink since Monday, and I just look at them.", ["A.6"]
    )
    assert abs(score_pairs(model, [alone], 1)[0] - together[-1]) < 1e-5


def example(prefix: int, suffixes: list[int], labels: list[int], states: torch.Tensor | None = None) -> PostExample:
    ids = [str(k) for k in range(len(suffixes))]
    return PostExample("s", [1] * prefix, False, ids, [[2] * length for length in suffixes], labels, states)


def test_a_batch_tells_the_place_of_each_post() -> None:
    batch = pack([example(2, [1, 3], [0, 1]), example(1, [2], [])])
    assert [post[:5] for post in batch["packing"]] == [(0, 2, 6, 2, 3), (6, 7, 9, 1, 2)]
    assert [post.cells.tolist() for post in batch["packing"]] == [[0, 3, 4, 5], [0, 1]]
    assert batch["position_ids"].tolist() == [[0, 1, 2, 2, 3, 4, 0, 1, 2]]
    assert batch["pool_index"].tolist() == [2, 5, 8]
    assert batch["labels"].tolist() == [0, 1, -100]  # A pair without a label has no loss.
    for name in ("input_ids", "position_ids", "pool_index", "labels"):
        assert batch[name].dtype == torch.int64  # type: ignore[literal-required]


def test_states_are_used_only_if_every_post_has_them() -> None:
    first, second = torch.randn(3, 4), torch.randn(5, 4)
    posts = [example(2, [1], [1], first), example(1, [2, 2], [0, 0], second)]
    states = pack(posts)["inputs_embeds"]
    assert states is not None and states.shape == (1, 8, 4)
    assert torch.equal(states[0], torch.cat([first, second]))
    assert pack([posts[0], example(1, [2], [0])])["inputs_embeds"] is None
    assert pack([example(1, [2], [0])])["inputs_embeds"] is None
