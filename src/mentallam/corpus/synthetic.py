"""Write a synthetic corpus in ReDSM5's file schema, byte for byte the same for the same seed.

Two corpora: the small sample, which is committed, and the twin, which has the size and the marginals that ReDSM5's
authors publish, and labels with known noise::

    python -m mentallam.corpus.synthetic --out data/01_raw/sample
    python -m mentallam.corpus.synthetic --out data/01_raw/twin --corpus twin
"""

from __future__ import annotations

import argparse
import csv
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from mentallam.corpus.readers import ANNOTATION_COLUMNS, POST_COLUMNS
from mentallam.corpus.synthetic_corpus import SAMPLE, TWIN, CorpusSpec, SyntheticCorpus, generate_times
from mentallam.corpus.synthetic_truth import TRUTH_COLUMNS, ceiling
from mentallam.errors import MentallamError

POSTS, ANNOTATIONS = "redsm5_posts.csv", "redsm5_annotations.csv"
TRUTH = "twin_truth.csv"
CEILING = "twin_ceiling.json"


@dataclass
class Figures:
    """What is counted while a corpus is written."""

    n_corpora: int = 0
    n_posts: int = 0
    n_words: int = 0
    min_words: int = 10**9
    max_words: int = 0
    n_annotations: int = 0
    pairs: Counter[tuple[str, int, int]] = field(default_factory=Counter)

    def add(self, corpus: SyntheticCorpus) -> None:
        """Count one corpus more."""
        lengths = [len(text.split()) for _, text in corpus.posts]
        self.n_corpora += 1
        self.n_posts += len(lengths)
        self.n_words += sum(lengths)
        self.min_words = min(self.min_words, *lengths)
        self.max_words = max(self.max_words, *lengths)
        self.n_annotations += len(corpus.annotations)
        self.pairs.update(row[1:] for row in corpus.truth)


def write(corpora: Iterable[SyntheticCorpus], folder: Path, spec: CorpusSpec, command: str) -> Figures:
    """Write corpora that meet `spec` as one, each as it comes, so that only one is in memory.

    The files are redsm5_posts.csv, redsm5_annotations.csv and README.md, and for labels with noise also twin_truth.csv
    and twin_ceiling.json.

    Args:
        corpora: What to write.
        folder: Where to, made if need be.
        spec: What each corpus meets.
        command: How the same files are written again, for the README.
    """
    folder.mkdir(parents=True, exist_ok=True)
    headers = {POSTS: POST_COLUMNS, ANNOTATIONS: ANNOTATION_COLUMNS}
    if spec.noise:
        headers[TRUTH] = TRUTH_COLUMNS
    figures = Figures()
    with ExitStack() as stack:
        writers = []
        for name, columns in headers.items():
            file = stack.enter_context((folder / name).open("w", encoding="utf-8", newline=""))
            writers.append(csv.writer(file, lineterminator="\n"))
            writers[-1].writerow(columns)
        for corpus in corpora:
            rows: tuple[Sequence[Sequence[Any]], ...] = (corpus.posts, corpus.annotations, corpus.truth)
            for writer, part in zip(writers, rows, strict=False):  # without noise nobody needs the truth
                writer.writerows(part)
            figures.add(corpus)
    readme = _readme(figures, spec, command)
    if spec.noise:
        reached = ceiling(figures.pairs)
        content = json.dumps({"noise": spec.noise, **reached}, indent=2) + "\n"
        (folder / CEILING).write_text(content, encoding="utf-8", newline="\n")
        readme += _about_noise(reached)
    (folder / "README.md").write_text(readme, encoding="utf-8", newline="\n")
    return figures


def _readme(figures: Figures, spec: CorpusSpec, command: str) -> str:
    scale = figures.n_corpora
    words = f"{figures.min_words} to {figures.max_words} words, mean {figures.n_words / figures.n_posts:.1f}"
    sources = [
        f"`synthetic_{name}.yml`" for name in ("phrases", "context", *(["narrative"] if spec.exact_words else []))
    ]
    counted = "labelled with it" if spec.noise else "that show it"
    symptoms = "\n".join(f"| {symptom} | {count * scale} |" for symptom, count in spec.positives.items())
    return f"""SYNTHETIC: no sentence in here comes from a person, from ReDSM5 or from any other corpus.

The posts and annotations were composed by this project's generator, from sentences invented for it
({", ".join(sources[:-1])} and {sources[-1]} in `src/mentallam/corpus/`). The files have ReDSM5's
schema, so that everything runs without the gated corpus. A figure measured on them says that the software
works, and nothing about people. This writes them again, byte for byte:

    {command}

- {figures.n_posts} posts by {spec.n_authors * scale} authors, {words}
- {sum(spec.positives.values()) * scale} positive pairs; {spec.without_symptom * scale} posts show no symptom
- {figures.n_annotations} annotations, of them {spec.special_cases * scale} SPECIAL_CASE
- {spec.hard_negatives * scale} posts with a hard negative of each kind: an explicit negative, a symptom in the past,
  one of a third person, an everyday near miss

| symptom | posts {counted} |
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
    parser.add_argument("--seed", type=int, default=42, help="another seed, another corpus (default 42)")
    for name in ("posts", "authors"):
        default = getattr(SAMPLE, f"n_{name}")
        parser.add_argument(f"--{name}", type=int, help=f"of the sample; the rest in proportion (default {default})")
    parser.add_argument("--scale", type=int, help="so many times the twin (default 1)")
    parser.add_argument("--noise", type=float, help=f"share of the twin's positives in error (default {TWIN.noise})")
    arguments = parser.parse_args()
    try:
        spec, command = _asked_for(arguments)
        scale = 1 if arguments.scale is None else arguments.scale
        command = f"python -m mentallam.corpus.synthetic {command} --seed {arguments.seed} --out FOLDER"
        figures = write(generate_times(spec, arguments.seed, scale), arguments.out, spec, command)
    except MentallamError as error:
        parser.error(error.message)
    print(f"Wrote {figures.n_posts} synthetic posts to {arguments.out}")


def _asked_for(arguments: argparse.Namespace) -> tuple[CorpusSpec, str]:
    """Return the specification that the command line asks for, and the options that say so.

    Raises:
        MentallamError: An option is out of range or belongs to the other corpus.
    """
    others = ("scale", "noise") if arguments.corpus == "sample" else ("posts", "authors")
    for name in others:
        if getattr(arguments, name) is not None:
            raise MentallamError(f"--{name} changes nothing in the {arguments.corpus}; leave it out")
    if arguments.corpus == "sample":
        n_posts = SAMPLE.n_posts if arguments.posts is None else arguments.posts
        n_authors = SAMPLE.n_authors if arguments.authors is None else arguments.authors
        return SAMPLE.scaled(n_posts, n_authors), f"--posts {n_posts} --authors {n_authors}"
    if arguments.scale is not None and arguments.scale < 1:
        raise MentallamError("--scale must be at least 1")
    noise = TWIN.noise if arguments.noise is None else arguments.noise
    options = f"--corpus twin --scale {arguments.scale or 1} --noise {noise}"
    return replace(TWIN, noise=noise), options


if __name__ == "__main__":
    main()
