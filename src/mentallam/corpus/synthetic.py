"""Command that writes a synthetic corpus in ReDSM5's file schema; the same seed gives the same bytes.

There are two corpora: the small sample, which is committed, and the twin, which has the size and the marginals
published by ReDSM5's authors, and labels with known noise::

    python -m mentallam.corpus.synthetic --out data/01_raw/sample
    python -m mentallam.corpus.synthetic --out data/01_raw/twin --corpus twin
"""

from __future__ import annotations

import argparse
import csv
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TextIO

from mentallam.corpus.readers import ANNOTATION_COLUMNS, POST_COLUMNS, REDSM5_ANNOTATIONS, REDSM5_POSTS
from mentallam.corpus.synthetic_corpus import SAMPLE, TWIN, CorpusSpec, SyntheticCorpus, generate_times
from mentallam.corpus.synthetic_truth import TRUTH_COLUMNS, ceiling
from mentallam.errors import MentallamError
from mentallam.files import replacing_file

TRUTH, CEILING = "twin_truth.csv", "twin_ceiling.json"


@dataclass
class CorpusCounts:
    """Counts of what was written."""

    n_corpora: int = 0
    n_posts: int = 0
    n_words: int = 0
    min_words: int = 10**9
    max_words: int = 0
    n_annotations: int = 0
    pairs: Counter[tuple[str, int, int]] = field(default_factory=Counter)

    def add(self, corpus: SyntheticCorpus) -> None:
        """Add the counts of one corpus."""
        lengths = [len(text.split()) for _, text in corpus.posts]
        self.n_corpora += 1
        self.n_posts += len(lengths)
        self.n_words += sum(lengths)
        self.min_words = min(self.min_words, *lengths)
        self.max_words = max(self.max_words, *lengths)
        self.n_annotations += len(corpus.annotations)
        self.pairs.update(row[1:] for row in corpus.truth)


def write(corpora: Iterable[SyntheticCorpus], folder: Path, spec: CorpusSpec, command: str) -> CorpusCounts:
    """Write several corpora as one; each is written as it is composed, so that only one is in memory.

    The files are redsm5_posts.csv, redsm5_annotations.csv and README.md, and with noise also twin_truth.csv and
    twin_ceiling.json.

    Args:
        corpora: The corpora.
        folder: The folder to write to; it is created if it doesn't exist.
        spec: The specification that each corpus meets.
        command: The command that writes the same files again, for the README.

    Returns:
        The counts of what was written.

    Raises:
        MentallamError: A file can't be written.
    """
    headers = {f"{REDSM5_POSTS}.csv": POST_COLUMNS, f"{REDSM5_ANNOTATIONS}.csv": ANNOTATION_COLUMNS}
    if spec.noise:
        headers[TRUTH] = TRUTH_COLUMNS
    counts = CorpusCounts()
    with ExitStack() as stack:
        writers = []
        for name, columns in headers.items():
            file = stack.enter_context(_replacing_text(folder / name))
            writers.append(csv.writer(file, lineterminator="\n"))
            writers[-1].writerow(columns)
        for corpus in corpora:
            rows: tuple[Sequence[Sequence[Any]], ...] = (corpus.posts, corpus.annotations, corpus.truth)
            for writer, part in zip(writers, rows, strict=False):  # without noise there is no file for the truth
                writer.writerows(part)
            counts.add(corpus)
    readme = _readme(counts, spec, command)
    if spec.noise:
        reached = ceiling(counts.pairs)
        content = json.dumps({"noise": spec.noise, **reached}, indent=2) + "\n"
        with _replacing_text(folder / CEILING) as file:
            file.write(content)
        readme += _about_noise(reached)
    with _replacing_text(folder / "README.md") as file:
        file.write(readme)
    return counts


@contextmanager
def _replacing_text(path: Path) -> Iterator[TextIO]:
    with replacing_file(path) as unfinished, unfinished.open("w", encoding="utf-8", newline="") as file:
        yield file


def _readme(counts: CorpusCounts, spec: CorpusSpec, command: str) -> str:
    scale = counts.n_corpora
    words = f"{counts.min_words} to {counts.max_words} words, mean {counts.n_words / counts.n_posts:.1f}"
    sources = [
        f"`synthetic_{name}.yml`" for name in ("phrases", "context", *(["narrative"] if spec.exact_words else []))
    ]
    relation = "labelled with it" if spec.noise else "that show it"
    symptoms = "\n".join(f"| {symptom} | {count * scale} |" for symptom, count in spec.positives.items())
    return f"""SYNTHETIC: no sentence in here comes from a person, from ReDSM5 or from any other corpus.

The posts and annotations were composed by this project's generator, from sentences invented for it
({", ".join(sources[:-1])} and {sources[-1]} in `src/mentallam/corpus/`). The files have ReDSM5's
schema, so that everything runs without the gated corpus. A figure measured on them says that the software
works, and nothing about people. This writes them again, byte for byte:

    {command}

- {counts.n_posts} posts by {spec.n_authors * scale} authors, {words}
- {sum(spec.positives.values()) * scale} positive pairs; {spec.without_symptom * scale} posts show no symptom
- {counts.n_annotations} annotations, of them {spec.special_cases * scale} SPECIAL_CASE
- {spec.hard_negatives * scale} posts with a hard negative of each kind: a denial and a symptom in the past, which
  are the explicit negatives (status 0); one of a third person and an everyday near miss, which have
  no annotation. In ReDSM5 near misses have status 0

| symptom | posts {relation} |
| --- | --- |
{symptoms}
"""


def _about_noise(reached: Mapping[str, Any]) -> str:
    micro = reached["micro"]
    return f"""
These counts are of the labels, and the labels are noisy on purpose: {micro["invented"]} positive pairs are annotated
on posts that show nothing of the symptom, and {micro["missed"]} pairs whose post shows it are not annotated.
`{TRUTH}` says for every pair what the text shows and how it is labelled. A perfect reader of the texts
therefore reaches a micro F1 of {micro["f1"]:.4f} and no more; `{CEILING}` has that ceiling by symptom.
"""


def main() -> None:
    """Write a synthetic corpus to a folder."""
    parser = argparse.ArgumentParser("python -m mentallam.corpus.synthetic", description=main.__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder to write to")
    parser.add_argument("--corpus", choices=("sample", "twin"), default="sample", help="default %(default)s")
    parser.add_argument("--seed", type=int, default=42, help="seed of everything random (default 42)")
    for name in ("posts", "authors"):
        default = getattr(SAMPLE, f"n_{name}")
        parser.add_argument(f"--{name}", type=int, help=f"number of {name} in the sample (default {default})")
    parser.add_argument("--scale", type=int, help="multiple of the twin's size (default 1)")
    parser.add_argument("--noise", type=float, help=f"share of the twin's positives in error (default {TWIN.noise})")
    parser.add_argument(
        "--posts-per-author",
        type=float,
        help="mean number of posts of the twin's authors, geometric (default: 1.3, at most 3)",
    )
    arguments = parser.parse_args()
    try:
        spec, options = _requested_spec(arguments)
        scale = 1 if arguments.scale is None else arguments.scale
        command = f"python -m mentallam.corpus.synthetic {options} --seed {arguments.seed} --out FOLDER"
        counts = write(generate_times(spec, arguments.seed, scale), arguments.out, spec, command)
    except MentallamError as error:
        parser.error(error.message)
    print(f"Wrote {counts.n_posts} synthetic posts to {arguments.out}")


def _requested_spec(arguments: argparse.Namespace) -> tuple[CorpusSpec, str]:
    """Return the specification that the command line requests, and the options that request it again.

    Raises:
        MentallamError: An option is out of range or belongs to the other corpus.
    """
    without_effect = ("scale", "noise", "posts_per_author") if arguments.corpus == "sample" else ("posts", "authors")
    for name in without_effect:
        if getattr(arguments, name) is not None:
            raise MentallamError(f"--{name.replace('_', '-')} changes nothing in the {arguments.corpus}; leave it out")
    if arguments.corpus == "sample":
        n_posts = SAMPLE.n_posts if arguments.posts is None else arguments.posts
        n_authors = SAMPLE.n_authors if arguments.authors is None else arguments.authors
        return SAMPLE.scaled(n_posts, n_authors), f"--posts {n_posts} --authors {n_authors}"
    if arguments.scale is not None and arguments.scale < 1:
        raise MentallamError("--scale must be at least 1")
    noise = TWIN.noise if arguments.noise is None else arguments.noise
    options = f"--corpus twin --scale {arguments.scale or 1} --noise {noise}"
    spec = replace(TWIN, noise=noise)
    if (mean := arguments.posts_per_author) is None:
        return spec, options
    if not 1 <= mean <= spec.n_posts:
        raise MentallamError(f"--posts-per-author must be from 1 to {spec.n_posts}, the twin's posts")
    spec = replace(spec, n_authors=round(spec.n_posts / mean), most_posts=None)
    return spec, f"{options} --posts-per-author {mean:g}"


if __name__ == "__main__":
    main()
