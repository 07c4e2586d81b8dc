"""A batch in partitions, which several processes read, answer and write, and which end in the answers of one process.

What a row asks may have been asked by an earlier partition. So all partitions are looked through first, without the
model: each notes what it asks, as digests, and then the database with which a partition begins gets what earlier ones
ask of its posts. From there on a partition is a batch of its own, which goes on where it was killed.
"""

import json
import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from filelock import FileLock

from mentallam.config import InferenceConfig
from mentallam.files import replacing_file, writing
from mentallam.serving.batch import (
    ANSWERS_FILE,
    POSTS,
    PROGRESS,
    ROWS_PER_BLOCK,
    OutputOptions,
    Progress,
    Store,
    answer_all,
    blocks,
    convert,
    digest,
    read_block,
)
from mentallam.serving.posts import Choice
from mentallam.serving.predictor import Predictor
from mentallam.serving.sources import Source

_ASKED, _DONE = "asked.sqlite", "done.json"


@dataclass(frozen=True)
class Model:
    """What a process needs to load the model that answers.

    Attributes:
        checkpoints: See `Predictor.load`, as the others.
        base_models: Folder of the base weights.
        config: How predictions are made.
        own_criteria: Wording by id of criteria to ask in place of the model's.
    """

    checkpoints: Sequence[Path]
    base_models: Path
    config: InferenceConfig
    own_criteria: Mapping[str, str]

    def load(self) -> Predictor:
        """Load it."""
        return Predictor.load(self.checkpoints, self.base_models, self.config, self.own_criteria)


@dataclass(frozen=True)
class Described:
    """What the process that leads a batch knows of the model, which it does not load.

    Attributes:
        fingerprint: See `Predictor.fingerprint`.
        facts: See `Predictor.facts`.
        reference: See `Predictor.reference`.
        choice: The criteria that can be asked.
        trained: The ids of those whose wording the model was trained on.
    """

    fingerprint: Mapping[str, Any]
    facts: dict[str, Any]
    reference: Mapping[str, Any]
    choice: Choice
    trained: frozenset[str]

    @classmethod
    def of(cls, model: Model) -> "Described":
        """Load a model, describe it, and let it go."""
        predictor = model.load()
        trained = frozenset(name for name in predictor.choice.ids if predictor.is_trained(name))
        fingerprint = predictor.fingerprint(model.config)
        return cls(fingerprint, predictor.facts, dict(predictor.reference), predictor.choice, trained)

    def is_trained(self, criterion_id: str) -> bool:
        """Return whether the model was trained on the criterion's wording."""
        return criterion_id in self.trained


@dataclass(frozen=True)
class Partition:
    """A part of a batch: a file, or a run of row groups of a Parquet file.

    Attributes:
        number: Its place in the batch.
        source: Its rows.
        options: As for the whole batch.
        alone: Whether its file is the only one.
        folder: Where it is looked through, answered and written.
    """

    number: int
    source: Source
    options: OutputOptions = field(repr=False)
    alone: bool
    folder: Path

    @property
    def answers(self) -> Path:
        """The file of its answers, in the format of the batch."""
        return self.folder / f"part-{self.number:05}.{self.options.files.format}"

    def finished(self) -> Progress | None:
        """Return what it has counted, or None if it is not finished."""
        done = self.folder / _DONE
        return Progress.from_json(done.read_text(encoding="utf-8")) if done.exists() else None

    @property
    def is_looked_through(self) -> bool:
        """Whether what it asks is noted."""
        return (self.folder / _ASKED).exists()

    def look_through(self, choice: Choice) -> None:
        """Note which posts it asks, with which text and criteria, in the order of their first rows."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with replacing_file(self.folder / _ASKED) as unfinished, closing(sqlite3.connect(unfinished)) as database:
            database.create_function("both", 2, _both, deterministic=True)
            database.execute("CREATE TABLE asked (id BLOB, text BLOB, criteria TEXT, PRIMARY KEY (id, text))")
            for block in blocks(self.source, self.options, self.alone):
                for post in read_block(self.source, block, choice)[0]:
                    database.execute(
                        "INSERT INTO asked VALUES (?, ?, ?) "
                        "ON CONFLICT DO UPDATE SET criteria = both(criteria, excluded.criteria)",
                        (digest(post.post_id), digest(post.text), json.dumps(post.criteria)),
                    )
            database.commit()

    def answer(self, predictor: Predictor) -> None:
        """Answer its rows behind those that are done, and write its answers; nothing if it is finished.

        Raises:
            MentallamError: Its file can't be read, and is the only one; with `on_error=stop`, a row is bad; or the disk
                refuses.
        """
        # A process that is believed to be dead may still write.
        with writing(self.folder), FileLock(self.folder / "lock"):
            if self.finished():
                return
            with closing(Store(self.folder)) as store:
                answer_all(predictor, [self.source], self.options, store, self.alone, title=None)
                progress = store.progress
            written = self.folder / ANSWERS_FILE
            if progress.predictions:
                with replacing_file(self.answers) as unfinished:
                    convert(written, unfinished, self.options.files.format, self.options.explain)
            with replacing_file(self.folder / _DONE) as unfinished:
                unfinished.write_text(progress.to_json(), encoding="utf-8")
            written.unlink()


def divide(sources: Sequence[Source], options: OutputOptions, rows: int) -> list[Partition]:
    """Return the partitions of a batch, which together hold each row once, in the order of one process.

    Args:
        sources: The files.
        options: How the batch is answered.
        rows: From how many rows of a Parquet file on a partition ends, with the row group.
    """
    # Rows of a post are joined within a block, so no block may be divided.
    parts = [part for source in sources for part in source.divided(rows, ROWS_PER_BLOCK)]
    folder = options.files.attempt / "partitions"
    return [
        Partition(number, part, options, len(sources) == 1, folder / f"{number:05}")
        for number, part in enumerate(parts)
    ]


def settle(partitions: Sequence[Partition], attempt: Path) -> None:
    """Give each partition what earlier ones ask of its posts, as the database with which it begins.

    Args:
        partitions: All partitions of the batch, looked through.
        attempt: The folder of the batch's attempt.
    """
    with writing(attempt), closing(sqlite3.connect(attempt / "asked.sqlite")) as known:
        known.create_function("both", 2, _both, deterministic=True)
        known.execute("CREATE TABLE IF NOT EXISTS settled (number INTEGER PRIMARY KEY)")
        known.execute(f"CREATE TABLE IF NOT EXISTS {POSTS}")
        for partition in partitions:
            if not known.execute("SELECT 1 FROM settled WHERE number = ?", (partition.number,)).fetchone():
                _settle(partition, known)


def _settle(partition: Partition, known: sqlite3.Connection) -> None:
    known.execute("ATTACH ? AS part", (str(partition.folder / _ASKED),))
    # Ready in its place before it counts as settled, so that a kill in between does no harm.
    with replacing_file(partition.folder / PROGRESS) as unfinished:
        known.execute("ATTACH ? AS beginning", (str(unfinished),))
        known.execute(f"CREATE TABLE beginning.{POSTS}")
        known.execute("INSERT INTO beginning.posts SELECT * FROM main.posts WHERE id IN (SELECT id FROM part.asked)")
        known.commit()
        known.execute("DETACH beginning")
    # The first text of an id counts; rows with another one are refused, and ask nothing.
    known.execute(
        "INSERT INTO main.posts SELECT id, text, criteria FROM part.asked WHERE true ORDER BY rowid "
        "ON CONFLICT (id) DO UPDATE SET criteria = both(criteria, excluded.criteria) WHERE text = excluded.text"
    )
    known.execute("INSERT INTO settled VALUES (?)", (partition.number,))
    known.commit()
    known.execute("DETACH part")


def _both(before: str, asked: str) -> str:
    """Return two lists of criteria as one, each once; SQLite calls it."""
    return json.dumps([*dict.fromkeys((*json.loads(before), *json.loads(asked)))])
