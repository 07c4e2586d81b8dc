"""One sentence about a result that can't be read, with the file and the way out."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kedro.io import DataCatalog, DatasetError
from kedro.pipeline import Pipeline

from mentallam.errors import MentallamError, causes


@dataclass(frozen=True)
class ResultFiles:
    """The results of a catalog, and the pipelines that make them.

    Attributes:
        catalog: The run's catalog.
        pipelines: All pipelines by name.
        env: The option `--env` for commands in messages, with a leading blank; empty for the default environment.
    """

    catalog: DataCatalog
    pipelines: Mapping[str, Pipeline]
    env: str

    def exists(self, name: str) -> bool:
        """Return whether a result is there."""
        return bool(self.catalog.exists(name))

    def load(self, name: str) -> Any:
        """Load a result.

        Raises:
            MentallamError: The file can't be read.
        """
        try:
            return self.catalog.load(name)
        except DatasetError as error:
            for cause in causes(error):
                if isinstance(cause, MentallamError):
                    raise cause from None
            if sentence := self.explain(error, name):
                raise sentence from None
            raise

    def explain(self, error: DatasetError, name: str) -> MentallamError | None:
        """Return the sentence for a result that can't be read; None if the error has another cause.

        Args:
            error: What Kedro raised.
            name: The dataset.
        """
        makers = (known for known, pipeline in self.pipelines.items() if name in pipeline.all_outputs())
        maker = next((known for known in makers if known != "__default__"), None)
        path = self.catalog[name]._describe().get("filepath") if maker else None
        *_, root = causes(error)
        if path is None or isinstance(root, ImportError | MemoryError):
            return None
        reason = "it is missing" if isinstance(root, FileNotFoundError) else str(root).partition("\n")[0]
        return MentallamError(
            f"{path} can't be read ({reason}): remove it and rebuild it with `kedro run --pipeline {maker}{self.env}`"
        )
