"""Comparison of saved results with the data and parameters of a run; each function names the first difference."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from mentallam.config import Config, from_dict, to_dict
from mentallam.corpus.cleaning import CleaningOptions
from mentallam.corpus.folds import FoldOptions, FoldSplit
from mentallam.corpus.manifest import TABLE_KEYS, CorpusLabel, Manifest, frame_hash, options
from mentallam.resumption import changed, first_difference
from mentallam.variables import CV_FOLDS

Load = Callable[[str], Any]
"""A function that returns a saved dataset by its name."""


def change_of_data(
    manifest: Manifest,
    saved: Iterable[str],
    load: Load,
    cleaning: CleaningOptions,
    folds: FoldOptions,
    n_folds: int,
    label: CorpusLabel | None = None,
) -> str | None:
    """Return the first difference between saved results of data_processing and the manifest or options, or None.

    Args:
        manifest: The record of the data.
        saved: Names of the results that the run takes.
        load: Returns one of them.
        cleaning: Current options of cleaning.
        folds: Current options of the folds.
        n_folds: Current number of folds.
        label: Current label of the corpus; None skips the comparison.
    """
    saved = sorted(saved)
    for name in saved:
        if name in TABLE_KEYS and frame_hash(load(name), TABLE_KEYS[name]) != manifest["frames"][name]:
            return f"the dataset {name} has changed"
        carries_hash = name == "data_statistics" or name.endswith("_split")
        if carries_hash and load(name)["data_hash"] != manifest["data_hash"]:
            return f"other data have been prepared than those of {name}"
    dealt = {**folds.model_dump(include={"seed", "dev_splits"}), "n_folds": n_folds}
    for split in (load(name) for name in saved if name.endswith("_split")):
        for name, value in dealt.items():
            if split[name] != value:
                key = CV_FOLDS if name == "n_folds" else f"folds.{name}"
                return f"{key} has changed from {split[name]} to {value}"
    if "data_manifest" in saved and "corpus" not in manifest:
        return "the content of data_manifest has changed"
    if label is not None and "data_manifest" in saved:
        before = {"name": manifest["corpus"], "synthetic": manifest["synthetic"]}
        if difference := first_difference(before, label.model_dump(), "corpus_label"):
            return changed(*difference)
    chosen = options(cleaning, folds)
    for part, result in (("cleaning", "posts"), ("folds", "groups")):
        for name, value in chosen[part].items():
            if {result, "data_manifest"} & {*saved} and (before := manifest["options"][part].get(name)) != value:
                return f"{part}.{name} has changed from {before} to {value}"
    return None


def change_of_config(saved: Config, now: Config) -> str | None:
    """Return the first difference between a saved Hydra configuration and one that was composed now, or None."""
    difference = first_difference(to_dict(saved), to_dict(now))
    return changed(*difference) if difference else None


def change_of_fold(
    split: FoldSplit,
    training_config: Config,
    facts: Mapping[str, Any] | None,
    dev_posts: set[str] | None,
    held_out_posts: set[str] | None,
) -> str | None:
    """Return the first difference between a trained fold and the current split and configuration, or None.

    Args:
        split: The fold's posts.
        training_config: The configuration of the cross-validation.
        facts: The facts recorded in the fold's checkpoint; None if there is no checkpoint.
        dev_posts: Ids in the saved dev predictions; None if there are none.
        held_out_posts: Ids in the saved held-out predictions; None if there are none.
    """
    if facts is not None and facts["origin"]["data_hash"] != split["data_hash"]:
        return "the data have changed"
    # Training may have used only a sample of the dev split.
    if dev_posts is not None and not dev_posts <= {*split["dev"]}:
        return "its dev split has changed"
    if held_out_posts is not None and held_out_posts != {*split["held_out"]}:
        return "its held-out posts have changed"
    if facts is not None:
        return change_of_config(from_dict(facts["config"]), training_config)
    return None
