"""A base model on disk: weights, config.json and tokenizer, always in a folder in Hugging Face layout."""

from dataclasses import asdict, dataclass, replace
from pathlib import Path

from transformers import AutoTokenizer, PreTrainedConfig, PreTrainedTokenizerBase

from mentallam.classifier.families import check_architecture, read_architecture
from mentallam.classifier.loading import unreadable
from mentallam.classifier.sources import FINGERPRINT_DIGITS, cached_folder, find_source
from mentallam.config import ModelConfig
from mentallam.errors import MentallamError


@dataclass(frozen=True)
class BaseModel:
    """Weights and tokenizer on disk.

    Attributes:
        name: The model's name in the configuration.
        source: A name in `sources.SOURCES`.
        folder: Where config.json, the weights and the tokenizer lie.
        fingerprint: What tells these weights from others: the hub's commit, or a sha256 of the source.
    """

    name: str
    source: str
    folder: str
    fingerprint: str

    def to_dict(self) -> dict[str, str]:
        """Return it as a plain dict, for saving and logging."""
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
        return find_source(self.source).way_out


def prepare_base_model(model: ModelConfig, cache: Path) -> BaseModel:
    """Get the base model onto this disk, or find it there.

    Args:
        model: Which model.
        cache: Folder for weights that are converted or made here. The hub keeps its files in another.

    Raises:
        MentallamError: The weights can't be had, or the classifier would not be exact on them; the message says what
            to do.
    """
    source = find_source(model.source)
    # Refuse before gigabytes are fetched or converted.
    check_architecture(source.architecture(model, cache, True)[0], model)
    folder, fingerprint = source.prepare(model, cache)
    return BaseModel(model.name, model.source, str(folder), fingerprint)


def locate_base_model(saved: BaseModel, model: ModelConfig, cache: Path) -> BaseModel:
    """Return the base model of a checkpoint as it lies on this machine.

    Args:
        saved: As it was at training, perhaps on another machine.
        model: The checkpoint's configuration.
        cache: As in `prepare_base_model`.

    Raises:
        MentallamError: It can't be had, or other weights go by its name now.
    """
    made_here = cached_folder(cache, saved.name, saved.fingerprint)
    if made_here.is_dir():
        found = replace(saved, folder=str(made_here))
        check_architecture(found.architecture(), model)
        return found
    found = prepare_base_model(find_source(model.source).pin(model, saved.fingerprint), cache)
    if found.fingerprint != saved.fingerprint:
        raise MentallamError(
            f"the base model {saved.name} has other weights (fingerprint {found.fingerprint[:FINGERPRINT_DIGITS]}) "
            f"than the checkpoint was trained on ({saved.fingerprint[:FINGERPRINT_DIGITS]}); get those, or train again"
        )
    return found


def load_tokenizer(model: ModelConfig, cache: Path) -> PreTrainedTokenizerBase:
    """Load the tokenizer of a base model whose weights are not needed, without asking a network.

    Args:
        model: Which model.
        cache: As in `prepare_base_model`.

    Raises:
        MentallamError: It is not on this machine, or can't be read.
    """
    folder = find_source(model.source).tokenizer(model, cache)
    try:
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
            str(folder), local_files_only=True, trust_remote_code=False
        )
    except (OSError, ValueError, ImportError) as error:
        raise MentallamError(
            f"the tokenizer of {model.name} can't be read from {folder} ({type(error).__name__}); get its files again"
        ) from None
    return tokenizer


def load_architecture(model: ModelConfig, cache: Path) -> tuple[PreTrainedConfig, str]:
    """Load the architecture of a base model whose weights are not needed, without asking a network.

    Args:
        model: Which model. Of the hub's, `architecture` in the configuration stands in for a config.json that is not
            on this machine.
        cache: As in `prepare_base_model`.

    Returns:
        The architecture, and where it is from: config.json, gguf or configuration.

    Raises:
        MentallamError: It is not on this machine, can't be read, or the classifier would not be exact on it.
    """
    architecture, origin = find_source(model.source).architecture(model, cache, False)
    check_architecture(architecture, model)
    return architecture, origin
