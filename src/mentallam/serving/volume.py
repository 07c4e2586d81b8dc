"""Predictions at volume: partitions of a batch on Ray Data, by actors that hold the model.

What passes through Ray is the number of a partition; posts are read, and answers written, where the actor is. So memory
stays the same, and no post lies in Ray's object store. Actors take the next partition when they have finished one.
"""

import logging
import os
import shutil
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mentallam.classifier.progress import progress_bar
from mentallam.cluster_options import ClusterOptions, start_ray
from mentallam.errors import MentallamError
from mentallam.files import replacing_file, replacing_folder
from mentallam.interruption import stop_if_requested
from mentallam.resumption import RECORD, begin
from mentallam.serving.batch import REJECTS_FILE, OutputOptions, Progress, nothing_answered, upload_answers
from mentallam.serving.partitions import Described, Model, Partition, divide, settle
from mentallam.serving.posts import Choice
from mentallam.serving.predictor import Predictor
from mentallam.serving.sources import Source

logger = logging.getLogger(__name__)

_MOST_BLOCKS = 1000  # of Ray Data, each of one partition or several


def predict_partitions(
    model: Model, sources: Sequence[Source], options: OutputOptions, cluster: ClusterOptions
) -> tuple[Progress, Described]:
    """Answer all posts of some files on Ray.

    The predictions are then a folder of one file per partition, in the order of one process, whose answers they are
    together. Finished partitions are kept if the run is interrupted, and those in work go on.

    Args:
        model: The model.
        sources: The files.
        options: Where and how the answers are written.
        cluster: Where.

    Returns:
        What was counted, and what answered.

    Raises:
        MentallamError: As `batch.predict_files`; or Ray does not start, or a partition was lost too often.
        RunStoppedError: A signal has stopped the run; the same command goes on.
    """
    if any(source.is_standard_input for source in sources):
        raise MentallamError("cluster.backend=ray needs files: leave it out for standard input")
    attempt = options.files.attempt
    with _Ray(cluster).started() as ray:
        described = ray.described(model)
        files = [[source.name, *source.state, dict(source.headings)] for source in sources]
        decides = {
            **described.fingerprint,
            "explain": options.explain,
            "files": files,
            "format": options.files.format,
            "partition_rows": cluster.partition_rows,
        }
        begun = begin(attempt, decides)
        if begun.change and not begun.goes_on:
            logger.info("the predictions begin anew: %s", begun.change)
        partitions = divide(sources, options, cluster.partition_rows)
        kept = {partition.number for partition in partitions if partition.finished()}
        if kept:
            logger.info("%d of %d partitions are answered, and kept", len(kept), len(partitions))
        ray.run(partitions, _LookingThrough, (described.choice,), "look through", lambda each: each.is_looked_through)
        settle(partitions, attempt)
        began = time.monotonic()
        ray.run(partitions, _Answering, (model,), "predict", lambda each: each.finished() is not None)
        took = time.monotonic() - began
    progress = _counted(partitions, kept, took, ray.actors)
    progress.files = len(sources)
    _gather_rejects(partitions, attempt)
    if not progress.tally.pairs:
        raise MentallamError(nothing_answered(sources, attempt / REJECTS_FILE, progress))
    _publish(partitions, options, progress)
    (attempt / RECORD).unlink()  # what is left without it is no attempt that could go on
    shutil.rmtree(attempt)
    return progress, described


def _counted(partitions: Sequence[Partition], kept: Set[int], took: float, actors: int) -> Progress:
    """Return what all partitions have counted.

    Their time is that of this run. For those that an earlier run has finished it is what they would have taken now.
    """
    progress, busy = Progress(), 0.0
    for partition in partitions:
        counted = partition.finished() or Progress()
        progress.add(counted)
        busy += 0.0 if partition.number in kept else counted.seconds
    progress.seconds *= took / busy if busy else 1 / actors
    return progress


def _gather_rejects(partitions: Sequence[Partition], attempt: Path) -> None:
    with replacing_file(attempt / REJECTS_FILE) as unfinished, unfinished.open("wb") as gathered:
        for partition in partitions:
            with (partition.folder / REJECTS_FILE).open("rb") as part:
                shutil.copyfileobj(part, gathered)


def _publish(partitions: Sequence[Partition], options: OutputOptions, progress: Progress) -> None:
    """Put the finished files in their place; the partitions keep theirs, so that a kill in between does no harm."""
    files = options.files
    if files.predictions.is_file():  # of a batch that one process has answered
        files.predictions.unlink()
    with replacing_folder(files.predictions) as unfinished:
        for partition in partitions:
            if partition.answers.exists():
                os.link(partition.answers, unfinished / partition.answers.name)
    if progress.rejects:
        with replacing_file(files.rejects) as unfinished:
            shutil.copyfile(files.attempt / REJECTS_FILE, unfinished)
    else:
        files.rejects.unlink(missing_ok=True)
    upload_answers(files, options.storage)


class _LookingThrough:
    """What a worker does with a partition before all partitions are settled."""

    def __init__(self, choice: Choice) -> None:
        self._choice = choice

    def work(self, partition: Partition) -> None:
        partition.look_through(self._choice)


class _Answering:
    """What an actor does with a partition; it loads the model with the first one, and holds it."""

    _predictor: Predictor | None = None

    def __init__(self, model: Model) -> None:
        self._model = model

    def work(self, partition: Partition) -> None:
        self._predictor = self._predictor or self._model.load()
        partition.answer(self._predictor)


class _Actor:
    """An actor of Ray Data: a batch of it is the number of a partition.

    No exception leaves it: Ray would quote what a library says, and the class of one may be unknown to the run.
    """

    def __init__(self, folder: Path, partitions: Mapping[int, Partition], task: Callable[..., Any], given: Any) -> None:
        os.chdir(folder)
        self._partitions, self._task = partitions, task(*given)

    def __call__(self, batch: Mapping[str, Any]) -> dict[str, list[Any]]:
        number, sentence, trace = int(batch["number"][0]), "", ""
        try:
            self._task.work(self._partitions[number])
        except MentallamError as error:
            sentence = error.message
        except Exception:
            trace = traceback.format_exc()
        return {"number": [number], "sentence": [sentence], "traceback": [trace]}


class _Ray:
    """A Ray cluster by its options, as far as a batch needs one."""

    def __init__(self, options: ClusterOptions) -> None:
        self._options = options
        self._threads = options.threads or 1
        self.actors = options.workers or 1

    @contextmanager
    def started(self) -> Iterator["_Ray"]:
        """Start Ray, or connect to it, and give back what was started."""
        self._ray, own = start_ray(self._options)
        cores = int(self._ray.cluster_resources().get("CPU", 1))
        self.actors = self._options.workers or max(1, cores // self._threads)
        try:
            yield self
        finally:
            if own:
                self._ray.shutdown()

    def described(self, model: Model) -> Described:
        """Return what the leading process must know of the model, from a process that has loaded it.

        Raises:
            MentallamError: The model can't be loaded.
        """
        task = self._ray.remote(**self._resources(), max_retries=self._options.retries)(_describe)
        found, sentence = self._ray.get(task.remote(Path.cwd(), model))
        if found is None:
            raise MentallamError(sentence)
        return found  # type: ignore[no-any-return]

    def run(
        self,
        partitions: Sequence[Partition],
        task: Callable[..., Any],
        given: tuple[Any, ...],
        title: str,
        is_done: Callable[[Partition], bool],
    ) -> None:
        """Do something with each partition, and show how far it has come.

        Args:
            partitions: All partitions.
            task: A class, constructed once per actor, whose method `work` takes a partition.
            given: Its arguments.
            title: What it does.
            is_done: Tells the partitions that need it no more.

        Raises:
            MentallamError: A partition has failed with a sentence, or was lost too often.
            RuntimeError: A partition has failed otherwise.
        """
        left = {partition.number: partition for partition in partitions if not is_done(partition)}
        if not left:
            return
        with progress_bar(len(partitions), title, "partitions", len(partitions) - len(left)) as bar:
            for row in self._rows(left, task, given):
                if row["sentence"]:
                    raise MentallamError(row["sentence"])
                if row["traceback"]:
                    raise RuntimeError(f"partition {row['number']}\n{row['traceback']}")
                bar.update()
                stop_if_requested()

    def _rows(
        self, left: Mapping[int, Partition], task: Callable[..., Any], given: tuple[Any, ...]
    ) -> Iterator[Mapping[str, Any]]:
        from ray import data

        data.DataContext.get_current().enable_progress_bars = False
        logging.getLogger("ray.data").setLevel(logging.WARNING)
        numbers, retries = [{"number": number} for number in left], self._options.retries
        actors = min(self.actors, len(numbers))
        rows = data.from_items(numbers, override_num_blocks=min(len(numbers), _MOST_BLOCKS)).map_batches(
            _Actor,
            fn_constructor_args=(Path.cwd(), dict(left), task, given),
            batch_size=1,
            # A pool that may not begin smaller than the cluster waits for ever if it does not fit (ray issue 44687).
            compute=data.ActorPoolStrategy(min_size=1, max_size=actors, initial_size=actors),
            ray_remote_args_fn=lambda: {"max_restarts": retries * len(numbers), "max_task_retries": retries},
            **self._resources(),
        )
        try:
            yield from rows.iter_rows()
        except self._ray.exceptions.RayError as error:
            raise MentallamError(
                f"a partition was lost too often ({type(error).__name__}): run the same command again to go on, with "
                f"fewer cluster.workers or more cluster.memory_gb if memory is short"
            ) from None

    def _resources(self) -> dict[str, Any]:
        options = self._options
        return {
            "num_cpus": self._threads,
            **({"num_gpus": options.gpus_per_fold} if options.gpus_per_fold else {}),
            **({"memory": int(options.memory_gb * 2**30)} if options.memory_gb else {}),
            "runtime_env": {"env_vars": {"OMP_NUM_THREADS": str(self._threads), **options.variables}},
        }


def _describe(folder: Path, model: Model) -> tuple[Described | None, str]:
    os.chdir(folder)
    try:
        return Described.of(model), ""
    except MentallamError as error:
        return None, error.message
