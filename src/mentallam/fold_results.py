"""What a finished fold leaves in its MLflow run, so that no later attempt has to train it again.

The run's artifacts hold the checkpoint and, below `fold/`, tables and figures of the fold; both folders have checksums.
None holds the text of a post.
"""

import json
import logging
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from mentallam import tracking
from mentallam.checksums import verify_checksums, write_checksums
from mentallam.errors import MentallamError

logger = logging.getLogger(__name__)

_FOLDER = "fold"


@dataclass(frozen=True)
class FoldResults:
    """The results of a fold.

    Attributes:
        checkpoint: The folder of the checkpoint.
        dev_predictions: The predictions that its decision was fitted on.
        history: Columns fold, step, metric, value.
        predictions: The fold's part of the out-of-fold table.
        result: How it was trained, and its metrics on the held-out pairs.
    """

    checkpoint: Path
    dev_predictions: pd.DataFrame
    history: pd.DataFrame
    predictions: pd.DataFrame
    result: dict[str, Any]

    def outputs(self) -> tuple[Path, pd.DataFrame, pd.DataFrame, pd.DataFrame, dict[str, Any]]:
        """Return the results in the order of the attributes, as a node returns them."""
        return self.checkpoint, self.dev_predictions, self.history, self.predictions, self.result


_TABLES = ("dev_predictions", "history", "predictions")


def save_fold_results(run: tracking.Run, results: FoldResults) -> None:
    """Save a fold's results to its run."""
    run.log_folder(results.checkpoint, tracking.CHECKPOINT)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for table in _TABLES:
            getattr(results, table).to_parquet(folder / f"{table}.parquet", index=False)
        (folder / "result.json").write_text(json.dumps(results.result, indent=2), encoding="utf-8")
        write_checksums(folder)
        run.log_folder(folder, _FOLDER)


def load_fold_results(run_id: str, copies: Path) -> FoldResults | None:
    """Return the results of a finished fold; None, with a warning, if an artifact is missing or damaged.

    Args:
        run_id: The fold's run.
        copies: The folder that a checkpoint is copied into if the artifacts are not on this machine.
    """
    with tempfile.TemporaryDirectory() as name:
        try:
            folder = tracking.download_artifact(run_id, _FOLDER, Path(name))
            checkpoint = tracking.download_checkpoint(run_id, copies)
            for part in (folder, checkpoint):
                verify_checksums(part, "it is trained anew")
        except MentallamError as error:
            logger.warning("the results of run %s are not kept: %s", run_id, error.message)
            return None
        except OSError as error:
            logger.warning("the results of run %s are not kept (%s): it is trained anew", run_id, type(error).__name__)
            return None
        tables = {table: pd.read_parquet(folder / f"{table}.parquet") for table in _TABLES}
        result = json.loads((folder / "result.json").read_text(encoding="utf-8"))
        return FoldResults(checkpoint, result=result, **tables)
