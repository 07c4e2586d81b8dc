"""Seeds of everything random in a fold, derived from the two that a user sets: `folds.seed` and `training.seed`.

`folds.seed` decides which posts a fold learns from, and `training.seed` how it learns, so either can be varied alone.
Seeds are never added to fold numbers: since 42 + 1 = 43 + 0, two repeats would share most of their trainings.
"""

import numpy as np

_TRAINING, _DEV_SPLIT, _SAMPLE, _SUBSETS, _RANKS = range(5)


def training_seed(seed: int, fold: int) -> int:
    """Return the seed of a fold's training: initial head and adapters, order of posts, dropout.

    Args:
        seed: `training.seed`.
        fold: The fold's number.
    """
    return _derived(seed, _TRAINING, fold)


def dev_split_seed(seed: int, fold: int) -> int:
    """Return the seed that splits a fold's posts into train and dev.

    Args:
        seed: `folds.seed`.
        fold: The fold's number.
    """
    return _derived(seed, _DEV_SPLIT, fold)


def sample_seed(seed: int, fold: int) -> int:
    """Return the seed of the sample of a fold's posts that `training.sample_fraction` takes.

    Args:
        seed: `folds.seed`.
        fold: The fold's number.
    """
    return _derived(seed, _SAMPLE, fold)


def subsets_seed(seed: int, fold: int) -> int:
    """Return the seed of the order in which groups enter the growing training sets of a learning curve.

    Args:
        seed: `folds.seed`.
        fold: The fold's number.
    """
    return _derived(seed, _SUBSETS, fold)


def rank_seed(seed: int, step: int, rank: int) -> int:
    """Return the seed of what a rank draws in an optimizer step: the dropout of its posts.

    Args:
        seed: The seed of the fold's training.
        step: The optimizer step.
        rank: The rank, from 1 on; rank 0 draws from the generators that its training states keep.
    """
    return _derived(seed, _RANKS, step, rank)


def _derived(seed: int, purpose: int, *numbers: int) -> int:
    """Derive a seed of 32 bits, the most that NumPy's global state and transformers' `set_seed` accept."""
    return int(np.random.SeedSequence(seed, spawn_key=(purpose, *numbers)).generate_state(1)[0])
