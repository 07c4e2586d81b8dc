from pathlib import Path

import pytest

from mentallam.corpus.readers import ANNOTATION_COLUMNS, CRITERION_COLUMNS, POST_COLUMNS, Corpus, read_corpus
from tests.samples import SAMPLE
from tests.unit.corpus.files import CRITERIA_FILE, write_csv

POSTS = [("s_1_1", "The first post, as quiet as it is."), ("s_1_2", "A second one."), ("s_2_7", "A third.")]
ANNOTATIONS = [
    ("s_1_1", "s_1_1_1", "The first post,", "FATIGUE", "0", "Why."),
    ("s_1_1", "s_1_1_2", "as quiet as it is.", "FATIGUE", "1", "Why."),
    ("s_1_1", "s_1_1_2", "as quiet as it is.", "ANHEDONIA", "0", "Why."),
    ("s_2_7", "s_2_7_1", "A third.", "SPECIAL_CASE", "1", "Why."),
]
# Rows of groundtruth.csv in the pairs format.
LABELS = [
    ("p1", "social", "yes"), ("p1", "physical", "NO"), ("p2", "social", "0"),
    ("p2", "physical", "1"), ("p3", "physical", "No"), ("p3", "social", "Yes"),
]  # fmt: skip
CRITERION_ROWS = [("A.2", "ANHEDONIA", "Loss of interest."), ("A.6", "FATIGUE", "Tired.")]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return the folder of a small valid corpus: three posts, two criteria, and criteria.csv."""
    write_csv(tmp_path / "redsm5_posts.csv", POST_COLUMNS, POSTS)
    write_csv(tmp_path / "redsm5_annotations.csv", ANNOTATION_COLUMNS, ANNOTATIONS)
    write_csv(tmp_path / "criteria.csv", CRITERION_COLUMNS, CRITERION_ROWS)
    return tmp_path


@pytest.fixture
def corpus(folder: Path) -> Corpus:
    return read_corpus("redsm5", folder, folder / "criteria.csv")


@pytest.fixture
def pairs_folder(tmp_path: Path) -> Path:
    """Write the same posts as a small corpus in the pairs format."""
    folder = tmp_path / "pairs"
    folder.mkdir()
    posts = [(f"p{number}", text) for number, (_, text) in enumerate(POSTS, start=1)]
    write_csv(folder / "posts.csv", ("post_id", "post"), posts)
    criteria = [("social", "Other people, near and far."), ("physical", "The body.")]
    write_csv(folder / "criteria.csv", ("criterion_id", "criterion"), criteria)
    write_csv(folder / "groundtruth.csv", ("post_id", "criterion_id", "label"), LABELS)
    return folder


@pytest.fixture(scope="session")
def sample() -> Corpus:
    return read_corpus("redsm5", SAMPLE, CRITERIA_FILE)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print how many corruptions of a corpus were tried, and their outcomes."""
    from tests.unit.corpus.test_faults import OUTCOMES

    if OUTCOMES:
        told = ", ".join(f"{count} {outcome}" for outcome, count in sorted(OUTCOMES.items()))
        terminalreporter.write_line(f"corruptions of corpus files: {OUTCOMES.total()} ({told})")
