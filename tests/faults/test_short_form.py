import os
import subprocess
from pathlib import Path

import pytest

from tests.samples import PROJECT


@pytest.mark.skipif(not hasattr(os, "fork"), reason="Windows can't fork")
def test_a_study_that_is_killed_three_times_equals_one_that_is_not(tmp_path: Path, python: str) -> None:
    done = subprocess.run(
        [python, "-m", "tests.faults.short_form", str(tmp_path)], cwd=PROJECT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-4000:]
