from typing import Any

import pandas as pd
import pytest

from mentallam.config import Config
from mentallam.reports.report import render_report
from tests.unit.predictions import ALONE


@pytest.fixture
def report(
    summary: dict[str, Any],
    uncertainty: dict[str, Any],
    data_statistics: dict[str, Any],
    training_config: Config,
    criteria: pd.DataFrame,
    checks: dict[str, Any],
) -> str:
    """Return the report of the fixtures."""
    return render_report(
        summary, uncertainty, data_statistics, training_config, criteria, checks, "ensemble", None, ALONE
    )
