"""Memory of one training step, counted on torch's meta device before there are weights.

A meta tensor has a shape and a dtype but no content, so a 7B model takes seconds and no memory. Every operation of the
real code still creates and frees its results, and counting their storages gives the memory in use at each moment.
No formula estimates it, so a change of the attention or of DoRA changes the count without an edit here (docs/adr/0010).
"""

import warnings
import weakref
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from itertools import product
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as functional
from accelerate.utils import send_to_device
from peft import PeftModel
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import PreTrainedConfig

from mentallam.classifier.attention import block_mask
from mentallam.classifier.families import changed
from mentallam.classifier.model import add_adapter, empty_base
from mentallam.classifier.packed_model import compute_dtype
from mentallam.classifier.packing import pack
from mentallam.classifier.prompts import PostExample, Prompter
from mentallam.classifier.weights import load_architecture, load_tokenizer
from mentallam.config import Config
from mentallam.errors import MentallamError

GB = 10**9
BUDGETS_GB = (50, 24)  # the study's limit, and a workstation's GPU
# An allocator keeps some memory beyond the living tensors: measured once, with glibc on a CPU (docs/performance.md).
ALLOWANCE = 0.2
# The estimate for a tokenizer that is not on this machine is cautious: Llama's takes about four for English prose.
_CHARACTERS_PER_TOKEN = 3
# Bytes per weight in nf4 with double quantisation: 4 bits, a byte per 64 weights, a float32 per 256 of those bytes.
NF4_BYTES = 0.5 + 1 / 64 + 4 / 64 / 256


@dataclass(frozen=True)
class StepMemory:
    """Memory in use during a training step, in bytes.

    Attributes:
        weights: Parameters and buffers, frozen and trained.
        gradients: Gradients of the trained parameters.
        optimizer: The optimizer's state.
        kept: Tensors that layers keep from one pass to the next, such as DoRA's norms.
        activations: Tensors alive between forward and backward: the batch, and everything that the backward will read.
        workspace: The rest of the peak: intermediate results that are freed after their use.
    """

    weights: int
    gradients: int
    optimizer: int
    kept: int
    activations: int
    workspace: int

    @property
    def total(self) -> int:
        """Return the peak."""
        return sum(asdict(self).values())


MEMORY_PARTS = tuple(field.name for field in fields(StepMemory))


def plan_memory(config: Config, cache: Path, criteria: Mapping[str, str]) -> dict[str, Any]:
    """Count the memory of a training step with posts that fill `model.max_length`, with and without checkpointing.

    With several ranks it is the memory of each, on a GPU of its own.

    Args:
        config: The resolved configuration.
        cache: Folder for weights that are converted or made on this machine; this function makes only a tokenizer.
        criteria: Wording by criterion id.

    Returns:
        model, architecture_from, dtype, parameters, pass (the content of one pass), steps (a row per way of training,
        sizes in bytes) and sentences (whether each budget is enough).

    Raises:
        MentallamError: The architecture is known neither from the weights' config.json nor from the configuration.
    """
    architecture, origin = load_architecture(config.model, cache)
    examples, counted_by = longest_posts(config, cache, criteria)
    steps = _count_ways(architecture, config, examples)
    model, first = empty_classifier(architecture, config), examples[0]
    return {
        "model": config.model.name,
        "architecture_from": origin,
        "dtype": str(compute_dtype(config.model.dtype)).removeprefix("torch."),
        "parameters": {
            "total": sum(parameter.numel() for parameter in model.parameters()),
            "trainable": sum(parameter.numel() for parameter in _trained(model)),
        },
        "pass": {
            "ranks": config.training.ranks,
            "posts": len(examples),
            "pairs": len(examples) * len(first.suffixes),
            "tokens_per_pair": config.model.max_length,
            "prefix_tokens": len(first.prefix),
            "suffix_tokens": [len(suffix) for suffix in first.suffixes],
            "counted_by": counted_by,
        },
        "steps": steps,
        "sentences": [_fit(budget, steps) for budget in BUDGETS_GB],
    }


def _count_ways(
    architecture: PreTrainedConfig, config: Config, examples: Sequence[PostExample]
) -> list[dict[str, Any]]:
    """Return a row per way of training: as configured and as small as possible, each with and without checkpointing."""
    smallest = replace(
        config,
        model=replace(config.model, quantization="nf4"),
        training=replace(config.training, optimizer="adamw_8bit"),
    )
    ways = [config] if smallest == config else [config, smallest]
    steps = []
    for way, checkpointing in product(ways, (False, True)):
        memory = _all_layers(architecture, way, examples, checkpointing)
        steps.append(
            {
                "quantization": way.model.quantization,
                "optimizer_name": way.training.optimizer,
                "gradient_checkpointing": checkpointing,
                "configured": way is config and checkpointing == config.model.gradient_checkpointing,
                **asdict(memory),
                "total": memory.total,
            }
        )
    return steps


def longest_posts(config: Config, cache: Path, criteria: Mapping[str, str]) -> tuple[list[PostExample], str]:
    """Return one pass of posts, each cut so that its longest pair has `model.max_length` tokens.

    Args:
        config: The resolved configuration.
        cache: Folder for a tokenizer that is made on this machine.
        criteria: Wording by criterion id.

    Returns:
        The posts, and the source of the token counts: `tokenizer`, or `characters` if there is none on this machine.
    """
    prompt, length = config.model.prompt, config.model.max_length
    try:
        tokenizer = load_tokenizer(config.model, cache)
        post = Prompter(tokenizer, prompt, criteria, length).example("longest", "a " * length)
        counted_by = "tokenizer"
    except MentallamError:
        suffixes = [
            [0] * -(-len(prompt.suffix.replace("{criterion}", wording)) // _CHARACTERS_PER_TOKEN)
            for wording in criteria.values()
        ]
        prefix = [0] * max(1, length - max(map(len, suffixes)))
        post, counted_by = PostExample("longest", prefix, True, list(criteria), suffixes, []), "characters"
    # Training, too, takes as many posts as the budget of a pass holds, but no more than a rank has in a step.
    fitting = config.training.tokens_per_pass // post.n_tokens
    posts_per_rank = -(-round(config.training.effective_batch_pairs / len(criteria)) // config.training.ranks)
    return [replace(post, labels=[0] * len(criteria))] * max(1, min(fitting, posts_per_rank)), counted_by


def step_memory(
    model: PeftModel,
    examples: Sequence[PostExample],
    gradient_checkpointing: bool,
    optimizer_name: str = "adamw",
    fused_attention: bool = False,
) -> StepMemory:
    """Count the memory of a training step over two passes, since a later pass finds gradients and optimizer state.

    The layers are counted uncompiled; compiled ones need less.

    Args:
        model: A fresh classifier on the meta device.
        examples: Labelled posts of one pass.
        gradient_checkpointing: Keep only each layer's input, and compute the rest again in the backward.
        optimizer_name: adamw or adamw_8bit.
        fused_attention: Also count the block mask that compiled layers on a GPU take.
    """
    model.train()
    if gradient_checkpointing:
        with warnings.catch_warnings():  # transformers 6 renames the method and warns about it
            warnings.simplefilter("ignore", FutureWarning)
            model.gradient_checkpointing_enable({"use_reentrant": False})
    # Training's fused optimizer makes no copies of all tensors at once, so neither may this one: no foreach.
    optimizer = torch.optim.AdamW(_trained(model), foreach=False)
    live = _LiveStorages()
    for tensor in (*model.parameters(), *model.buffers()):
        live.add(tensor)
    weights = live.bytes
    activations = _run_two_passes(model, optimizer, examples, live, fused_attention)
    gradients = sum(_nbytes(parameter.grad) for parameter in _trained(model) if parameter.grad is not None)
    state = sum(
        _nbytes(value)
        for values in optimizer.state.values()
        for value in values.values()
        if value.device.type == "meta"
    )
    persistent = weights + gradients + state
    quantised = [module.weight for module in model.modules() if isinstance(module, _QuantisedLinear)]
    return StepMemory(
        weights=weights - sum(map(_nbytes, quantised)) + round(NF4_BYTES * sum(weight.numel() for weight in quantised)),
        gradients=gradients,
        optimizer=state if optimizer_name == "adamw" else sum(map(_adam_8bit, _trained(model))),
        kept=live.bytes - persistent,
        activations=activations,
        workspace=live.peak - live.bytes - activations,
    )


def _run_two_passes(
    model: PeftModel,
    optimizer: torch.optim.Optimizer,
    examples: Sequence[PostExample],
    live: "_LiveStorages",
    fused_attention: bool,
) -> int:
    """Run two steps under the count, and return the bytes that the second one's forward leaves for its backward."""
    packed = pack(_with_empty_states(model, examples))
    with live:
        for _ in range(2):
            before = live.bytes
            batch: dict[str, Any] = send_to_device(packed, "meta")
            mask = block_mask(batch["packing"], torch.device("meta")) if fused_attention else None
            loss = functional.cross_entropy(model(**batch).logits, batch["labels"])
            activations = live.bytes - before
            loss.backward()
            del batch, loss, mask
            optimizer.step()
    return activations


def _all_layers(
    architecture: PreTrainedConfig, config: Config, examples: Sequence[PostExample], gradient_checkpointing: bool
) -> StepMemory:
    """Return `step_memory` of the whole model from a count of two and three layers: each layer adds the same."""
    layers = architecture.num_hidden_layers
    counted = (2, 3) if layers > 3 and config.adapter.top_layers is None else (layers,)
    memories = []
    for some in counted:
        model = empty_classifier(changed(architecture, num_hidden_layers=some), config)
        memories.append(
            step_memory(
                model,
                examples,
                gradient_checkpointing,
                config.training.optimizer,
                fused_attention=config.model.compile_on_gpu and config.model.quantization == "none",
            )
        )
    if len(memories) == 1:
        return memories[0]
    two, three = (asdict(memory) for memory in memories)
    return StepMemory(**{part: two[part] + (layers - 2) * (three[part] - two[part]) for part in two})


class _QuantisedLinear(nn.Linear):
    """A stand-in for bitsandbytes' 4-bit layer, which computes with a temporary copy of its weight."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        output: torch.Tensor = _WithCopy.apply(input, self.weight)
        return output


class _WithCopy(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(weight)
        return functional.linear(rows, weight.clone())

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None]:
        (weight,) = ctx.saved_tensors
        return gradient @ weight.clone(), None


class _LiveStorages(TorchDispatchMode):
    """A count of the bytes of living meta tensors, and of their peak; each storage counts once."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes = 0
        self.peak = 0
        self._known: dict[int, weakref.ref[torch.UntypedStorage]] = {}

    def add(self, tensor: torch.Tensor) -> None:
        storage = tensor.untyped_storage()  # one object for all tensors on it, as long as any of them is alive
        key, size = id(storage), storage.nbytes()
        if key in self._known or tensor.device.type != "meta":
            return

        def forget(_: object) -> None:
            self.bytes -= size
            del self._known[key]

        self._known[key] = weakref.ref(storage, forget)
        self.bytes += size
        self.peak = max(self.peak, self.bytes)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        for tensor in _tensors(made):
            self.add(tensor)
        return made


def _tensors(made: Any) -> Iterator[torch.Tensor]:
    """Yield the tensors in an operation's result: a tensor, or a sequence with tensors in it."""
    if isinstance(made, torch.Tensor):
        yield made
    elif isinstance(made, list | tuple):
        for part in made:
            yield from _tensors(part)


def empty_classifier(architecture: PreTrainedConfig, config: Config) -> PeftModel:
    """Return a classifier on the meta device with the base, adapters and head of `build_classifier`."""
    with torch.device("meta"):
        base = empty_base(architecture, compute_dtype(config.model.dtype))
        if config.model.quantization == "nf4":
            for name, module in list(base.model.named_modules()):
                if type(module) is nn.Linear:
                    size, bias = (module.in_features, module.out_features), module.bias is not None
                    base.model.set_submodule(name, _QuantisedLinear(*size, bias, dtype=module.weight.dtype))
        return add_adapter(base, config.adapter)


def _with_empty_states(model: PeftModel, examples: Sequence[PostExample]) -> list[PostExample]:
    """Return the examples with hidden states to start from, as in training, if the lower layers are not trained."""
    inner: Any = model.base_model.model
    if not inner.frozen_layers:
        return list(examples)
    size, dtype = inner.config.hidden_size, inner.dtype
    return [replace(example, states=torch.empty(example.n_tokens, size, dtype=dtype)) for example in examples]


def _trained(model: PeftModel) -> list[nn.Parameter]:
    return [parameter for parameter in model.parameters() if parameter.requires_grad]


def _adam_8bit(parameter: nn.Parameter) -> int:
    """Return bitsandbytes' state: a byte per moment and a float32 per 256 of them; float32 for small tensors."""
    size = parameter.numel()
    return 2 * (size + 4 * -(-size // 256)) if size >= 4096 else 2 * 4 * size


def _nbytes(tensor: torch.Tensor) -> int:
    return tensor.untyped_storage().nbytes()


def step_name(step: Mapping[str, Any]) -> str:
    """Return the name of a way of training for a row of `plan_memory`."""
    weights = "" if step["quantization"] == "none" else f"{step['quantization']}, {step['optimizer_name']}, "
    return weights + ("checkpointing" if step["gradient_checkpointing"] else "all activations")


def _fit(budget: int, steps: Sequence[Mapping[str, Any]]) -> str:
    need = {step_name(step): step["total"] * (1 + ALLOWANCE) / GB for step in steps}
    fitting = [f"{name} ({size:.1f} GB)" for name, size in need.items() if size <= budget]
    others = [f"{name} ({size:.1f} GB)" for name, size in need.items() if size > budget]
    words = [f"{verb} {'; '.join(names)}" for verb, names in (("fits", fitting), ("too much is", others)) if names]
    return f"{budget} GB: {' - '.join(words)}, each the count and {ALLOWANCE:.0%} for the allocator."
