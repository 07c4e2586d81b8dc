"""Checks of synthetic corpora for tests."""

from collections import Counter

from mentallam.corpus.synthetic_corpus import CorpusSpec, SyntheticCorpus
from mentallam.corpus.texts import clean_text


def plain(text: str) -> str:
    """Undo the styles of typing: return the text cleaned, in lower case and with straight quotes."""
    return clean_text(text)[0].replace("\u2019", "'").lower()


def assert_meets(corpus: SyntheticCorpus, spec: CorpusSpec) -> None:
    """Check that a corpus has exactly the counts of its specification."""
    post_ids = [post_id for post_id, _ in corpus.posts]
    assert len(set(post_ids)) == spec.n_posts
    posts_per_author = Counter(post_id.split("_")[1] for post_id in post_ids)
    assert len(posts_per_author) == spec.n_authors
    assert max(posts_per_author.values()) <= (spec.most_posts or spec.n_posts)
    shown = {(row[0], row[3]) for row in corpus.annotations if row[4] == 1}
    special = {pair for pair in shown if pair[1] == "SPECIAL_CASE"}
    assert len(special) == spec.special_cases
    assert Counter(symptom for _, symptom in shown - special) == Counter(spec.positives)
    assert spec.n_posts - len({post_id for post_id, _ in shown - special}) == spec.without_symptom
    # Two of the four kinds of hard negatives are annotated, with status 0 and never together with evidence.
    denied = [(row[0], row[3]) for row in corpus.annotations if row[4] == 0]
    assert len(denied) == 2 * spec.hard_negatives
    assert not shown & set(denied)
    # The truth has each pair's label, and for each symptom as many missed as invented pairs.
    assert [row[:2] for row in corpus.truth] == [(post_id, name) for post_id in post_ids for name in spec.positives]
    assert {row[:2] for row in corpus.truth if row[3]} == shown - special
    for missed_or_invented in ((1, 0), (0, 1)):
        found = Counter(symptom for _, symptom, *status in corpus.truth if tuple(status) == missed_or_invented)
        assert all(found[symptom] == round(spec.noise * count) for symptom, count in spec.positives.items())
