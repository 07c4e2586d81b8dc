import json

from mentallam.evaluation.tallies import LENGTHS, CriterionTally, Tally


def test_posts_are_counted_by_length() -> None:
    tally = Tally()
    tally.add_posts([1, 16, 17, 2048, 2049, 100_000], truncated=2)
    assert (tally.posts, tally.truncated) == (6, 2)
    assert len(tally.lengths) == len(LENGTHS) + 1
    assert (tally.lengths[0], tally.lengths[1], tally.lengths[-2], tally.lengths[-1]) == (2, 1, 1, 2)


def test_pairs_are_counted_by_criterion_and_score() -> None:
    tally = Tally()
    tally.add_pairs(["A", "B", "A"], [0.0, 1.0, 0.35], [False, True, True])
    tally.add_pairs(["A"], [0.99], [True])
    assert tally.criteria["A"] == CriterionTally(3, 2, [1, 0, 0, 1, 0, 0, 0, 0, 0, 1], 0.35 + 0.99)
    assert tally.criteria["B"] == CriterionTally(1, 1, [0, 0, 0, 0, 0, 0, 0, 0, 0, 1], 1.0)
    assert (tally.pairs, tally.yes) == (4, 3)


def test_it_survives_json() -> None:
    tally = Tally()
    tally.add_posts([5], truncated=1)
    tally.add_pairs(["A"], [0.5], [True])
    assert Tally.from_dict(json.loads(json.dumps(tally.to_dict()))) == tally
