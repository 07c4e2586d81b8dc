"""FLOPs of a packed training step and of a packed prediction, from the model's shape and the posts' tokens.

A frozen weight has no gradient, so it takes part in two products: one of the forward and one of the backward. A prefix
counts once for all its suffixes. Norms, rotations and activations are not products and are left out.
tests/unit/test_scaling_studies.py compares the formula with PyTorch's count of the real code.
"""

from collections.abc import Sequence
from typing import NamedTuple

RANK = 8
PIECE = 256  # tokens of a prefix that attend at once (classifier/attention.py)


class Shape(NamedTuple):
    """The shape of a decoder of Llama's kind."""

    hidden: int
    inner: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int

    @property
    def projections(self) -> list[tuple[int, int]]:
        """Inputs and outputs of the seven projections of a layer: q, k, v, o, gate, up, down."""
        queries, keys = self.heads * self.head_dim, self.kv_heads * self.head_dim
        attention = [(self.hidden, queries), (self.hidden, keys), (self.hidden, keys), (queries, self.hidden)]
        return [*attention, (self.hidden, self.inner), (self.hidden, self.inner), (self.inner, self.hidden)]

    @property
    def weights_per_layer(self) -> int:
        """Weights of a layer's projections."""
        return sum(inputs * outputs for inputs, outputs in self.projections)

    @property
    def trained(self) -> int:
        """Trained parameters: A, B and magnitude of each projection, and the head."""
        adapters = sum(RANK * (inputs + outputs) + outputs for inputs, outputs in self.projections)
        return self.layers * adapters + 2 * self.hidden


SMOLLM2 = Shape(576, 1536, 30, 9, 3, 64)
LLAMA_7B = Shape(4096, 11008, 32, 32, 32, 128)


class Post(NamedTuple):
    """The tokens of a post: of its prefix, and of each criterion's suffix."""

    prefix: int
    suffixes: tuple[int, ...]

    @property
    def tokens(self) -> int:
        return self.prefix + sum(self.suffixes)

    @property
    def visible(self) -> float:
        """Pairs of a query and a key that it may see."""
        own = sum(length * (length + 1) / 2 for length in self.suffixes)
        return self.prefix * (self.prefix + 1) / 2 + self.prefix * sum(self.suffixes) + own

    @property
    def multiplied(self) -> float:
        """Pairs that the plain products compute: whole pieces of the prefix, suffixes as long as the longest."""
        pieces = (range(start, min(start + PIECE, self.prefix)) for start in range(0, self.prefix, PIECE))
        prefix = sum(len(piece) * piece.stop for piece in pieces)
        longest = max(self.suffixes)
        return prefix + len(self.suffixes) * longest * (self.prefix + longest)


class StepFlops(NamedTuple):
    """FLOPs of a step by kind.

    Attributes:
        products: With frozen weights, forward and backward.
        attention: Scores and sums of values, forward and backward.
        adapters: With A and B, forward and backward, and DoRA's norms, once per step.
        recomputed: The second forward of gradient checkpointing.
    """

    products: float
    attention: float
    adapters: float = 0.0
    recomputed: float = 0.0

    @property
    def needed(self) -> float:
        """FLOPs that count for the share of the peak in docs/performance.md: without adapters and recomputation."""
        return self.products + self.attention

    @property
    def total(self) -> float:
        return sum(self)


def training_flops(
    shape: Shape,
    posts: Sequence[Post],
    checkpointing: bool = False,
    trained_layers: int | None = None,
    states_kept: bool = False,
    as_multiplied: bool = False,
) -> StepFlops:
    """Return the FLOPs of one optimizer step.

    Args:
        shape: The model.
        posts: The step's posts.
        checkpointing: Compute each layer's forward again in the backward.
        trained_layers: Number of upper layers with adapters; None for all.
        states_kept: The output of the layers below is read, not computed.
        as_multiplied: Count what the plain products on a CPU compute, in place of what is needed: hidden scores, too,
            and no gradient of the lowest layer's input.
    """
    tokens = sum(post.tokens for post in posts)
    trained = shape.layers if trained_layers is None else trained_layers
    computed = trained if states_kept else shape.layers
    scores = sum(post.multiplied if as_multiplied else post.visible for post in posts)
    attention = 4 * scores * shape.heads * shape.head_dim  # forward of one layer: two products
    products = 2 * tokens * shape.weights_per_layer
    sizes = sum(inputs + outputs for inputs, outputs in shape.projections)
    adapters = 2 * tokens * RANK * sizes
    backward_products = trained * products
    backward_adapters = trained * (2 * adapters)
    if as_multiplied and not checkpointing:  # with it, PEFT asks for the gradient of the embeddings
        lowest = shape.projections[:3]
        backward_products -= 2 * tokens * sum(inputs * outputs for inputs, outputs in lowest)
        backward_adapters -= 2 * tokens * RANK * sum(inputs for inputs, _ in lowest)
    norms = sum(2 * RANK * inputs * outputs + 2 * RANK**2 * (inputs + outputs) for inputs, outputs in shape.projections)
    return StepFlops(
        products=computed * products + backward_products,
        attention=(computed + 2 * trained) * attention,
        adapters=trained * (adapters + norms) + backward_adapters,
        recomputed=trained * (products + attention + adapters) if checkpointing else 0.0,
    )


def prediction_flops(shape: Shape, posts: Sequence[Post], as_multiplied: bool = False) -> StepFlops:
    """Return the FLOPs of one forward with merged weights; in the last layer only each pair's last token has a query.

    Args:
        shape: The model.
        posts: The posts of the pass.
        as_multiplied: As for `training_flops`.
    """
    tokens, pairs = sum(post.tokens for post in posts), sum(len(post.suffixes) for post in posts)
    scores = sum(post.multiplied if as_multiplied else post.visible for post in posts)
    last = sum(
        post.prefix * len(post.suffixes)
        + (len(post.suffixes) * max(post.suffixes) if as_multiplied else sum(post.suffixes))
        for post in posts
    )
    keys_and_values = sum(inputs * outputs for inputs, outputs in shape.projections[1:3])
    upper = 2 * tokens * keys_and_values + 2 * pairs * (shape.weights_per_layer - keys_and_values)
    return StepFlops(
        products=2 * tokens * shape.weights_per_layer * (shape.layers - 1) + upper,
        attention=4 * (scores * (shape.layers - 1) + last) * shape.heads * shape.head_dim,
    )
