import threading

import pytest
from kedro.runner import ParallelRunner, SequentialRunner, ThreadRunner

from mentallam.errors import MentallamError
from mentallam.one_training import refuse_runner, training_alone
from mentallam.runner import FoldRunner

TRAINS = {"cv_run", "fold_3_checkpoint", "fold_3_run"}


def name(runner: object) -> dict[str, str]:
    """Return the runner as Kedro's session records it."""
    return {"runner": getattr(runner, "__name__", str(runner))}


@pytest.mark.parametrize("runner", [ThreadRunner(), ThreadRunner(is_async=False), ThreadRunner, ParallelRunner()])
def test_folds_are_not_trained_by_kedros_parallel_runners(runner: object) -> None:
    with pytest.raises(MentallamError, match=r"^(Thread|Parallel)Runner would .*cluster\.backend=process$"):
        refuse_runner(name(runner), TRAINS)
    refuse_runner(name(runner), {"posts", "fold_3_predictions"})  # they are fine where nothing is trained


@pytest.mark.parametrize("runner", [None, SequentialRunner(is_async=True), FoldRunner(backend="process")])
def test_other_runners_may_train(runner: object) -> None:
    refuse_runner(name(runner), TRAINS)


def test_a_second_training_in_the_process_is_refused_and_the_next_one_is_not() -> None:
    """It is refused however the threads are started, for example by the user's runner."""
    refused: list[MentallamError] = []

    def train() -> None:
        try:
            with training_alone():
                pass
        except MentallamError as error:
            refused.append(error)

    with pytest.raises(ZeroDivisionError), training_alone():
        thread = threading.Thread(target=train)
        thread.start()
        thread.join()
        assert "another fold is trained in this process at the same time" in str(refused)
        raise ZeroDivisionError
    train()
    assert len(refused) == 1
