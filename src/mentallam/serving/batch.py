"""Predictions on any number of posts: in constant memory, written as they are made, going on after an interruption.

Rows are taken in blocks. After each block its answers and rejects are forced to the disk, and then the place that was
reached is noted in a database beside them. A run that was killed cuts the files back to that place and goes on behind
it. Blocks always hold the same rows, so the result is the one of a run that was not interrupted.
"""

import json
import logging
import os
import shutil
import sqlite3
import time
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass, field, replace
from hashlib import blake2b
from itertools import islice
from pathlib import Path
from typing import IO, Any, Literal

import pyarrow as pa
import pyarrow.json
import pyarrow.parquet as pq

from mentallam.batch_files import BatchFiles, Format
from mentallam.classifier.progress import progress_bar
from mentallam.errors import MentallamError
from mentallam.evaluation.tallies import Tally
from mentallam.files import replacing_file, writing
from mentallam.interruption import stop_if_requested
from mentallam.resumption import RECORD, begin
from mentallam.serving.output_fields import ANSWERS, UNTRAINED, Answers, fields_with
from mentallam.serving.posts import Choice, Post, RowError, join_rows, read_post, two_texts
from mentallam.serving.predictor import Predictor, Question
from mentallam.serving.sources import Row, Source
from mentallam.spreadsheets import marked
from mentallam.storage import Options, StorageError, remove, upload

logger = logging.getLogger(__name__)

ANSWERS_FILE, REJECTS_FILE, PROGRESS = "predictions.jsonl", "rejects.jsonl", "progress.sqlite"
"""The files in an attempt's folder."""
POSTS = "posts (id BLOB PRIMARY KEY, text BLOB, criteria TEXT) WITHOUT ROWID"
"""The table of the posts that were asked: digests of id and text, and the ids of criteria as JSON."""
ROWS_PER_BLOCK = 64
TIMES = tuple(digits * 10.0**power for power in range(-3, 2) for digits in (1, 1.5, 2, 3, 5, 7))
"""Upper ends of the bins of seconds per post; one more bin holds all that took longer."""
_EVIDENCE = pa.struct([("sentence", pa.int64()), ("start", pa.int64()), ("end", pa.int64()), ("drop", pa.float64())])
_TYPES = {"string": pa.string(), "double": pa.float64(), "boolean": pa.bool_(), "array": pa.list_(_EVIDENCE)}
_KIB = 1024


OnError = Literal["reject", "stop"]


@dataclass(frozen=True)
class OutputOptions:
    """Where and how answers are written.

    Attributes:
        files: Where the answers and rejects go.
        on_error: What a bad row does: `reject` writes it to rejects.jsonl and goes on, `stop` ends the run.
        explain: Whether each answer has the sentences that carry a yes.
        storage: What the store needs that the files go to, if they go to one.
    """

    files: BatchFiles
    on_error: OnError = "reject"
    explain: bool = False
    storage: Options = field(default_factory=dict, repr=False)


@dataclass
class Progress:
    """How far a batch has come, and what it has counted.

    Attributes:
        files: How many files there are.
        source: The position of the file that is read.
        row: Rows of it that are done, in the order in which it yields them.
        rows: Rows of all files that are done.
        rejected: Those that could not be answered.
        repeated: Those that ask what an earlier row has asked.
        untrained: Pairs whose wording the model was not trained on.
        predictions: Bytes of the answers.
        rejects: Bytes of the rejects.
        seconds: The time it took, without loading the model.
        times: Posts by seconds per post, the mean of their block, in the bins of `TIMES`.
        tally: Counts of posts and answers.
    """

    files: int = 0
    source: int = 0
    row: int = 0
    rows: int = 0
    rejected: int = 0
    repeated: int = 0
    untrained: int = 0
    predictions: int = 0
    rejects: int = 0
    seconds: float = 0.0
    times: list[int] = field(default_factory=lambda: [0] * (len(TIMES) + 1))
    tally: Tally = field(default_factory=Tally)

    def add_time(self, seconds: float, posts: int) -> None:
        """Add the time that a block took.

        Args:
            seconds: The time.
            posts: The posts of the block that were answered.
        """
        self.seconds += seconds
        if posts:
            self.times[bisect_left(TIMES, seconds / posts)] += posts

    def add(self, other: "Progress") -> None:
        """Add what was counted in another part of the batch; where that part stands has no meaning here."""
        for name in ("rows", "rejected", "repeated", "untrained", "rejects", "seconds"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.times = [sum(both) for both in zip(self.times, other.times, strict=True)]
        self.tally.add(other.tally)

    def to_json(self) -> str:
        """Return it for saving."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, saved: str) -> "Progress":
        """Restore what `to_json` returned."""
        plain = json.loads(saved)
        return cls(**{**plain, "tally": Tally.from_dict(plain["tally"])})


def predict_files(
    predictor: Predictor, sources: Sequence[Source], options: OutputOptions, fingerprint: Mapping[str, Any]
) -> Progress:
    """Answer all posts of some files.

    Predictions and, if a row was bad, rejects are then in their places. While the run lasts they lie in the folder
    `BatchFiles.attempt`.

    Args:
        predictor: The predictor.
        sources: The files.
        options: Where and how the answers are written.
        fingerprint: What decides the answers, beside the files; plain values. An interrupted run with the same one and
            unchanged files goes on.

    Returns:
        What was counted.

    Raises:
        MentallamError: A file can't be read, the disk refuses, no post could be answered or, with `on_error=stop`, a
            row is bad.
        RunStoppedError: A signal has stopped the run; the same command goes on.
    """
    attempt = options.files.attempt
    files = [[source.name, *source.state, dict(source.headings)] for source in sources]
    decides = {**fingerprint, "explain": options.explain, "files": files}
    begun = begin(attempt, decides, fresh=any(s.is_standard_input for s in sources))
    if begun.change and not begun.goes_on:
        logger.info("the predictions begin anew: %s", begun.change)
    with writing(options.files.folder), closing(Store(attempt)) as store:
        if store.progress.rows:
            logger.info("the predictions go on behind %d rows", store.progress.rows)
        answer_all(predictor, sources, options, store, alone=len(sources) == 1)
        progress = store.progress
        progress.files = len(sources)
        if not progress.tally.pairs:
            raise MentallamError(nothing_answered(sources, attempt / REJECTS_FILE, progress))
        _publish(attempt, options, progress)
    (attempt / RECORD).unlink()  # what is left without it is no attempt that could go on
    shutil.rmtree(attempt)
    return progress


def answer_all(
    predictor: Predictor,
    sources: Sequence[Source],
    options: OutputOptions,
    store: "Store",
    alone: bool,
    title: str | None = "predict",
) -> None:
    """Answer the posts of some files into the files of an attempt, block by block, behind those that are done.

    Args:
        predictor: The predictor.
        sources: The files.
        options: What a bad row does, and whether answers are explained.
        store: The attempt.
        alone: Whether a file that can't be read ends the run, since there is no other.
        title: Title of the progress bar; None shows none.

    Raises:
        MentallamError: The only file can't be read or, with `on_error=stop`, a row is bad.
        RunStoppedError: A signal has stopped the run.
    """
    sizes = [source.state[0] for source in sources]
    total = None if any(source.is_standard_input for source in sources) else sum(sizes) // _KIB
    with progress_bar(total, title, "KiB") as bar:
        for position in range(store.progress.source, len(sources)):
            source = sources[position]
            before = sum(sizes[:position])
            done = store.progress.row if position == store.progress.source else 0
            for block in islice(blocks(source, options, alone), -(-done // ROWS_PER_BLOCK), None):
                progress = store.progress
                began, posts_before = time.monotonic(), progress.tally.posts
                _answer_block(predictor, source, block, options, store)
                progress.source, progress.row = position, done + len(block)
                done = progress.row
                progress.add_time(time.monotonic() - began, progress.tally.posts - posts_before)
                store.commit()
                bar.set_postfix({"posts": progress.tally.posts, "posts/s": _rate(progress)}, refresh=False)
                bar.update((before + source.bytes_read) // _KIB - bar.n)
                stop_if_requested()


def blocks(source: Source, options: OutputOptions, alone: bool) -> Iterator[list[Row]]:
    """Yield the rows of a file in the blocks that are answered together; see `answer_all`."""
    rows = _rows(source, options, alone)
    while block := list(islice(rows, ROWS_PER_BLOCK)):
        yield block


def read_block(
    source: Source, block: Sequence[Row], choice: Choice
) -> tuple[list[Post], dict[str, list[int]], dict[int, RowError]]:
    """Read the posts of a block.

    Returns:
        The posts, each with all criteria that its rows ask; the rows of each by its id; and the rows that are refused.
    """
    posts: dict[int, Post] = {}
    refused: dict[int, RowError] = {}
    for row in block:
        try:
            if row.values is None:
                raise RowError(row.reason)
            post = read_post(row.values, f"{source.label}:{row.number}".lstrip(":"))
            posts[row.number] = choice.resolve(post)
        except RowError as error:
            refused[row.number] = error
    joined, contradicting = join_rows(posts)
    rows_of: dict[str, list[int]] = {}
    for number, post in posts.items():
        if number not in contradicting:
            rows_of.setdefault(post.post_id, []).append(number)
    return joined, rows_of, refused | contradicting


def _rows(source: Source, options: OutputOptions, alone: bool) -> Iterator[Row]:
    """Yield the rows of a file; where others follow, a file that can't be read is a reject like a bad row."""
    try:
        yield from source.rows()
    except StorageError:
        raise
    except MentallamError as error:
        if alone or options.on_error == "stop":
            raise
        yield Row(0, None, error.message)


def _rate(progress: Progress) -> str:
    return f"{progress.tally.posts / max(progress.seconds, 1e-9):.3g}"


def _answer_block(
    predictor: Predictor,
    source: Source,
    block: Sequence[Row],
    options: OutputOptions,
    store: "Store",
) -> None:
    """Answer the rows of a block, and write answers and rejects."""
    joined, rows_of, refused = read_block(source, block, predictor.choice)
    questions: list[Question] = []
    for post in joined:
        try:
            if (left := store.unasked(post)) is None:
                store.progress.repeated += len(rows_of[post.post_id])
                continue
            questions += predictor.prepare(left)
        except RowError as error:
            refused |= dict.fromkeys(rows_of[post.post_id], error)
    for number in sorted(refused):
        if options.on_error == "stop":
            raise MentallamError(f"{source.name}, row {number}: {refused[number].reason}")
        store.write_reject({"file": source.name, "row": number, "reason": refused[number].reason})
    store.progress.rows += len(block)
    store.progress.rejected += len(refused)
    if questions:
        answers = predictor.answer(questions, explain=options.explain)
        store.write_answers(answers)
        _count(store.progress, predictor, questions, answers)


def _count(progress: Progress, predictor: Predictor, questions: Sequence[Question], answers: Answers) -> None:
    # A post with criteria of both wordings has two questions.
    lengths = {question.example.post_id: predictor.post_tokens(question) for question in questions}
    fertilities = {question.example.post_id: question.example.fertility for question in questions}
    truncated = {question.example.post_id for question in questions if question.example.truncated}
    progress.tally.add_posts(lengths.values(), len(truncated), fertilities.values())
    matches = [label == ANSWERS[1] for label in answers["label"]]
    progress.tally.add_pairs(answers["criterion_id"], answers["probability"], matches)
    progress.untrained += answers["wording"].count(UNTRAINED)


class Store:
    """The files of an attempt: answers, rejects, and a database with the progress and the posts that were asked.

    Args:
        folder: The attempt's folder.
    """

    def __init__(self, folder: Path) -> None:
        self._resources = ExitStack()
        try:
            self._database = self._resources.enter_context(closing(sqlite3.connect(folder / PROGRESS)))
            self._database.execute("CREATE TABLE IF NOT EXISTS progress (only_row INTEGER PRIMARY KEY, content TEXT)")
            self._database.execute(f"CREATE TABLE IF NOT EXISTS {POSTS}")
            saved = self._database.execute("SELECT content FROM progress").fetchone()
            self.progress = Progress.from_json(saved[0]) if saved else Progress()
            self._answers = self._resources.enter_context(_cut_back(folder / ANSWERS_FILE, self.progress.predictions))
            self._rejects = self._resources.enter_context(_cut_back(folder / REJECTS_FILE, self.progress.rejects))
        except sqlite3.DatabaseError:
            self._resources.close()
            raise MentallamError(f"{folder} is damaged: remove it, and run the same command again") from None
        except BaseException:
            self._resources.close()
            raise

    def close(self) -> None:
        """Close files and database."""
        self._resources.close()

    def unasked(self, post: Post) -> Post | None:
        """Return the post with those of its criteria that no earlier block has asked of it, or None if there are none.

        Args:
            post: A post whose criteria are named by their ids.

        Raises:
            RowError: An earlier block had another text of that id.
        """
        key, text, asked = digest(post.post_id), digest(post.text), post.criteria or ()
        found = self._database.execute("SELECT text, criteria FROM posts WHERE id = ?", (key,)).fetchone()
        if found is not None and found[0] != text:
            raise two_texts(post.post_id)
        before = [] if found is None else json.loads(found[1])
        left = tuple(name for name in asked if name not in before)
        self._database.execute(
            "INSERT OR REPLACE INTO posts VALUES (?, ?, ?)", (key, text, json.dumps([*before, *left]))
        )
        return replace(post, criteria=left) if left else None

    def write_answers(self, answers: Answers) -> None:
        """Append answers, one JSON object per line."""
        rows = zip(*answers.values(), strict=True)
        self.progress.predictions += _append(self._answers, [dict(zip(answers, row, strict=True)) for row in rows])

    def write_reject(self, reject: Mapping[str, Any]) -> None:
        """Append a reject."""
        self.progress.rejects += _append(self._rejects, [reject])

    def commit(self) -> None:
        """Force what was written to the disk, then note the progress."""
        for file in (self._answers, self._rejects):
            file.flush()
            os.fsync(file.fileno())
        self._database.execute("INSERT OR REPLACE INTO progress VALUES (1, ?)", (self.progress.to_json(),))
        self._database.commit()


def _cut_back(path: Path, size: int) -> IO[bytes]:
    """Open a file for appending behind its first bytes; what an interrupted block has written after them is lost."""
    file = path.open("ab")
    if file.tell() < size:
        file.close()
        raise MentallamError(f"{path} is shorter than it was: remove its folder, and run the same command again")
    file.truncate(size)
    return file


def _append(file: IO[bytes], rows: Sequence[Mapping[str, Any]]) -> int:
    lines = "".join(f"{json.dumps(row, ensure_ascii=False)}\n" for row in rows).encode()
    file.write(lines)
    return len(lines)


def digest(value: str) -> bytes:
    """Return what a database holds in place of an id or a text."""
    return blake2b(value.encode(), digest_size=16).digest()


def _publish(attempt: Path, options: OutputOptions, progress: Progress) -> None:
    """Put the finished files in their place, so that it makes no difference if the process is killed in between."""
    answers, files = attempt / ANSWERS_FILE, options.files
    if files.predictions.is_dir():  # of a batch that was answered in partitions
        shutil.rmtree(files.predictions)
    with replacing_file(files.predictions) as unfinished:
        convert(answers, unfinished, files.format, options.explain)
    if progress.rejects:
        with replacing_file(files.rejects) as unfinished:
            shutil.copyfile(attempt / REJECTS_FILE, unfinished)
    else:
        files.rejects.unlink(missing_ok=True)
    upload_answers(files, options.storage)


def upload_answers(files: BatchFiles, storage: Options) -> None:
    """Put the finished files in a store, if they go to one; a run that is interrupted here does it again."""
    if not files.url:
        return
    upload(files.predictions, files.place(files.predictions), storage)
    if files.rejects.exists():
        upload(files.rejects, files.place(files.rejects), storage)
    else:
        remove(files.place(files.rejects), storage)


def convert(answers: Path, target: Path, to: Format, explain: bool) -> None:
    """Write answers in JSON Lines in another format, block by block."""
    if to == "jsonl":
        shutil.copyfile(answers, target)
        return
    schema = pa.schema([(field.name, _TYPES[field.type]) for field in fields_with(explain)])
    options = pyarrow.json.ParseOptions(explicit_schema=schema, unexpected_field_behavior="error")
    with pyarrow.json.open_json(answers, parse_options=options) as reader, ExitStack() as stack:
        if to == "csv":
            file = stack.enter_context(target.open("w", encoding="utf-8", newline=""))
            for number, batch in enumerate(reader):
                marked(batch.to_pandas()).to_csv(file, index=False, header=number == 0)
            return
        writer = stack.enter_context(pq.ParquetWriter(target, schema, write_page_checksum=True))
        for batch in reader:
            writer.write_batch(batch)


def nothing_answered(sources: Sequence[Source], rejects: Path, progress: Progress) -> str:
    """Return the sentence for a batch without an answer, with the first reject."""
    names = sources[0].name if len(sources) == 1 else f"{sources[0].name} and {len(sources) - 1} more"
    if not progress.rejected:
        return f"{names} is empty; it needs at least one post"
    with rejects.open(encoding="utf-8") as file:
        first = json.loads(file.readline())
    return f"{first['file']}, row {first['row']}: {first['reason']} (none of {progress.rows} rows could be answered)"
