"""The files of a batch of predictions: the parameter `output` names their folder, or the file of the predictions."""

from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path, PurePosixPath
from typing import Literal, cast, get_args

from mentallam.errors import MentallamError
from mentallam.storage import is_url

Format = Literal["jsonl", "csv", "parquet"]
FORMATS: tuple[str, ...] = get_args(Format)

_DEFAULT = "predictions"


@dataclass(frozen=True)
class BatchFiles:
    """Where a batch writes.

    Attributes:
        folder: The folder of all its files.
        format: The format of the predictions.
        name: The name of the predictions without its ending; the other files' names begin with it unless it is the
            default one.
        url: The address of a store where the files go, if they go to one; `folder` holds them until they are there.
    """

    folder: Path
    format: Format = "jsonl"
    name: str = _DEFAULT
    url: str = ""

    @classmethod
    def named(cls, output: str, output_format: str, waiting: str = ".") -> "BatchFiles":
        """Return the files of a batch by its parameters.

        Args:
            output: The folder, or a file whose ending is a format; of this machine, or an address such as
                `s3://bucket/june`.
            output_format: The format of the predictions in a folder; may be empty, for the default or the file's.
            waiting: The folder of this machine for what goes to a store.

        Raises:
            MentallamError: There is no such format, or it is not the file's.
        """
        if output_format and output_format not in FORMATS:
            raise MentallamError(f"output_format={output_format} is not one of {', '.join(FORMATS)}")
        place, name, format = output, _DEFAULT, output_format or "jsonl"
        path = PurePosixPath(output) if is_url(output) else Path(output)
        if (ending := path.suffix.removeprefix(".")) in FORMATS:
            if output_format and output_format != ending:
                raise MentallamError(
                    f"output={path.name} does not fit output_format={output_format}: leave one of them out"
                )
            place, name, format = output.rpartition("/")[0] if is_url(output) else str(path.parent), path.stem, ending
        if not is_url(output):
            return cls(Path(place), cast(Format, format), name)
        url = place.rstrip("/")
        folder = Path(waiting) / "uploads" / blake2b(url.encode(), digest_size=8).hexdigest()
        return cls(folder, cast(Format, format), name, url)

    def place(self, path: Path) -> str:
        """Return where one of the files is in the end: its path, or its address in a store."""
        return f"{self.url}/{path.name}" if self.url else str(path)

    @property
    def predictions(self) -> Path:
        """The answers."""
        return self.folder / f"{self.name}.{self.format}"

    @property
    def rejects(self) -> Path:
        """The rows that could not be answered."""
        return self._beside("rejects.jsonl", "rejects.jsonl")

    @property
    def summary(self) -> Path:
        """The counts."""
        return self._beside("prediction_summary.json", "summary.json")

    @property
    def metrics(self) -> Path:
        """The counts for Prometheus."""
        return self._beside("prediction_metrics.prom", "metrics.prom")

    @property
    def attempt(self) -> Path:
        """The folder of what is done so far, while the batch lasts."""
        return self.folder / f".{self.name}_attempt"

    def _beside(self, default: str, ending: str) -> Path:
        return self.folder / (default if self.name == _DEFAULT else f"{self.name}_{ending}")


def batch_file(kind: str, output: str, output_format: str, waiting: str = ".") -> str:
    """Return one of the files, for the catalog.

    Args:
        kind: The name of a property of `BatchFiles`.
        output: See `BatchFiles.named`.
        output_format: The same.
        waiting: The same.
    """
    return str(getattr(BatchFiles.named(output, output_format, waiting), kind))
