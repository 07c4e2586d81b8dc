"""Prompts as token ids: a prefix per post, a suffix per criterion; a pair reads prefix + suffix.

Token ids are concatenated, never strings: the prefix of a post is then the same whatever criterion follows, so nine
pairs can share one pass. Only the post is ever cut, so the criterion and the question always reach the model.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor
from transformers import BatchEncoding, PreTrainedTokenizerBase

from mentallam.config import PromptConfig
from mentallam.corpus.identifiers import is_identifier, shown
from mentallam.errors import MentallamError


@dataclass(frozen=True)
class PostExample:
    """One post and the criteria that it is paired with, as token ids.

    Attributes:
        post_id: The post.
        prefix: Token ids of the prefix.
        truncated: Whether the post was cut to fit.
        criterion_ids: The criteria, one suffix each; empty in `Prompter.post_alone`.
        suffixes: Token ids of each suffix.
        labels: 1 matched, 0 unmatched, one per criterion; empty where they are unknown.
        states: (n_tokens, hidden size), what goes into the lowest trained layer; see `frozen`.
        fertility: Tokens per character of the uncut post; 0 where it was not counted.
    """

    post_id: str
    prefix: list[int]
    truncated: bool
    criterion_ids: list[str]
    suffixes: list[list[int]]
    labels: list[int]
    states: Tensor | None = None
    fertility: float = 0.0

    @property
    def n_tokens(self) -> int:
        """Number of tokens of prefix and suffixes together."""
        return len(self.prefix) + sum(map(len, self.suffixes))


class Prompter:
    """A tokenizer with a prompt and criteria: it turns posts into token ids.

    Args:
        tokenizer: The base model's tokenizer.
        prompt: The template.
        criteria: Wording by criterion id, of every criterion that the classifier knows.
        max_length: Most tokens of a pair. The length left for the post depends on the longest of all criteria, so that
            a pair scores the same alone and among others.

    Attributes:
        post_tokens: Most tokens of a post, counted with the template's words before it.
        template_tokens: The other tokens of a prefix.
        begin_tokens: Number of tokens that the tokenizer puts before a sequence: 1, or 0 if it has no such token.

    Raises:
        MentallamError: The longest criterion leaves no tokens for a post.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        prompt: PromptConfig,
        criteria: Mapping[str, str],
        max_length: int,
    ) -> None:
        self.tokenizer = tokenizer
        self.criteria = dict(criteria)
        self._before, self._after = prompt.prefix.split("{post}")
        self._tail = self._ids(self._after)
        self._begin = self._begin_of_sequence()
        self.begin_tokens = len(self._begin)
        self._suffixes = {
            criterion_id: self._ids(prompt.suffix.replace("{criterion}", wording))
            for criterion_id, wording in self.criteria.items()
        }
        longest = max(len(suffix) for suffix in self._suffixes.values())
        self.template_tokens = len(self._begin) + len(self._tail)
        self._around = longest + self.template_tokens
        self.post_tokens = self.room(max_length)
        if self.post_tokens == 0:
            raise MentallamError(
                f"model.max_length={max_length} leaves no room for the post: the longest criterion takes {longest} "
                f"tokens; raise model.max_length or shorten the criterion"
            )

    def example(
        self, post_id: str, text: str, criterion_ids: Sequence[str] | None = None, labels: Sequence[int] = ()
    ) -> PostExample:
        """Return one post with some criteria, by default all of them.

        Raises:
            MentallamError: A criterion id that this classifier doesn't know.
        """
        asked = list(self.criteria) if criterion_ids is None else list(criterion_ids)
        unknown = sorted(set(asked) - set(self.criteria))
        if unknown:
            # In a file with shifted columns this may be a post's text.
            named = ", ".join(name if is_identifier(name) else shown(name) for name in unknown)
            raise MentallamError(f"unknown criterion {named}; this model knows {', '.join(self.criteria)}")
        post = self._ids(self._before + text)
        fertility = len(post) / max(len(self._before) + len(text), 1)
        prefix = self._begin + post[: self.post_tokens] + self._tail
        suffixes = [self._suffixes[criterion_id] for criterion_id in asked]
        truncated = len(post) > self.post_tokens
        return PostExample(post_id, prefix, truncated, asked, suffixes, list(labels), fertility=fertility)

    def to_dict(self) -> dict[str, Any]:
        """Return what turns a post into the token ids of its pairs, as plain values, for use without this package.

        Returns:
            A pair reads begin + post + after + suffixes[criterion_id]. All are token ids; post are the first
            post_tokens ids of the text before + post, without special tokens.
        """
        return {
            "begin": self._begin,
            "before": self._before,
            "post_tokens": self.post_tokens,
            "after": self._tail,
            "suffixes": self._suffixes,
        }

    def part_read(self, text: str) -> str:
        """Return the part of a post that reaches the model: all of it, or its beginning if it is cut."""
        encoded = self._encoded([self._before + text], return_offsets_mapping=True)
        ends = [end for _, end in encoded["offset_mapping"][0]]
        return text if len(ends) <= self.post_tokens else text[: ends[self.post_tokens - 1] - len(self._before)]

    def post_alone(self, post_id: str, text: str) -> PostExample:
        """Return one post without template and criterion, cut to the length that it has in a pair.

        A packed row needs a suffix, so the post's last token is its only suffix; prefix and suffix together are the
        post's tokens. The first `begin_tokens` tokens are no words of the post.
        """
        post, room = self._ids(text), self.post_tokens - len(self._ids(self._before))
        tokens = self._begin + post[:room]
        return PostExample(post_id, tokens[:-1], len(post) > room, [], [tokens[-1:]], [])

    def room(self, max_length: int) -> int:
        """Return how many tokens a post may have in pairs of `max_length`, with the template's words before it.

        A post is cut if its `count_tokens` is above this number. It is 0 if nothing of a post fits.
        """
        room = max_length - self._around
        return room if room > len(self._ids(self._before)) else 0

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """Return the number of tokens of each uncut post, with the template's words before it."""
        return [len(ids) for ids in self._batch_of_ids([self._before + text for text in texts])]

    def _ids(self, text: str) -> list[int]:
        return self._batch_of_ids([text])[0]

    def _batch_of_ids(self, texts: list[str]) -> list[list[int]]:
        return list(self._encoded(texts)["input_ids"])

    def _encoded(self, texts: list[str], **options: bool) -> BatchEncoding:
        # A special token's name in a post is ordinary text (split_special_tokens). A post beyond the model's window is
        # cut afterwards, so the tokenizer need not warn (verbose).
        encoded: BatchEncoding = self.tokenizer(
            texts, add_special_tokens=False, split_special_tokens=True, verbose=False, **options
        )
        return encoded

    def _begin_of_sequence(self) -> list[int]:
        begin = self.tokenizer.bos_token_id
        return [begin] if begin in self.tokenizer("")["input_ids"] else []
