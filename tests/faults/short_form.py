"""The short form of the fault campaign (`make test-faults`): one study is killed three times, another not at all.

A process of its own: a lock that a thread of pytest's holds would stay locked in the attempts, which are forked.
"""

import signal
import sys
import time
from pathlib import Path

from tests.faults.forked import Study, attempt, make_pipelines, new_study, prepare, start, wait
from tests.faults.injected import at_call
from tests.faults.oracle import difference, facts, statuses

PLACES = (
    ("mentallam.tracking:open_cv_run", 1),
    ("mentallam.classifier.training:save_state", 3),
    ("mentallam.pipelines.cv_training.nodes:save_fold_results", 1),
)


def main(folder: Path) -> None:
    """Make both studies, and compare them."""
    make_pipelines()
    prepare(folder)
    whole, killed = (new_study(folder / name, folder) for name in ("whole", "killed"))

    def command(study: Study) -> list[str]:
        return study.command("--pipelines", "cv_training", without=("uncertainty",))

    began = time.monotonic()
    beside = start(whole, command=command(whole))
    for place, n in PLACES:
        done = attempt(killed, at_call(place, n, after=True), command=command(killed))
        assert done.exit_code == 128 + signal.SIGKILL, done.output[-3000:]
        assert statuses(killed)["RUNNING"]
    done = attempt(killed, command=command(killed))
    assert done.exit_code == 0, done.output[-3000:]
    done = wait(whole, beside, began)
    assert done.exit_code == 0, done.output[-3000:]
    assert difference(facts(whole), killed) is None, difference(facts(whole), killed)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
