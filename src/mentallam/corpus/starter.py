"""A corpus to begin with: three files with an example, for the user's own posts, criteria and labels."""

from pathlib import Path

from mentallam.corpus.layouts import TABLE_ENDINGS
from mentallam.corpus.readers import Corpus, read_corpus
from mentallam.files import replacing_file

EXAMPLE = {
    "posts": """post_id,post
p1,"We moved house, and my sister came to help."
p2,I ran ten kilometres before breakfast.
p3,"The new job is fine, the commute is not."
p4,My brother and I went for a swim.
p5,Rain all day.
p6,"Nobody called, so I went to bed."
p7,My knee hurts after the stairs.
p8,"Dinner with the neighbours, then a long walk."
""",
    "criteria": """criterion_id,criterion
social,"The writer refers to family, friends or neighbours."
physical,"The writer refers to the body, sport, illness or sleep."
""",
    "groundtruth": """post_id,criterion_id,label
p1,social,yes
p1,physical,no
p2,social,no
p2,physical,yes
p3,social,no
p3,physical,no
p4,social,yes
p4,physical,yes
p5,social,no
p5,physical,no
p6,social,yes
p6,physical,yes
p7,social,no
p7,physical,yes
p8,social,yes
p8,physical,yes
""",
}
"""Content by the file's name without its ending; all of it is invented."""


def write_example(folder: Path) -> bool:
    """Write the three files, unless one of them is there in any format.

    Args:
        folder: The folder; made if it is not there.

    Returns:
        Whether they were written.

    Raises:
        MentallamError: The disk refuses.
    """
    if any((folder / f"{name}{ending}").exists() for name in EXAMPLE for ending in TABLE_ENDINGS):
        return False
    for name, content in EXAMPLE.items():
        with replacing_file(folder / f"{name}.csv") as unfinished:
            unfinished.write_text(content, encoding="utf-8")
    return True


def describe(folder: Path, folds: int, few: int) -> list[str]:
    """Read the three files as a run does; return in words what they hold, and what a run would find too little.

    Args:
        folder: Their folder.
        folds: The number of folds of a run.
        few: A criterion with fewer positive pairs is named.

    Raises:
        MentallamError: A file is missing or faulty; the message names file, row and way out.
    """
    corpus = read_corpus("pairs", folder, missing_pairs="allowed")
    pairs = corpus.pairs
    n_cells = len(corpus.posts) * len(corpus.criteria)
    lines = [
        f"{len(corpus.posts)} posts, {len(corpus.criteria)} criteria, {len(pairs)} labelled pairs, "
        f"{int(pairs['label'].sum())} of them yes"
    ]
    if len(pairs) < n_cells:
        lines.append(f"{n_cells - len(pairs)} pairs have no label: label them, or run with missing_pairs=allowed")
    return lines + _too_few(corpus, folds, few)


def _too_few(corpus: Corpus, folds: int, few: int) -> list[str]:
    counts = corpus.pairs.groupby("criterion_id", sort=False)["label"].agg(["sum", "size"])
    lines = []
    for criterion_id, (n_yes, n) in counts.iterrows():
        fewer, label = min((int(n_yes), "yes"), (int(n - n_yes), "no"))
        if fewer < folds:
            lines.append(f"{criterion_id}: {fewer} pairs with {label}, fewer than {folds} folds need; label more posts")
        elif n_yes < few:
            lines.append(f"{criterion_id}: {n_yes} pairs with yes; below {few} its figures are imprecise")
    return lines
