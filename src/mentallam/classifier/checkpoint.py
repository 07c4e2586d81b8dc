"""A trained fold on disk: adapter, head, tokenizer, decision, prompt and configuration in one folder.

The folder is an ordinary PEFT checkpoint (safetensors only) with a model card and `mentallam.json`, which holds
everything else that is needed to use it. The base model is not in it, only its name and fingerprint. The checksums of
all files are written last, and compared before anything is loaded.

An exported model (`serving.export`) is loaded like a checkpoint; it holds merged weights, and needs no base model.
"""

import json
import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mentallam.checksums import CHECKSUMS, has_checksums, verify_checksums, write_checksums
from mentallam.classifier.merged import load_merged
from mentallam.classifier.packed_model import PackedForSequenceClassification, compute_dtype
from mentallam.classifier.prompts import Prompter
from mentallam.classifier.weights import BaseModel
from mentallam.config import Config, from_dict, to_dict
from mentallam.errors import MentallamError
from mentallam.evaluation.calibration import Calibration
from mentallam.evaluation.decision import Decision, Thresholds
from mentallam.files import find_folder, replacing_folder
from mentallam.limits import read_json
from mentallam.markdown import as_text
from mentallam.model_folders import FACTS

if TYPE_CHECKING:
    from peft import PeftModel

logger = logging.getLogger(__name__)

EXPORTED = "exported"
"""The key that only an exported model has in `FACTS`; its `dtype` is that of the weights."""

LEARNT = "learnt_posts"
"""The key in `FACTS` of the hashes of the posts that a checkpoint has learnt from (`warm_start`)."""

_CARD = """---
library_name: peft
tags: [mentallam, research-screening]
---
# mentallam: does a post match a criterion?
{synthetic}
- Base model: {base} (fingerprint `{fingerprint}`); adapter and head in `adapter_model.safetensors`
- Trained on: {corpus}, data hash `{data_hash}`; fold {fold} of run `{cv_run_id}`, this fold's run `{run_id}`
- Decision: probability = sigmoid({slope:.3g} x logit + {intercept:.3g}), matched from {thresholds} on; both from a dev
  split of the training posts
- Criteria: {criteria}

**Research screening only, never a diagnosis.** A match says that the wording of a post resembles wording that
annotators marked; it says nothing certain about the person who wrote it.
"""


@dataclass(frozen=True)
class TrainedFold:
    """A trained fold: everything that a checkpoint holds, and its base model.

    Attributes:
        model: Adapters and head on the base; without adapters if it was loaded from an exported model.
        prompter: Tokenizer and criteria.
        config: The resolved configuration.
        base: The base model.
        decision: Calibration and thresholds.
        origin: Where it comes from: run_id, cv_run_id, fold, seed (of this fold, derived from training_seed),
            training_seed, folds_seed, mask, corpus, synthetic, data_hash. Older checkpoints have `seed` alone.
        folder: The folder it was loaded from.
        reference: What its posts were like, to compare others with: positive_rate and positive, the share and the
            number of matched pairs by criterion in the posts that it learnt from; dev, the counts of its dev
            predictions (`Tally`). Older checkpoints lack some of these.
        learnt: Hashes of the posts that it learnt from, once it is trained; a loaded one has none.
    """

    model: "PeftModel | PackedForSequenceClassification"
    prompter: Prompter
    config: Config
    base: BaseModel
    decision: Decision
    origin: Mapping[str, Any]
    folder: Path | None = None
    reference: Mapping[str, Any] = field(default_factory=dict)
    learnt: Sequence[str] = ()


def origin_of(
    run_id: str,
    cv_run_id: str,
    fold: int | str,
    seeds: Mapping[str, int],
    data_manifest: Mapping[str, Any],
) -> dict[str, Any]:
    """Return what a checkpoint says about where it comes from.

    Args:
        run_id: The run of the training.
        cv_run_id: The run of its cross-validation.
        fold: The fold's number, or what takes its place.
        seeds: `seed`, `training_seed` and `folds_seed`, as in `TrainedFold`.
        data_manifest: The record of the data.
    """
    return {
        **{"run_id": run_id, "cv_run_id": cv_run_id, "fold": fold, **seeds},
        "mask": data_manifest["options"]["cleaning"]["mask"],
        **{name: data_manifest[name] for name in ("data_hash", "corpus", "synthetic")},
    }


def save_checkpoint(trained: TrainedFold, folder: Path) -> None:
    """Write the checkpoint whole, or keep the previous one, even if the process is killed.

    Raises:
        MentallamError: The folder can't be written.
    """
    with replacing_folder(folder) as unfinished:
        # The folder in which the base lies on this machine means nothing on another.
        trained.model.peft_config["default"].base_model_name_or_path = trained.config.model.path or trained.base.name
        # Otherwise PEFT asks the hub whether the vocabulary grew; here it never does.
        trained.model.save_pretrained(str(unfinished), save_embedding_layers=False)
        trained.prompter.tokenizer.save_pretrained(unfinished)
        facts = {**to_facts(trained), LEARNT: list(trained.learnt)}
        (unfinished / FACTS).write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
        (unfinished / "README.md").write_text(_card(trained), encoding="utf-8")
        write_checksums(unfinished)


def load_checkpoint(folder: Path, cache: Path, dtype: str = "auto", merge: bool = False) -> TrainedFold:
    """Rebuild a trained fold, ready for scoring.

    Args:
        folder: What `save_checkpoint` or `serving.export` wrote.
        cache: Folder of base weights that were converted or made on this machine; an exported model needs none.
        dtype: Data type of the base weights; `auto` takes the one of the training, or of an exported model's file.
        merge: Add the adapter to the weights, layer by layer in float32: faster, and equal to within rounding. A base
            in 4 bits is dequantised first. In an exported model the adapter has been added.

    Raises:
        MentallamError: The folder holds no checkpoint, or its base model can't be had.
    """
    folder = find_folder(folder)
    facts = read_facts(folder)
    try:
        decision = _decision(facts)
        origin, criteria, base = facts["origin"], facts["criteria"], BaseModel(**facts["base_model"])
        stored = _stored_dtype(facts) if EXPORTED in facts else None
    except (KeyError, ValueError, TypeError, AttributeError) as error:
        raise _incomplete(folder, error) from None
    config = from_dict(facts["config"])
    model: PeftModel | PackedForSequenceClassification
    if stored is not None:
        model, tokenizer = load_merged(folder, compute_dtype(stored if dtype == "auto" else dtype), _way_out(folder))
    else:
        wanted = compute_dtype(config.model.dtype if dtype == "auto" else dtype)
        from mentallam.classifier.adapted import load_adapted  # PEFT takes seconds to import

        model, tokenizer, base = load_adapted(folder, _way_out(folder), base, config, cache, wanted, merge)
    prompter = Prompter(tokenizer, config.model.prompt, criteria, config.model.max_length)
    return TrainedFold(model, prompter, config, base, decision, origin, folder, facts.get("reference", {}))


def read_facts(folder: Path) -> dict[str, Any]:
    """Verify a checkpoint's files and return the content of its mentallam.json.

    A checkpoint of a version that wrote no checksums is accepted with a warning: its mentallam.json does not name them.

    Raises:
        MentallamError: A file is missing, was added, or has changed.
    """
    try:
        if has_checksums(folder):
            verify_checksums(folder, _way_out(folder))
        facts: dict[str, Any] = read_json(folder / FACTS)
        if not isinstance(facts, dict):
            raise ValueError("it is no object")
    except (OSError, ValueError) as error:
        raise _incomplete(folder, error) from None
    if not has_checksums(folder):
        if "checksums" in facts:
            raise MentallamError(f"{folder / CHECKSUMS} is missing; {_way_out(folder)}")
        logger.warning("%s has no checksums, since an older version wrote it; damage to its files may not show", folder)
    return facts


def _stored_dtype(facts: Mapping[str, Any]) -> str:
    dtype: str = facts[EXPORTED]["dtype"]
    if dtype not in ("float32", "bfloat16"):
        raise ValueError("no export writes this dtype")
    return dtype


def _incomplete(folder: Path, error: Exception) -> MentallamError:
    return MentallamError(f"{folder} holds no complete checkpoint ({type(error).__name__}); {_way_out(folder)}")


def _way_out(folder: Path) -> str:
    """Return what to do about a damaged checkpoint or exported model; most checkpoints are named after their fold."""
    if any((folder / name).is_file() for name in ("config.json", "example.py")):  # no checkpoint has them
        return "get an undamaged copy, or export it again (`mentallam export`)"
    fold = folder.name.strip(".").removesuffix(".replaced")
    again = f"train {fold.replace('_', ' ')} again" if re.fullmatch(r"fold_\d+", fold) else "train its fold again"
    return f"get an undamaged copy, or remove the folder and {again} (`kedro run --pipeline cv_training`)"


def to_facts(trained: TrainedFold) -> dict[str, Any]:
    """Return the content of a checkpoint's mentallam.json."""
    return {
        "decision": trained.decision.to_dict(),
        "criteria": trained.prompter.criteria,
        "origin": dict(trained.origin),
        "reference": dict(trained.reference),
        "base_model": replace(trained.base, folder="").to_dict(),  # the folder means nothing on another machine
        "config": to_dict(trained.config),
        "checksums": CHECKSUMS,  # tells a checkpoint that lost this file from one of an older version
    }


def _decision(facts: Mapping[str, Any]) -> Decision:
    """Return the decision; a checkpoint from before calibration has a threshold of uncalibrated probabilities."""
    if "decision" in facts:
        return Decision.from_dict(facts["decision"])
    return Decision(Calibration(), Thresholds(facts["threshold"]))


def _card(trained: TrainedFold) -> str:
    synthetic = "\n**SYNTHETIC DATA: trained on invented posts; its output says nothing about people.**\n"
    return _CARD.format(
        synthetic=synthetic if trained.origin["synthetic"] else "",
        base=trained.base.name,
        fingerprint=trained.base.fingerprint,
        slope=trained.decision.calibration.slope,
        intercept=trained.decision.calibration.intercept,
        thresholds=thresholds_in_words(trained.decision.thresholds),
        criteria="; ".join(f"{as_text(name)}: {as_text(text)}" for name, text in trained.prompter.criteria.items()),
        corpus=as_text(trained.origin["corpus"]),
        **{name: trained.origin[name] for name in ("data_hash", "fold", "cv_run_id", "run_id")},
    )


def thresholds_in_words(thresholds: Thresholds) -> str:
    """Return the thresholds as Markdown for a card."""
    by_criterion = [f"{as_text(criterion)} {threshold:.2f}" for criterion, threshold in thresholds.by_criterion.items()]
    return f"{thresholds.common:.2f}" + (f" ({', '.join(by_criterion)})" if by_criterion else "")
