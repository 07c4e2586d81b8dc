"""An exported model: a fold in one folder that plain transformers loads, without this package and the base model.

The adapter is merged into the base. `mentallam.json` holds everything else that a checkpoint's holds, and the prompt as
token ids, so that `example.py` scores a pair in a few lines. `checkpoint.load_checkpoint` reads the folder, too.

Folds that answer together become a folder with one such folder for each and the calibration of their mean.
"""

import json
import re
import shlex
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from peft import PeftModel

from mentallam.checksums import write_checksums
from mentallam.classifier.checkpoint import EXPORTED, TrainedFold, load_checkpoint, thresholds_in_words, to_facts
from mentallam.classifier.merged import save_merged
from mentallam.classifier.shared_base import release_base
from mentallam.errors import MentallamError
from mentallam.files import replacing_folder
from mentallam.limits import read_json
from mentallam.markdown import as_code, as_text
from mentallam.model_folders import ENSEMBLE_FILE, FACTS, fold_folder, parts_in, split_parts
from mentallam.provenance import code_version
from mentallam.serving.notices import SCREENING

_EXAMPLE = Path(__file__).with_name("export_example.py")

_CARD = """
# Does this post match this criterion?
{synthetic}
**{notice}** A match says that the wording of a post resembles wording that annotators marked. It says nothing certain
about the person who wrote it, and must not be used to decide about anyone.

- Base model: {base} (fingerprint {fingerprint}), {licence}; the adapter is merged into it, the weights are {dtype}, the
  head is float32
- Trained on: {corpus}, data hash {data_hash}; fold {fold} of run {cv_run_id}, this fold's run {run_id}
- Decision: probability = sigmoid({slope:.6g} x logit {intercept:+.6g}), where logit is the output for yes minus the
  output for no; matched from {thresholds} on. Both are from a dev split of the training posts
- Text: cleaned as in training, {masked}; `example.py` takes the text as it is given
- Criteria: {criteria}

## Use

{command}

`example.py` needs torch and transformers. Join the token ids of `mentallam.json` as it does, never the strings: the
tokenizer would merge characters where two strings meet, and the model has not seen such pairs.
"""


_SYNTHETIC = "\n**SYNTHETIC DATA: trained on invented posts; its output says nothing about people.**\n"

_ENSEMBLE_CARD = """
# Does this post match this criterion?
{synthetic}
**{notice}** A match says that the wording of a post resembles wording that annotators marked. It says nothing certain
about the person who wrote it, and must not be used to decide about anyone.

The folds of a cross-validation that answer together: {folders}, each an exported model with a card of its own. Data
hash {data_hash}, run {cv_run_id}.

- Log-odds of a fold: slope x logit + intercept of its `mentallam.json`
- Probability: sigmoid(slope x mean log-odds + intercept), with slope and intercept of `ensemble.json`
- Matched from the mean of the folds' thresholds on

## Use

{command}
"""


def export_parts(parts: Sequence[Path], folder: Path, base_models: Path, dtype: str) -> None:
    """Write one fold, or folds that answer together, as an exported model: whole, or not at all.

    Args:
        parts: As `registry.find_checkpoints` returns them.
        folder: The folder to write; an exported model in it is replaced.
        base_models: Folder of the base weights that were converted or made on this machine.
        dtype: As for `export_model`.

    Raises:
        MentallamError: As `export_model`.
    """
    ensemble, checkpoints = split_parts(parts)
    if ensemble is None and len(checkpoints) == 1:
        export_model(checkpoints[0], folder, base_models, dtype)
        return
    _refuse_other_content(folder)
    with replacing_folder(folder) as unfinished:
        numbers = [read_json(checkpoint / FACTS)["origin"]["fold"] for checkpoint in checkpoints]
        for number, checkpoint in zip(numbers, checkpoints, strict=True):
            # Nothing refers to the fold afterwards, so only one is in memory.
            card = _ensemble_card(
                export_model(checkpoint, fold_folder(unfinished, number), base_models, dtype), numbers
            )
        calibration = {"slope": 1.0, "intercept": 0.0} if ensemble is None else read_json(ensemble)
        (unfinished / ENSEMBLE_FILE).write_text(json.dumps(calibration, indent=2) + "\n", encoding="utf-8")
        (unfinished / "README.md").write_text(card, encoding="utf-8")
        shutil.copyfile(_EXAMPLE, unfinished / "example.py")


def export_model(checkpoint: Path, folder: Path, base_models: Path, dtype: str) -> TrainedFold:
    """Write a checkpoint as an exported model: whole, or not at all.

    Args:
        checkpoint: The folder of the checkpoint.
        folder: The folder to write; an exported model in it is replaced.
        base_models: Folder of the base weights that were converted or made on this machine.
        dtype: Data type of the weights except the head's: float32, bfloat16, or auto for the one of the training. The
            adapter is merged in float32 and the sum is rounded once.

    Returns:
        The fold, whose model can't be used any more.

    Raises:
        MentallamError: `folder` holds something else, the checkpoint is damaged or is an exported model, or its base
            model can't be had.
    """
    _refuse_other_content(folder)
    try:
        trained = load_checkpoint(checkpoint, base_models, dtype, merge=True)
    finally:
        release_base()
    if not isinstance(trained.model, PeftModel):
        raise MentallamError(f"{checkpoint} is an exported model already; copy the folder, or name a run")
    facts = _facts(trained)
    with replacing_folder(folder) as unfinished:
        last_tokens = {suffix[-1] for suffix in facts["prompt"]["suffixes"].values()}
        save_merged(trained.model, trained.prompter.tokenizer, last_tokens, unfinished)
        (unfinished / FACTS).write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
        (unfinished / "README.md").write_text(_card(trained, facts[EXPORTED]["dtype"]), encoding="utf-8")
        shutil.copyfile(_EXAMPLE, unfinished / "example.py")
        write_checksums(unfinished)
    return trained


def _refuse_other_content(folder: Path) -> None:
    """Refuse to replace a folder that no export wrote, whatever it holds."""
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return
    try:
        exported = [EXPORTED in read_json(part / FACTS) for part in parts_in(folder) if part.is_dir()]
    except (OSError, ValueError, TypeError):
        exported = []
    if not exported or not all(exported):
        raise MentallamError(f"{folder} exists and is no exported model; name another folder with --to, or remove it")


def _facts(trained: TrainedFold) -> dict[str, Any]:
    dtype = str(trained.model.dtype).removeprefix("torch.")
    return {
        "notice": SCREENING,
        EXPORTED: {"dtype": dtype, "code": code_version()},
        "prompt": trained.prompter.to_dict(),
        **to_facts(trained),
    }


def _card(trained: TrainedFold, dtype: str) -> str:
    origin, decision, criteria = trained.origin, trained.decision, trained.prompter.criteria
    licence = _licence(Path(trained.base.folder))
    text = _CARD.format(
        synthetic=_SYNTHETIC if origin["synthetic"] else "",
        notice=SCREENING,
        base=as_code(trained.base.name),
        fingerprint=as_code(trained.base.fingerprint),
        licence=f"licence {licence}" if licence else "whose source names its licence",
        dtype=dtype,
        slope=decision.calibration.slope,
        intercept=decision.calibration.intercept,
        thresholds=thresholds_in_words(decision.thresholds),
        masked="and masked" if origin.get("mask", False) else "not masked",
        criteria="; ".join(f"{as_text(name)}: {as_text(wording)}" for name, wording in criteria.items()),
        command=as_code(f'python example.py "I have been awake until four." {shlex.quote(next(iter(criteria)))}'),
        corpus=as_text(origin["corpus"]),
        **{name: as_code(origin[name]) for name in ("data_hash", "fold", "cv_run_id", "run_id")},
    )
    return _header(trained, licence) + text


def _ensemble_card(trained: TrainedFold, numbers: Sequence[int]) -> str:
    criterion = shlex.quote(next(iter(trained.prompter.criteria)))
    text = _ENSEMBLE_CARD.format(
        synthetic=_SYNTHETIC if trained.origin["synthetic"] else "",
        notice=SCREENING,
        folders=", ".join(as_code(fold_folder(Path(), number)) for number in numbers),
        command=as_code(f'python example.py "I have been awake until four." {criterion}'),
        **{name: as_code(trained.origin[name]) for name in ("data_hash", "cv_run_id")},
    )
    return _header(trained, _licence(Path(trained.base.folder))) + text


def _header(trained: TrainedFold, licence: str | None) -> str:
    """Return the YAML that the Hugging Face hub reads."""
    model = trained.config.model
    header: dict[str, Any] = {
        "library_name": "transformers",
        "pipeline_tag": "text-classification",
        "tags": ["mentallam", "research-screening"],
    }
    if licence:
        header["license"] = licence
    if model.source == "hub" and not Path(model.path).is_dir():
        header["base_model"] = model.path
    return f"---\n{yaml.safe_dump(header, sort_keys=False)}---\n"


def _licence(base: Path) -> str | None:
    """Return the licence that the base model's card names by its identifier, or None."""
    card = base / "README.md"
    if not card.is_file():
        return None
    with card.open(encoding="utf-8", errors="replace") as file:
        header = re.match(r"---\n(.*?)\n---\n", file.read(2**16), re.DOTALL)
    found = re.search(r"^license: *([\w.+-]+) *$", header[1], re.MULTILINE) if header else None
    return found[1] if found else None
