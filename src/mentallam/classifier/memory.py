"""Memory of one training step, counted before there are weights: the step runs on torch's meta device.

A meta tensor has a shape and a dtype and no content, so a 7B model costs seconds and no memory, while every operation
of the real code still makes and frees its results. Counting their storages gives what is alive at each moment: nothing
is estimated by a formula, and a change of the attention or of DoRA changes the count by itself (docs/adr/0010).
"""

import warnings
import weakref
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as functional
from accelerate.utils import send_to_device
from peft import PeftModel
from rich.table import Table
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import PreTrainedConfig

from mentallam.classifier.attention import block_mask
from mentallam.classifier.families import changed
from mentallam.classifier.model import add_adapter, compute_dtype, empty_base
from mentallam.classifier.packing import pack
from mentallam.classifier.prompts import PostExample, Prompter
from mentallam.classifier.weights import load_architecture, load_tokenizer
from mentallam.config import Config
from mentallam.errors import MentallamError

GB = 10**9
BUDGETS_GB = (50, 24)  # the study's own plan; a workstation's GPU
# What an allocator keeps beyond the tensors that are alive: measured once, with glibc's on a CPU (docs/performance.md).
ALLOWANCE = 0.2
# For a tokenizer that is not on this machine; Llama's takes about four for English prose.
_CHARACTERS_PER_TOKEN = 3
# Bytes of a weight in nf4 with double quantisation: 4 bits, a byte per 64 weights, a float32 per 256 of those bytes.
NF4_BYTES = 0.5 + 1 / 64 + 4 / 64 / 256


@dataclass(frozen=True)
class StepMemory:
    """What is in memory during a training step, in bytes.

    Attributes:
        weights: Parameters and buffers, frozen and trained.
        gradients: Of the trained parameters.
        optimizer: The optimizer's state.
        kept: What layers keep from one pass to the next, such as DoRA's norms.
        activations: Alive between forward and backward: the batch, and what the backward will read.
        workspace: What the peak has beyond all these: results that are gone again after their use.
    """

    weights: int
    gradients: int
    optimizer: int
    kept: int
    activations: int
    workspace: int

    @property
    def total(self) -> int:
        """The peak."""
        return sum(asdict(self).values())


def plan_memory(config: Config, cache: Path, criteria: Mapping[str, str]) -> dict[str, Any]:
    """Counts the memory of a training step with posts that fill `model.max_length`, with and without checkpointing.

    Args:
        config: The resolved configuration.
        cache: Folder for weights that are converted or made on this machine; only a tokenizer is ever made here.
        criteria: Wording by criterion id.

    Returns:
        model, architecture_from, dtype, parameters, pass (what one pass holds), steps (a row per way of training, all
        figures in bytes) and sentences (whether it fits).

    Raises:
        MentallamError: The architecture is known neither from the weights' config.json nor from the configuration.
    """
    architecture, origin = load_architecture(config.model, cache)
    examples, counted_by = longest_posts(config, cache, criteria)
    parameters, steps = {}, []
    smallest = replace(
        config,
        model=replace(config.model, quantization="nf4"),
        training=replace(config.training, optimizer="adamw_8bit"),
    )
    ways = [config] if smallest == config else [config, smallest]
    for way, checkpointing in product(ways, (False, True)):
        model = empty_classifier(architecture, way)
        parameters = {
            "total": sum(parameter.numel() for parameter in model.parameters()),
            "trainable": sum(parameter.numel() for parameter in _trained(model)),
        }
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
    first = examples[0]
    return {
        "model": config.model.name,
        "architecture_from": origin,
        "dtype": str(compute_dtype(config.model.dtype)).removeprefix("torch."),
        "parameters": parameters,
        "pass": {
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


def longest_posts(config: Config, cache: Path, criteria: Mapping[str, str]) -> tuple[list[PostExample], str]:
    """One pass of posts, each cut so that its longest pair has `model.max_length` tokens.

    Returns:
        The posts, and what counted the criteria's tokens: `tokenizer`, or `characters` where it is not on this machine.
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
    # As training does: as many posts as the budget of a pass holds, but no more than an optimizer step takes.
    fitting = config.training.tokens_per_pass // post.n_tokens
    posts_per_step = round(config.training.effective_batch_pairs / len(criteria))
    return [replace(post, labels=[0] * len(criteria))] * max(1, min(fitting, posts_per_step)), counted_by


def step_memory(
    model: PeftModel,
    examples: Sequence[PostExample],
    gradient_checkpointing: bool,
    optimizer_name: str = "adamw",
    fused_attention: bool = False,
) -> StepMemory:
    """Memory of a training step, counted over two passes: a later one finds gradients and optimizer state in place.

    The layers are counted as they run uncompiled, where they need more than compiled ones.

    Args:
        model: The classifier on the meta device, fresh.
        examples: Labelled posts of one pass.
        gradient_checkpointing: Keep only each layer's input, and compute the rest again in the backward.
        optimizer_name: adamw or adamw_8bit.
        fused_attention: Count the block mask as well that compiled layers on a GPU take.
    """
    model.train()
    if gradient_checkpointing:
        with warnings.catch_warnings():  # of its name in transformers 6
            warnings.simplefilter("ignore", FutureWarning)
            model.gradient_checkpointing_enable({"use_reentrant": False})
    # One tensor after the other, as the fused one that trains: no copies of all of them.
    optimizer = torch.optim.AdamW(_trained(model), foreach=False)
    packed = pack(_as_trained(model, examples))
    live = _LiveStorages()
    for tensor in (*model.parameters(), *model.buffers()):
        live.add(tensor)
    weights = live.bytes
    with live:
        for _ in range(2):
            before = live.bytes
            batch: dict[str, Any] = send_to_device(packed, "meta")
            mask = block_mask(batch["packing"], torch.device("meta")) if fused_attention else None
            loss = functional.cross_entropy(model(**batch).logits, batch["labels"])
            after_forward = live.bytes
            loss.backward()
            del batch, loss, mask
            optimizer.step()
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
        activations=after_forward - before,
        workspace=live.peak - live.bytes - (after_forward - before),
    )


def _all_layers(
    architecture: PreTrainedConfig, config: Config, examples: Sequence[PostExample], gradient_checkpointing: bool
) -> StepMemory:
    """`step_memory` of the whole model, counted on some layers: all are alike, and each adds the same to every part."""
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


def memory_table(plan: Mapping[str, Any]) -> Table:
    """The plan as a table: a row per part, a column per way of training."""
    parameters, content = plan["parameters"], plan["pass"]
    counts = f"{parameters['total']:,} parameters, {parameters['trainable']:,} trained"
    table = Table(
        title=f"{plan['model']}, {plan['dtype']}: {counts}",
        caption=f"One pass: {content['posts']} posts, {content['pairs']} pairs of up to {content['tokens_per_pair']} "
        f"tokens. * as configured",
    )
    table.add_column("GB")
    for step in plan["steps"]:
        table.add_column(_name(step) + (" *" if step["configured"] else ""), justify="right")
    for part in ("weights", "gradients", "optimizer", "kept", "activations", "workspace", "total"):
        figures = [f"{step[part] / GB:.2f}" for step in plan["steps"]]
        table.add_row(part, *figures, style="bold" if part == "total" else None)
    return table


class _QuantisedLinear(nn.Linear):
    """Stands for bitsandbytes' 4-bit layer: computes with a copy of its weight that is gone again after its use."""

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
    """Bytes of the meta tensors that are alive, and their peak; views and tensors that are seen again count once."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes = 0
        self.peak = 0
        self._known: dict[int, weakref.ref[torch.UntypedStorage]] = {}

    def add(self, tensor: torch.Tensor) -> None:
        storage = tensor.untyped_storage()  # the same object for all tensors on it, for as long as one is alive
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
    """What an operation returns: a tensor, or a sequence with tensors in it."""
    if isinstance(made, torch.Tensor):
        yield made
    elif isinstance(made, list | tuple):
        for part in made:
            yield from _tensors(part)


def empty_classifier(architecture: PreTrainedConfig, config: Config) -> PeftModel:
    """Base, adapters and head as `build_classifier` makes them, on the meta device."""
    with torch.device("meta"):
        base = empty_base(architecture, compute_dtype(config.model.dtype))
        if config.model.quantization == "nf4":
            for name, module in list(base.model.named_modules()):
                if type(module) is nn.Linear:
                    size, bias = (module.in_features, module.out_features), module.bias is not None
                    base.model.set_submodule(name, _QuantisedLinear(*size, bias, dtype=module.weight.dtype))
        return add_adapter(base, config.adapter)


def _as_trained(model: PeftModel, examples: Sequence[PostExample]) -> list[PostExample]:
    """With the hidden states that training begins with where the layers below are not trained."""
    inner: Any = model.base_model.model
    if not inner.frozen_layers:
        return list(examples)
    size, dtype = inner.config.hidden_size, inner.dtype
    return [replace(example, states=torch.empty(example.n_tokens, size, dtype=dtype)) for example in examples]


def _trained(model: PeftModel) -> list[nn.Parameter]:
    return [parameter for parameter in model.parameters() if parameter.requires_grad]


def _adam_8bit(parameter: nn.Parameter) -> int:
    """Bitsandbytes keeps both moments in a byte each and a float32 per 256 of them; small tensors' in float32."""
    size = parameter.numel()
    return 2 * (size + 4 * -(-size // 256)) if size >= 4096 else 2 * 4 * size


def _nbytes(tensor: torch.Tensor) -> int:
    return tensor.untyped_storage().nbytes()


def _name(step: Mapping[str, Any]) -> str:
    weights = "" if step["quantization"] == "none" else f"{step['quantization']}, {step['optimizer_name']}, "
    return weights + ("checkpointing" if step["gradient_checkpointing"] else "all activations")


def _fit(budget: int, steps: Sequence[Mapping[str, Any]]) -> str:
    need = {_name(step): step["total"] * (1 + ALLOWANCE) / GB for step in steps}
    fitting = [f"{name} ({size:.1f} GB)" for name, size in need.items() if size <= budget]
    others = [f"{name} ({size:.1f} GB)" for name, size in need.items() if size > budget]
    words = [f"{verb} {'; '.join(names)}" for verb, names in (("fits", fitting), ("too much is", others)) if names]
    return f"{budget} GB: {' - '.join(words)}, each the count and {ALLOWANCE:.0%} for the allocator."
