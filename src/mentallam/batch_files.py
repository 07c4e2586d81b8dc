"""The files of a batch of predictions: the parameter `output` names their folder, or the file of the predictions."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast, get_args

from mentallam.errors import MentallamError

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
    """

    folder: Path
    format: Format = "jsonl"
    name: str = _DEFAULT

    @classmethod
    def named(cls, output: str, output_format: str) -> "BatchFiles":
        """Return the files of a batch by its parameters.

        Args:
            output: The folder, or a file whose ending is a format.
            output_format: The format of the predictions in a folder; may be empty, for the default or the file's.

        Raises:
            MentallamError: There is no such format, or it is not the file's.
        """
        if output_format and output_format not in FORMATS:
            raise MentallamError(f"output_format={output_format} is not one of {', '.join(FORMATS)}")
        path = Path(output)
        ending = path.suffix.removeprefix(".")
        if ending not in FORMATS:
            return cls(path, cast(Format, output_format or "jsonl"))
        if output_format and output_format != ending:
            raise MentallamError(
                f"output={path.name} does not fit output_format={output_format}: leave one of them out"
            )
        return cls(path.parent, cast(Format, ending), path.stem)

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


def batch_file(kind: str, output: str, output_format: str) -> str:
    """Return one of the files, for the catalog.

    Args:
        kind: The name of a property of `BatchFiles`.
        output: See `BatchFiles.named`.
        output_format: The same.
    """
    return str(getattr(BatchFiles.named(output, output_format), kind))
