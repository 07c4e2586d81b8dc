"""Importing the package switches off what libraries would tell others: MLflow's reports, Kedro's traces of hooks."""

import logging
import os
import subprocess

import pandas as pd
import pytest
from kedro.framework.hooks.manager import _create_hook_manager

import mentallam  # noqa: F401  # what it does is tested


@pytest.mark.parametrize(("given", "expected"), [({}, "true"), ({"MLFLOW_DISABLE_TELEMETRY": "false"}, "false")])
def test_mlflow_reports_nothing_unless_the_user_wants_it(python: str, given: dict[str, str], expected: str) -> None:
    program = "import os, mentallam; print(os.environ['MLFLOW_DISABLE_TELEMETRY'])"
    kept = {name: value for name, value in os.environ.items() if name != "MLFLOW_DISABLE_TELEMETRY"}
    done = subprocess.run([python, "-c", program], env={**kept, **given}, capture_output=True, text=True)
    assert done.stdout.strip() == expected


def test_a_debug_log_does_not_show_what_a_node_takes(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("kedro", "kedro.framework"):  # a test that ran before may have configured the log of a session
        monkeypatch.setattr(logging.getLogger(name), "propagate", True)
        monkeypatch.setattr(logging.getLogger(name), "disabled", False)
    posts = pd.DataFrame({"post_id": ["p1"], "text": ["zanthoquell"]})
    with caplog.at_level(logging.DEBUG), caplog.at_level(logging.DEBUG, logger="kedro"):
        manager = _create_hook_manager()
        logging.getLogger("kedro.framework").debug("what Kedro says besides")
        manager.hook.before_node_run(
            node=None, catalog=None, inputs={"posts": posts}, is_async=False, run_id="1", session_id="1"
        )
    assert "what Kedro says besides" in caplog.text
    assert "zanthoquell" not in caplog.text
