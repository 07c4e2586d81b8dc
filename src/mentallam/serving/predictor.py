"""Predictions on new posts by one trained fold, or by several folds of one cross-validation together."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mentallam.checksums import folder_digest
from mentallam.classifier.checkpoint import TrainedFold, load_checkpoint
from mentallam.classifier.prompts import PostExample, Prompter
from mentallam.classifier.scoring import score_pairs
from mentallam.classifier.shared_base import release_base
from mentallam.config import InferenceConfig
from mentallam.corpus.identifiers import shown
from mentallam.corpus.texts import prepare_text
from mentallam.errors import MentallamError
from mentallam.evaluation.calibration import Calibration
from mentallam.evaluation.decision import Thresholds
from mentallam.limits import read_json
from mentallam.model_folders import ENSEMBLE_FILE, split_parts
from mentallam.provenance import DECIDING_PACKAGES, code_hash, code_version, package_versions
from mentallam.serving.evidence import Evidence, find_evidence
from mentallam.serving.merged_models import is_mergeable, load_merged_fold
from mentallam.serving.output_fields import (
    ANSWERS,
    TRAINED,
    UNTRAINED,
    Answers,
    FoldDecisions,
    Pair,
    answers_of,
    cautions_for,
)
from mentallam.serving.posts import Choice, Post, RowError


@dataclass(frozen=True)
class Question:
    """A post with criteria, as token ids, ready to be answered.

    Attributes:
        example: The tokens.
        wording: `TRAINED` or `UNTRAINED`; a post with criteria of both kinds takes two questions.
        text: The post as it was written.
    """

    example: PostExample
    wording: str
    text: str = field(repr=False)  # a log that prints the question must not print the post

    @property
    def pairs(self) -> list[Pair]:
        """The pairs that it asks, in the order of their logits."""
        example = self.example
        return [Pair(example.post_id, name, example.truncated, self.wording) for name in example.criterion_ids]


class Predictor:
    """One or several trained folds, ready to answer.

    Several folds answer with the calibrated mean of their log-odds (`evaluation.ensemble`) and the mean of their
    thresholds. They score a post one after the other, so the time of an answer grows with their number.

    Args:
        folds: The trained folds. All read a post alike, so it is cleaned and tokenized once.
        tokens_per_pass: Tokens of one forward pass.
        threshold: One threshold for all criteria, in place of those that training chose.
        own_criteria: Wording by id of criteria to ask in place of the model's. A wording that the model was trained on
            is asked as the trained criterion, under its id. The answers to the others are marked: calibration and
            threshold are those of all trained criteria together.
        ensemble: Calibration of the mean log-odds of several folds; without one the mean stays as it is.

    Raises:
        MentallamError: Two folds differ in what they read or in how they decide, or a criterion of the user's own is
            too long for a post beside it.
    """

    def __init__(
        self,
        folds: Sequence[TrainedFold],
        tokens_per_pass: int,
        threshold: float | None = None,
        own_criteria: Mapping[str, str] | None = None,
        ensemble: Calibration | None = None,
    ) -> None:
        _refuse_mixture(folds)
        self._folds = folds
        self._ensemble = ensemble or Calibration()
        self._tokens_per_pass = tokens_per_pass
        self._threshold = threshold
        self._decisions = [
            fold.decision if threshold is None else replace(fold.decision, thresholds=Thresholds(threshold))
            for fold in folds
        ]
        trained = folds[0].prompter
        given = own_criteria or {}
        own = {name: text for name, text in given.items() if text not in trained.criteria.values()}
        self._prompters = {TRAINED: trained}
        if own:
            model = folds[0].config.model
            self._prompters[UNTRAINED] = Prompter(trained.tokenizer, model.prompt, own, model.max_length)
        # A criterion of the user's own may have taken the id of a trained one.
        self._wordings = {name: TRAINED for name in trained.criteria} | {name: UNTRAINED for name in own}
        ids = {self.wording_of(name): name for name in self._wordings}
        asked = (name if name in own else ids[text] for name, text in given.items())
        chosen = tuple(dict.fromkeys(asked)) or tuple(trained.criteria)
        self.choice = Choice(chosen, {**ids, **{name: name for name in self._wordings}}, tuple(self._wordings))
        positive = {name: n for name, n in self.reference.get("positive", {}).items() if self.is_trained(name)}
        self._cautions = cautions_for(self._wordings, bool(folds[0].origin["synthetic"]), positive)
        self.run_id = folds[0].origin["run_id" if len(folds) == 1 else "cv_run_id"]

    def asking(self, own_criteria: Mapping[str, str]) -> "Predictor":
        """Return a predictor with the same folds, not loaded again, that asks other criteria.

        Args:
            own_criteria: See the class.

        Raises:
            MentallamError: A criterion is too long for a post beside it.
        """
        return Predictor(self._folds, self._tokens_per_pass, self._threshold, own_criteria, self._ensemble)

    @property
    def reference(self) -> Mapping[str, Any]:
        """What the posts were like that the first fold learnt from; see `TrainedFold.reference`."""
        return self._folds[0].reference

    def is_trained(self, criterion_id: str) -> bool:
        """Return whether the model was trained on the criterion's wording."""
        return self._wordings[criterion_id] == TRAINED

    @property
    def facts(self) -> dict[str, Any]:
        """Return which model this is, as plain values for a summary."""
        first = self._folds[0]
        return {
            "run_id": self.run_id,
            "folds": [fold.origin["fold"] for fold in self._folds],
            "base_model": first.base.name,
            "corpus": first.origin["corpus"],
            "synthetic": first.origin["synthetic"],
        }

    def fingerprint(self, config: InferenceConfig) -> dict[str, Any]:
        """Return all that decides the answers to a post, as plain values.

        Args:
            config: How the predictions are made.
        """
        code, versions = code_version(), package_versions()
        return {
            "code": {name: code[name] for name in ("version", "source")},
            "packages": {name: versions[name] for name in DECIDING_PACKAGES},
            "serving": code_hash("serving"),
            "runs": [fold.origin["run_id"] for fold in self._folds],
            # A run's weights may be loaded from its checkpoint or from an export in another dtype.
            "files": [folder_digest(fold.folder) if fold.folder else None for fold in self._folds],
            "base_model": self._folds[0].base.fingerprint,
            "inference": asdict(config),
            "ensemble": asdict(self._ensemble),
            "criteria": self.criteria,
        }

    @property
    def folds(self) -> Sequence[TrainedFold]:
        """The trained folds."""
        return self._folds

    @property
    def criteria(self) -> dict[str, str]:
        """Wording by id of the criteria that are asked of a post which names none."""
        return {name: self.wording_of(name) for name in self.choice.asked}

    def wording_of(self, criterion_id: str) -> str:
        """Return the wording of a criterion, trained or the user's own."""
        return self._prompters[self._wordings[criterion_id]].criteria[criterion_id]

    @classmethod
    def load(
        cls,
        parts: Sequence[Path],
        base_models: Path,
        config: InferenceConfig,
        own_criteria: Mapping[str, str] | None = None,
    ) -> "Predictor":
        """Load one or several checkpoints.

        Args:
            parts: A checkpoint per fold and, for folds that answer together, the file with their calibration
                (`model_folders.ENSEMBLE_FILE`).
            base_models: Folder of the base weights that were converted or made on this machine.
            config: How predictions are made.
            own_criteria: See the class.

        Raises:
            MentallamError: A folder holds no complete checkpoint, its base model can't be loaded, or the folds differ
                in what they read or in how they decide.
        """
        ensemble, folders = split_parts(parts)
        dtype, merge = config.dtype, config.merge_adapter
        try:
            folds = [
                load_merged_fold(folder, base_models, dtype)
                if merge and config.keep_merged
                else load_checkpoint(folder, base_models, dtype, merge and is_mergeable(folder))
                for folder in folders
            ]
        finally:
            release_base()  # the models hold what they need of it; merged ones need little
        calibration = _ensemble_calibration(ensemble) if ensemble else None
        return cls(folds, config.tokens_per_pass, config.threshold, own_criteria, calibration)

    def resolve(self, post: Post) -> Post:
        """Return the post with the ids of all criteria that are asked of it, each once.

        Raises:
            RowError: The model doesn't know a criterion.
        """
        return self.choice.resolve(post)

    def prepare(self, post: Post) -> list[Question]:
        """Clean a post, and put it and its criteria into tokens.

        Raises:
            RowError: No visible character is in the text, or the model doesn't know a criterion.
        """
        text = self._cleaned(post.text)
        if not text:
            raise RowError("the text is empty; fill it in or remove the row")
        asked = self.resolve(post).criteria or ()
        return [
            Question(prompter.example(post.post_id, text, chosen), wording, post.text)
            for wording, prompter in self._prompters.items()
            if (chosen := [name for name in asked if self._wordings[name] == wording])
        ]

    def answer(self, questions: Sequence[Question], explain: bool = False) -> Answers:
        """Answer prepared questions.

        Args:
            questions: Posts with their criteria.
            explain: Also name the sentences that carry each yes, which reads such a post once more per sentence.

        Returns:
            One value per pair and field of `output_fields.OUTPUT_FIELDS`, never the text; questions in their order,
            criteria in the order they are asked in.

        Raises:
            MentallamError: A post with its criteria does not fit into memory.
        """
        pairs = list(chain.from_iterable(question.pairs for question in questions))
        # A criterion of another wording has no threshold of its own, whatever its id.
        names = ["" if pair.wording == UNTRAINED else pair.criterion_id for pair in pairs]
        decisions = FoldDecisions(
            pairs,
            self._probabilities([question.example for question in questions]),
            np.array([decision.thresholds.of(names) for decision in self._decisions]),
            self.run_id,
            self._cautions,
        )
        if explain:
            decisions = replace(decisions, evidence=self._evidence(questions, decisions.labels))
        return answers_of(decisions)

    def _probabilities(self, examples: Sequence[PostExample]) -> NDArray[np.float64]:
        """Return the calibrated probabilities by all folds together, (n,) for n pairs."""
        logits = [score_pairs(fold.model, examples, self._tokens_per_pass) for fold in self._folds]
        decided = zip(self._decisions, logits, strict=True)
        log_odds = np.array([decision.calibration.log_odds(found) for decision, found in decided])
        return self._ensemble.probabilities(log_odds.mean(axis=0))

    def _evidence(self, questions: Sequence[Question], labels: Sequence[str]) -> list[list[Evidence]]:
        """Return the sentences that carry each yes, one list per pair, empty for a no."""
        found: list[list[Evidence]] = []
        for question in questions:
            names = question.example.criterion_ids
            answers = zip(names, labels[len(found) :], strict=False)
            matched = [name for name, label in answers if label == ANSWERS[1]]
            evidence = dict(zip(matched, self._evidence_of(question, matched), strict=True)) if matched else {}
            found += [evidence.get(name, []) for name in names]
        return found

    def _evidence_of(self, question: Question, matched: Sequence[str]) -> list[list[Evidence]]:
        prompter, post_id = self._prompters[question.wording], question.example.post_id

        def ask(texts: Sequence[str]) -> NDArray[np.float64]:
            examples = [prompter.example(post_id, text, matched) for text in texts]
            return self._probabilities(examples).reshape(len(texts), len(matched))

        return find_evidence(question.text, self._cleaned, prompter.part_read, ask)

    def post_tokens(self, question: Question) -> int:
        """Return the length of a question's post, in tokens, as the model reads it."""
        return len(question.example.prefix) - self._prompters[question.wording].template_tokens

    def predict(self, posts: Sequence[Post], explain: bool = False) -> Answers:
        """Compare posts with their criteria.

        Args:
            posts: The posts.
            explain: Also name the sentences that carry each yes.

        Raises:
            MentallamError: A post has no text or asks an unknown criterion, or does not fit into memory.
        """
        questions = []
        for post in posts:
            try:
                questions += self.prepare(post)
            except RowError as error:
                raise MentallamError(f"post {shown(post.post_id)}: {error.reason}") from None
        return self.answer(questions, explain=explain)

    def _cleaned(self, text: str) -> str:
        return prepare_text(text, self._masked)[0]

    @property
    def _masked(self) -> bool:
        """Whether the posts were masked in training; a checkpoint that does not say so was trained without."""
        return _masked(self._folds[0])


def _ensemble_calibration(file: Path) -> Calibration:
    try:
        return Calibration.from_dict(read_json(file))
    except (KeyError, TypeError, ValueError):
        raise MentallamError(
            f"{ENSEMBLE_FILE} holds no calibration of the ensemble; run `kedro run --pipeline cv_training` again"
        ) from None


def _masked(fold: TrainedFold) -> bool:
    return bool(fold.origin.get("mask", False))


def _refuse_mixture(folds: Sequence[TrainedFold]) -> None:
    first, *others = ((fold, _shared_facts(fold)) for fold in folds)
    for fold, facts in others:
        differing = [name for name, value in facts.items() if value != first[1][name]]
        if differing:
            raise MentallamError(
                f"the folds {first[0].origin['fold']} and {fold.origin['fold']} can't answer together, since they "
                f"differ in {', '.join(differing)}; take the folds of one cross-validation"
            )


def _shared_facts(fold: TrainedFold) -> Mapping[str, Any]:
    """Return what folds must share, or the mean of their probabilities has no meaning."""
    config = fold.config
    return {
        "cross-validation": fold.origin["cv_run_id"],
        "data": fold.origin["data_hash"],
        "masking": _masked(fold),
        "base model": fold.base.fingerprint,
        "prompt": config.model.prompt,
        "max_length": config.model.max_length,
        "criteria": list(fold.prompter.criteria.items()),
        "decision": config.decision,
    }
