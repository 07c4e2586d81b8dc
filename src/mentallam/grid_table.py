"""The table of a grid, once its runs are reported: `python -m mentallam.grid_table`, which `mentallam seeds` starts.

Standard input is JSON: `study`, `to` (the folder to write) and `runs`: configuration to seed to the run's data folder,
the first seed's first.
"""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from statistics import mean
from typing import Any

from mentallam.errors import MentallamError
from mentallam.evaluation.configurations import compare_configurations
from mentallam.evaluation.oof import read_tables
from mentallam.evaluation.resampling import UncertaintyOptions
from mentallam.files import replacing_file, writing
from mentallam.repeated_runs import OUT_OF_FOLD
from mentallam.reports.grid_report import grid_figure, render_grid
from mentallam.reports.report_page import render_report_page


def main() -> None:
    """Write the table of the runs on standard input, and print where it lies."""
    given = json.load(sys.stdin)
    try:
        print(write_table(given["study"], given["runs"], Path(given["to"])))
    except MentallamError as error:
        error.show()
        sys.exit(error.exit_code)


def write_table(study: str, runs: Mapping[str, Mapping[str, str]], folder: Path) -> Path:
    """Write grid.json, grid.md and grid.html; return the place of the page.

    Args:
        study: The tag of the runs.
        runs: Configuration to seed to the run's data folder.
        folder: The folder to write.

    Raises:
        MentallamError: A table is missing or is of other pairs, or the folder can't be written.
    """
    tables = {
        configuration: {
            seed: read_tables(str(Path(data) / OUT_OF_FOLD)).popitem()[1] for seed, data in of_seeds.items()
        }
        for configuration, of_seeds in runs.items()
    }
    reported = {configuration: Path(next(iter(of_seeds.values()))) for configuration, of_seeds in runs.items()}
    first = next(iter(reported.values())) / "08_reporting"
    summary, method = _read(first / "cv_summary.json"), _read(first / "uncertainty.json")["method"]
    options = UncertaintyOptions.model_validate({name: method[name] for name in UncertaintyOptions.model_fields})
    rows = compare_configurations(tables, options)
    grid = {
        "study": study,
        "seeds": list(next(iter(runs.values()))),
        "confidence": options.confidence,
        **{name: summary[name] for name in ("synthetic", "data_hash")},
        "configurations": [
            {
                **row,
                "seconds": mean(_seconds(Path(data)) for data in runs[row["configuration"]].values()),
                "report": str(reported[row["configuration"]] / "08_reporting" / "report.html"),
            }
            for row in rows
        ],
    }
    report = render_grid(grid)
    page = render_report_page(report, {"f1": grid_figure(grid)}, grid["synthetic"])
    contents = {"json": json.dumps(grid, indent=2, allow_nan=False), "md": report, "html": page}
    for ending, content in contents.items():
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
        with replacing_file(folder / f"grid.{ending}") as unfinished:
            unfinished.write_text(content, encoding="utf-8")
    return folder / "grid.html"


def _seconds(data: Path) -> float:
    outcome = _read(data / "07_model_output" / "cv_outcome.json")
    return sum(float(fold["seconds"]) for fold in outcome["folds"])


def _read(file: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return content


if __name__ == "__main__":
    main()
