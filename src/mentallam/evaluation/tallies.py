"""Counts of posts and predictions: of the dev posts of a training, of a batch, of a server; without any text."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

SCORE_BINS = 10
"""Bins of equal width over probabilities from 0 to 1."""

LENGTHS = (16, 32, 64, 128, 256, 512, 1024, 2048)
"""Upper ends of the bins of post lengths, in tokens; one more bin holds all that are longer."""

FERTILITIES = (0.15, 0.18, 0.21, 0.24, 0.27, 0.3, 0.35, 0.4, 0.5, 0.6, 0.8, 1.0)
"""Upper ends of the bins of tokens per character; one more bin holds all above. Another language needs more tokens."""


@dataclass
class CriterionTally:
    """Counts of one criterion.

    Attributes:
        pairs: Pairs that were asked.
        yes: Pairs that match.
        scores: Pairs by probability, in `SCORE_BINS` bins.
        score_sum: The sum of the probabilities.
    """

    pairs: int = 0
    yes: int = 0
    scores: list[int] = field(default_factory=lambda: [0] * SCORE_BINS)
    score_sum: float = 0.0


@dataclass
class Tally:
    """Counts of posts and answers.

    Attributes:
        posts: Posts that were answered.
        truncated: Those of them that were cut to fit.
        tokens: The tokens of all posts, as the model reads them.
        lengths: Posts by length, in the bins of `LENGTHS`.
        fertilities: Posts by tokens per character, in the bins of `FERTILITIES`; all zero in what older versions saved.
        criteria: Counts by criterion id.
    """

    posts: int = 0
    truncated: int = 0
    tokens: int = 0
    lengths: list[int] = field(default_factory=lambda: [0] * (len(LENGTHS) + 1))
    fertilities: list[int] = field(default_factory=lambda: [0] * (len(FERTILITIES) + 1))
    criteria: dict[str, CriterionTally] = field(default_factory=dict)

    def add_posts(self, tokens: Iterable[int], truncated: int, fertilities: Iterable[float] = ()) -> None:
        """Count posts.

        Args:
            tokens: The length of each post, as the model reads it.
            truncated: How many of them were cut to fit.
            fertilities: The tokens per character of each post, before it was cut.
        """
        for length in tokens:
            self.posts += 1
            self.tokens += length
            self.lengths[bisect_left(LENGTHS, length)] += 1
        for fertility in fertilities:
            self.fertilities[bisect_left(FERTILITIES, fertility)] += 1
        self.truncated += truncated

    def add_pairs(self, criterion_ids: Iterable[str], probabilities: Iterable[float], matches: Iterable[bool]) -> None:
        """Count pairs by their criterion."""
        for criterion_id, probability, match in zip(criterion_ids, probabilities, matches, strict=True):
            tally = self.criteria.setdefault(criterion_id, CriterionTally())
            tally.pairs += 1
            tally.yes += bool(match)
            tally.scores[min(int(probability * SCORE_BINS), SCORE_BINS - 1)] += 1
            tally.score_sum += float(probability)

    def add(self, other: Tally) -> None:
        """Add the counts of other posts."""
        self.posts += other.posts
        self.truncated += other.truncated
        self.tokens += other.tokens
        self.lengths = [sum(both) for both in zip(self.lengths, other.lengths, strict=True)]
        self.fertilities = [sum(both) for both in zip(self.fertilities, other.fertilities, strict=True)]
        for name, counts in other.criteria.items():
            tally = self.criteria.setdefault(name, CriterionTally())
            tally.pairs += counts.pairs
            tally.yes += counts.yes
            tally.scores = [sum(both) for both in zip(tally.scores, counts.scores, strict=True)]
            tally.score_sum += counts.score_sum

    @property
    def pairs(self) -> int:
        """All pairs."""
        return sum(tally.pairs for tally in self.criteria.values())

    @property
    def yes(self) -> int:
        """All pairs that match."""
        return sum(tally.yes for tally in self.criteria.values())

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, for saving."""
        return asdict(self)

    @classmethod
    def from_dict(cls, saved: dict[str, Any]) -> Tally:
        """Restore a tally from what `to_dict` returned."""
        criteria = {name: CriterionTally(**counts) for name, counts in saved["criteria"].items()}
        return cls(**{**saved, "criteria": criteria})
