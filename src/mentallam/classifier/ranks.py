"""Ranks: processes of one machine that train a fold together (docs/adr/0048).

Rank 0 is the process that trains the fold. It alone has the optimizer, decides, saves and logs. The other ranks hold
the same base and nothing else that lasts: each piece of work begins with the trained weights of rank 0, and ends with a
sum of gradients, or with logits. So a training state needs nothing of them, and a rank may be killed at any moment.

Work and answers go through pipes, weights and gradients through torch.distributed: gloo on a CPU, NCCL on GPUs. A rank
answers before it enters the sum, so one that has failed keeps nobody waiting.
"""

import logging
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from pathlib import Path
from signal import Signals
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
import torch.distributed as distributed
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers.utils import logging as hf_logging

from mentallam import interruption
from mentallam.classifier import rank_process
from mentallam.classifier.compiling import compiler_errors
from mentallam.classifier.determinism import deterministic_algorithms
from mentallam.classifier.gradients import add_gradients
from mentallam.classifier.model import build_classifier
from mentallam.classifier.prompts import PostExample
from mentallam.classifier.scoring import score_pairs
from mentallam.classifier.weights import BaseModel
from mentallam.config import Config
from mentallam.device import on_gpu, visible_gpus
from mentallam.errors import MentallamError
from mentallam.seeds import rank_seed

logger = logging.getLogger(__name__)

_END_S = 20.0  # until a rank that has been told to end is killed
_TIMEOUT = timedelta(minutes=10)  # of a sum or a broadcast, which take milliseconds
_GO_ON = "run the same command again to go on"


@dataclass(frozen=True)
class _Start:
    """What a rank is."""

    rank: int
    size: int
    store: str
    base: BaseModel
    config: Config


@dataclass(frozen=True)
class _Step:
    """What the gradients of an optimizer step depend on, beside its posts."""

    pairs: int
    class_weights: list[float] | None
    seed: int
    number: int


@dataclass(frozen=True)
class _Work:
    """Posts whose gradients, or without a step whose logits, a rank computes."""

    examples: list[tuple[PostExample, Any]]
    tokens_per_pass: int
    step: _Step | None


@dataclass(frozen=True)
class _Done:
    """The answer of a rank: its logits, or the budget that fitted into its memory."""

    result: Any = None


@dataclass(frozen=True)
class _Failed:
    """The answer of a rank that ends with an error."""

    sentence: str


@dataclass(frozen=True)
class _Logged:
    """A warning of a rank."""

    level: int
    name: str
    message: str


def deal(examples: Sequence[PostExample], ranks: int) -> list[list[int]]:
    """Deal posts out to ranks, longest first and each to the rank that has the fewest tokens.

    Args:
        examples: Posts with the criteria asked of them.
        ranks: Number of ranks; those beyond the number of posts get none.

    Returns:
        The positions of each rank's posts, in ascending order.
    """
    tokens = [0] * ranks
    dealt: list[list[int]] = [[] for _ in range(ranks)]
    for position in sorted(range(len(examples)), key=lambda position: -examples[position].n_tokens):
        rank = tokens.index(min(tokens))
        dealt[rank].append(position)
        tokens[rank] += examples[position].n_tokens
    return [sorted(positions) for positions in dealt]


@contextmanager
def open_ranks(base: BaseModel, config: Config) -> Iterator["Ranks"]:
    """Start the other ranks of a training, and end them after the body; `training.ranks` is their number.

    They load the base while the body goes on. On a CPU all ranks share the threads of this process.

    Args:
        base: The base model on disk.
        config: The resolved configuration.

    Raises:
        MentallamError: There are fewer GPUs than ranks.
    """
    size = config.training.ranks
    if size == 1:
        yield Ranks()
        return
    gpus, threads = visible_gpus() if on_gpu() else [], torch.get_num_threads()
    if gpus and len(gpus) < size:
        raise MentallamError(f"training.ranks={size} needs {size} GPUs, and this process sees {len(gpus)}: lower it")
    with TemporaryDirectory(prefix="mentallam_ranks_") as folder:
        store = str(Path(folder) / "store")
        ranks = Ranks(store)
        try:
            if not gpus:
                torch.set_num_threads(max(1, threads // size))
            for rank in range(1, size):
                shared = {"OMP_NUM_THREADS": str(max(1, threads // size))}
                variables = {"CUDA_VISIBLE_DEVICES": gpus[rank]} if gpus else shared
                ranks.add(_Start(rank, size, store, base, config), variables)
            yield ranks
        except BaseException:
            ranks.close(0.0)
            raise
        else:
            ranks.close(_END_S)
        finally:
            torch.set_num_threads(threads)


class Ranks:
    """All ranks of a training, for rank 0; without others everything is computed in this process.

    Args:
        store: A file by which they find each other.
    """

    def __init__(self, store: str = "") -> None:
        self._store, self._joined = store, False
        self._others: list[_Rank] = []

    @property
    def size(self) -> int:
        """Return the number of ranks, this one included."""
        return 1 + len(self._others)

    def add(self, start: _Start, variables: dict[str, str]) -> None:
        """Start another rank."""
        here, there = get_context("spawn").Pipe()
        # Spawned, since CUDA and threads do not survive a fork.
        process = get_context("spawn").Process(
            target=rank_process.enter, args=(there, variables, os.getpid()), name=f"rank {start.rank}"
        )
        process.start()
        there.close()
        rank = _Rank(start.rank, process, here)
        self._others.append(rank)
        rank.send(serve)
        rank.send(start)

    def add_gradients(
        self,
        model: nn.Module,
        examples: Sequence[PostExample],
        tokens_per_pass: int,
        class_weights: Tensor | None,
        seed_and_step: tuple[int, int],
    ) -> tuple[Tensor, int]:
        """Add the gradients of an optimizer step to this process's model, as if it had computed them alone.

        Args:
            model: The classifier, without gradients.
            examples: The labelled posts of the step.
            tokens_per_pass: Tokens of one pass of a rank.
            class_weights: As in `gradients.pair_loss`.
            seed_and_step: The seed of the training and the number of the step, for the dropout of other ranks.

        Returns:
            The loss of the step, and the budget that fitted into the memory of every rank.

        Raises:
            MentallamError: A rank has failed or is gone; a single post does not fit into memory.
        """
        pairs = sum(len(example.suffixes) for example in examples)
        weights = None if class_weights is None else class_weights.tolist()
        shares = self._give_out(model, examples, tokens_per_pass, _Step(pairs, weights, *seed_and_step))
        mine = [examples[position] for position in shares[0]]
        loss, budget = add_gradients(model, mine, tokens_per_pass, pairs, class_weights)
        if not self._others:
            return loss, budget
        budgets = [rank.answer() for rank in self._others]
        with self._together():
            return _sum_gradients(model, loss), min(budget, *budgets)

    def score(self, model: nn.Module, examples: Sequence[PostExample], tokens_per_pass: int) -> NDArray[np.float64]:
        """Return what `score_pairs` returns.

        Raises:
            MentallamError: A rank has failed or is gone; a single post does not fit into memory.
        """
        shares = self._give_out(model, examples, tokens_per_pass, None)
        scored = [score_pairs(model, [examples[position] for position in shares[0]], tokens_per_pass)]
        scored += [rank.answer() for rank in self._others]
        logits: list[NDArray[np.float64]] = [np.empty(0)] * max(1, len(examples))
        for share, found in zip(shares, scored, strict=True):
            ends = np.cumsum([len(examples[position].suffixes) for position in share], dtype=int)
            for position, part in zip(share, np.split(found, ends), strict=False):  # an empty part is left at the end
                logits[position] = part
        return np.concatenate(logits)

    def close(self, seconds: float) -> None:
        """End the other ranks; those that work longer than some seconds are killed."""
        for rank in self._others:
            with suppress(OSError):
                rank.connection.send(None)
        until = time.monotonic() + seconds
        for rank in self._others:
            rank.process.join(max(0.0, until - time.monotonic()))
            rank.process.kill()
            rank.process.join()
            rank.connection.close()
        if self._joined:
            distributed.destroy_process_group()
        self._others, self._joined = [], False

    def _give_out(
        self, model: nn.Module, examples: Sequence[PostExample], tokens_per_pass: int, step: _Step | None
    ) -> list[list[int]]:
        """Give the other ranks their posts and the weights; return the positions of every rank's posts."""
        shares = deal(examples, self.size)
        if not self._others:
            return shares
        if not self._joined:
            for rank in self._others:
                rank.answer()  # its base is loaded
            with self._together():
                _join(model, self._store, 0, self.size)
            self._joined = True
        for rank, share in zip(self._others, shares[1:], strict=True):
            sendable = [_sendable(examples[position]) for position in share]
            rank.send(_Work(sendable, tokens_per_pass, step))
        with self._together():
            _share_weights(model, 0)
        return shares

    @contextmanager
    def _together(self) -> Iterator[None]:
        """Run what all ranks take part in at the same time; a lost rank shows as an error of their connection."""
        try:
            yield
        except RuntimeError as error:
            wait([rank.process.sentinel for rank in self._others], 2.0)
            for rank in sorted(self._others, key=lambda rank: rank.process.is_alive()):  # a lost one is the cause
                rank.check()
            reason = str(error).strip().partition("\n")[0]
            raise MentallamError(f"the ranks have lost each other ({reason}): {_GO_ON}") from error


@dataclass
class _Rank:
    """Another rank, as rank 0 sees it."""

    number: int
    process: Any
    connection: "Connection[Any, Any]"

    def send(self, message: Any) -> None:
        try:
            self.connection.send(message)
        except OSError:
            raise self._gone() from None

    def answer(self) -> Any:
        """Return the result of the rank's work, when it has one.

        Raises:
            MentallamError: The rank has failed, or its process is gone.
        """
        while True:
            wait([self.connection, self.process.sentinel])
            answer = self._received()
            if isinstance(answer, _Done):
                return answer.result

    def check(self) -> None:
        """Raise the rank's error if it has one, or if it is gone."""
        while self.connection.poll() or not self.process.is_alive():
            self._received()

    def _received(self) -> Any:
        """Return the rank's next message; log a warning, raise an error."""
        try:
            answer = self.connection.recv() if self.connection.poll() else None
        except (EOFError, OSError):
            raise self._gone() from None
        if isinstance(answer, _Logged):
            logging.getLogger(answer.name).log(answer.level, "rank %d: %s", self.number, answer.message)
        elif isinstance(answer, _Failed):
            raise MentallamError(f"rank {self.number}: {answer.sentence}")
        elif answer is None and not self.process.is_alive():
            raise self._gone()
        return answer

    def _gone(self) -> MentallamError:
        interruption.stop_if_requested()  # it may have come before the rank ignored it
        self.process.join(2.0)
        code = self.process.exitcode or 0
        how = f"by {Signals(-code).name}" if code < 0 else f"with exit code {code}"
        return MentallamError(f"the process of rank {self.number} has ended {how}, maybe for lack of memory: {_GO_ON}")


# In the process of another rank


def serve(connection: "Connection[Any, Any]") -> None:
    """Work for rank 0 until it ends the connection; an error is its last answer."""
    hf_logging.set_verbosity_error()
    project = logging.getLogger("mentallam")
    project.addHandler(_ToRankZero(connection))
    project.setLevel(logging.WARNING)
    project.propagate = False
    with suppress(EOFError, OSError):  # rank 0 is gone
        try:
            _serve(connection)
        except MentallamError as error:
            connection.send(_Failed(error.message))
        except (EOFError, OSError):
            raise
        except Exception as error:
            reason = (str(error).strip().splitlines() or [""])[0][:200]
            connection.send(_Failed(f"it has failed ({type(error).__name__}: {reason})"))


def _serve(connection: "Connection[Any, Any]") -> None:
    start: _Start = connection.recv()
    with deterministic_algorithms(start.config.training.deterministic), compiler_errors():
        model, _ = build_classifier(start.base, start.config)
        connection.send(_Done())
        _join(model, start.store, start.rank, start.size)
        while (work := connection.recv()) is not None:
            _share_weights(model, start.rank)
            _do(work, start.rank, model, connection)
        distributed.destroy_process_group()


def _do(work: _Work, rank: int, model: nn.Module, connection: "Connection[Any, Any]") -> None:
    examples, step = [_received_example(*sent) for sent in work.examples], work.step
    if step is None:
        connection.send(_Done(score_pairs(model, examples, work.tokens_per_pass)))
        return
    torch.manual_seed(rank_seed(step.seed, step.number, rank))
    model.zero_grad()
    weights = None if step.class_weights is None else torch.tensor(step.class_weights, dtype=torch.float64)
    loss, budget = add_gradients(model, examples, work.tokens_per_pass, step.pairs, weights)
    connection.send(_Done(budget))
    _sum_gradients(model, loss)


class _ToRankZero(logging.Handler):
    """A handler that sends records to rank 0, whose log they belong to."""

    def __init__(self, connection: "Connection[Any, Any]") -> None:
        super().__init__()
        self._connection = connection

    def emit(self, record: logging.LogRecord) -> None:
        with suppress(OSError):
            self._connection.send(_Logged(record.levelno, record.name, record.getMessage()))


# In the processes of all ranks at the same time


def _join(model: nn.Module, store: str, rank: int, size: int) -> None:
    backend = "nccl" if next(model.parameters()).is_cuda else "gloo"
    at = Path(store).as_uri()
    distributed.init_process_group(backend, init_method=at, rank=rank, world_size=size, timeout=_TIMEOUT)


@torch.no_grad()
def _share_weights(model: nn.Module, rank: int) -> None:
    """Give every rank the trained weights of rank 0."""
    trained = _trained(model)
    flat = torch.cat([parameter.detach().reshape(-1) for parameter in trained])
    distributed.broadcast(flat, 0)
    if rank:
        for parameter, part in zip(trained, flat.split([each.numel() for each in trained]), strict=True):
            parameter.copy_(part.view_as(parameter))


@torch.no_grad()
def _sum_gradients(model: nn.Module, loss: Tensor) -> Tensor:
    """Set the gradients of rank 0 to the sum of all ranks', and return the sum of their losses."""
    trained = _trained(model)
    gradients = [torch.zeros_like(each) if each.grad is None else each.grad for each in trained]
    flat = torch.cat([*(gradient.reshape(-1) for gradient in gradients), loss.reshape(1)])
    distributed.reduce(flat, 0)
    total: Tensor
    *parts, total = flat.split([*(each.numel() for each in trained), 1])
    for parameter, part in zip(trained, parts, strict=True):
        parameter.grad = part.view_as(parameter).to(parameter.dtype)
    return total[0]


def _trained(model: nn.Module) -> list[nn.Parameter]:
    return [parameter for parameter in model.parameters() if parameter.requires_grad]


def _sendable(example: PostExample) -> tuple[PostExample, Any]:
    """Return an example and its states as bytes; torch would send a tensor as an open file."""
    if example.states is None:
        return example, None
    return replace(example, states=None), (example.states.contiguous().view(torch.uint8).numpy(), example.states.dtype)


def _received_example(example: PostExample, states: Any) -> PostExample:
    return example if states is None else replace(example, states=torch.from_numpy(states[0]).view(states[1]))
