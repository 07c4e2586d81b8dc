"""The short form of the fault campaign (`make test-faults`): one study is killed three times, another not at all."""

import os
import signal
import time
from pathlib import Path

import pytest

from tests.faults.forked import Study, attempt, make_pipelines, new_study, prepare, start, wait
from tests.faults.injected import at_call
from tests.faults.oracle import difference, facts, statuses

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="Windows can't fork")

PLACES = (
    ("mentallam.tracking:open_cv_run", 1),
    ("mentallam.classifier.training:save_state", 3),
    ("mentallam.pipelines.cv_training.nodes:save_fold_results", 1),
)


def test_a_study_that_is_killed_three_times_equals_one_that_is_not(tmp_path: Path) -> None:
    prepare(tmp_path)
    whole, killed = (new_study(tmp_path / name, tmp_path) for name in ("whole", "killed"))

    def command(study: Study) -> list[str]:
        return study.command("--pipelines", "cv_training", without=("uncertainty",))

    began = time.monotonic()
    beside = start(whole, make_pipelines, command=command(whole))
    for place, n in PLACES:
        done = attempt(killed, make_pipelines, at_call(place, n, after=True), command=command(killed))
        assert done.exit_code == 128 + signal.SIGKILL, done.output[-3000:]
        assert statuses(killed)["RUNNING"]
    done = attempt(killed, make_pipelines, command=command(killed))
    assert done.exit_code == 0, done.output[-3000:]
    done = wait(whole, beside, began)
    assert done.exit_code == 0, done.output[-3000:]
    assert difference(facts(whole), killed) is None
