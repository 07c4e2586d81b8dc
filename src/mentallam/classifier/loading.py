"""Loading of complete weights; transformers by itself draws missing weights at random and drops unknown ones."""

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

from safetensors import SafetensorError
from transformers.utils import logging as hf_logging

from mentallam.errors import MentallamError

UNREADABLE = (OSError, ValueError, RuntimeError, ImportError, SafetensorError, UnpicklingError)
"""Errors that transformers raises for files that are damaged, incomplete, or need a library that is missing."""


@contextmanager
def quiet_loading() -> Iterator[None]:
    """Silence transformers' progress bars and its report on weights, which `load_whole` checks instead."""
    verbosity = hf_logging.get_verbosity()
    hf_logging.set_verbosity_error()
    hf_logging.disable_progress_bar()
    try:
        yield
    finally:
        hf_logging.set_verbosity(verbosity)
        hf_logging.enable_progress_bar()


def load_whole(
    load: Callable[..., Any], folder: str | Path, way_out: str, fresh: Collection[str] = (), **options: Any
) -> Any:
    """Load a model and check that its files hold exactly the weights that its architecture takes.

    Two kinds of surplus weights are allowed: the language-model head, and rotary frequencies, which are computed.

    Args:
        load: `from_pretrained` of a transformers class.
        folder: The folder of config.json and the weights.
        way_out: What the user can do, for the error.
        fresh: Names of weights that no file has: those of a new head.
        **options: Passed to `load`.

    Returns:
        The model that `load` returns.

    Raises:
        MentallamError: Weights can't be read, are missing, unknown to the architecture, or of another shape.
    """
    try:
        with quiet_loading():
            # Without an answer, transformers would ask a user at a terminal whether to run a model's code. Many older
            # models of the hub are pickles; torch's restricted reader takes tensors from them and runs nothing.
            safe = {"trust_remote_code": False, "weights_only": True}
            found_in = {"output_loading_info": True, "ignore_mismatched_sizes": True}
            model, found = load(str(folder), **found_in, **safe, **options)
    except UNREADABLE as error:
        raise unreadable(folder, error, way_out) from None
    left_over = {key for key in found["unexpected_keys"] if not _harmless(key)}
    for wrong, keys in (
        ("lacks", set(found["missing_keys"]) - set(fresh)),
        ("has, of another shape than its config.json says,", {key for key, *_ in found["mismatched_keys"]}),
        ("has, beyond what its architecture takes,", left_over),
    ):
        if keys:
            first, more = min(keys), f" and {len(keys) - 1} more" if len(keys) > 1 else ""
            raise MentallamError(f"the base model in {folder} {wrong} the weights {first}{more}; {way_out}")
    return model


def unreadable(folder: str | Path, error: Exception, way_out: str) -> MentallamError:
    """Return the error for a base model whose files can't be read."""
    reason = str(error).strip().splitlines() or [type(error).__name__]
    return MentallamError(f"the base model in {folder} can't be loaded ({reason[0]}); {way_out}")


def _harmless(key: str) -> bool:
    return key.startswith("lm_head.") or key.endswith(("rotary_emb.inv_freq", "rope_freqs.weight"))
