"""Which way of naming the sentences that carry a match agrees best with the annotators, and what it costs.

On the matched pairs of posts that the fold of `short_fold.py` has not seen: precision at 1 (the first sentence is
annotated) and recall at 3 (share of the annotated sentences among the first three), with intervals over posts.

make twin && python studies/short_fold.py && python studies/evidence.py
"""

import argparse
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from short_fold import SEED, SHORT_FOLD, SIZES, TEST_POSTS, WORDS, draw_parts, read_twin
from sklearn.feature_extraction.text import TfidfVectorizer
from study_files import BASE_MODELS, PROJECT, TWIN

from mentallam.classifier.checkpoint import TrainedFold, load_checkpoint
from mentallam.classifier.learned_baselines import BASELINES
from mentallam.classifier.packing import pack
from mentallam.classifier.scoring import score_pairs
from mentallam.corpus.readers import Corpus
from mentallam.corpus.texts import clean_text
from mentallam.evaluation.resampling import UncertaintyOptions, bootstrap, interval
from mentallam.serving.evidence import Span, find_evidence, split_sentences

OPTIONS = UncertaintyOptions(resamples=2000, confidence=0.95, seed=SEED)
NAMED = 3


@dataclass(frozen=True)
class Case:
    """A post with its matched criteria; its text is clean, so that places in it are those in the written post."""

    post_id: str
    text: str
    spans: list[Span]
    annotated: dict[str, set[int]]


# From a case to the sentences by criterion, best first.
Method = Callable[[Case], dict[str, list[int]]]


def read_cases(corpus: Corpus, post_ids: Sequence[str]) -> list[Case]:
    """Read the test posts that have a matched pair, with the annotated sentences as numbers."""
    texts = corpus.posts.set_index("post_id")["text"]
    symptoms = corpus.criteria.set_index("symptom")["criterion_id"]
    rows = pd.read_csv(TWIN / "redsm5_annotations.csv").query("status == 1")
    cases = []
    for post_id, of_post in rows[rows["post_id"].isin(post_ids)].groupby("post_id", sort=False):
        text = texts[post_id]
        spans = split_sentences(text)
        sentences = [text[span.start : span.end] for span in spans]
        annotated: dict[str, set[int]] = {}
        for row in of_post.itertuples():
            if row.sentence_text in sentences and row.DSM5_symptom in symptoms:
                annotated.setdefault(symptoms[row.DSM5_symptom], set()).add(sentences.index(row.sentence_text))
        if annotated and clean_text(text)[0] == text:
            cases.append(Case(str(post_id), text, spans, annotated))
    return cases


def leave_one_out(trained: TrainedFold) -> Method:
    """Rank by the drop of the probability without a sentence: what the product does."""

    def ranked(case: Case) -> dict[str, list[int]]:
        names = list(case.annotated)

        def ask(texts: Sequence[str]) -> NDArray[np.float64]:
            examples = [trained.prompter.example(case.post_id, text, names) for text in texts]
            logits = score_pairs(trained.model, examples, trained.config.inference.tokens_per_pass)
            return trained.decision.calibration.probabilities(logits).reshape(len(texts), -1)

        found = find_evidence(case.text, lambda text: text, trained.prompter.part_read, ask)
        return {name: [one["sentence"] for one in sentences] for name, sentences in zip(names, found, strict=True)}

    return ranked


def token_scores(score: Callable[[Any, list[int]], NDArray[np.float64]], trained: TrainedFold) -> Method:
    """Rank by the sum of a score over a sentence's tokens."""
    before = trained.config.model.prompt.prefix.partition("{post}")[0]

    def ranked(case: Case) -> dict[str, list[int]]:
        options = {"add_special_tokens": False, "return_offsets_mapping": True}
        offsets = trained.prompter.tokenizer(before + case.text, **options)["offset_mapping"]
        middles = np.array([(start + end) / 2 for start, end in offsets]) - len(before)
        result = {}
        for name in case.annotated:
            example = trained.prompter.example(case.post_id, case.text, [name])
            begin = trained.prompter.begin_tokens
            found = score(example, example.prefix + example.suffixes[0])[begin : begin + len(middles)]
            sums = [found[(middles >= span.start) & (middles < span.end + 0.5)].sum() for span in case.spans]
            result[name] = best_first(np.array(sums))
        return result

    return ranked


def gradient_times_input(trained: TrainedFold) -> Method:
    """Rank by the gradient of the logit with respect to the embeddings, times the embeddings."""

    def score(example: Any, tokens: list[int]) -> NDArray[np.float64]:
        kept: list[torch.Tensor] = []

        def keep(module: Any, inputs: Any, output: torch.Tensor) -> torch.Tensor:
            kept.append(output.detach().requires_grad_())
            return kept[0]

        with trained.model.get_input_embeddings().register_forward_hook(keep):
            logits = trained.model(**pack([example])).logits
        [gradient] = torch.autograd.grad(logits[0, 1] - logits[0, 0], kept)
        return np.asarray((gradient * kept[0]).float().sum(-1)[0].detach().double().numpy())

    return token_scores(score, trained)


def attention_rollout(trained: TrainedFold) -> Method:
    """Rank by the attention that flows from the pair's last token (Abnar and Zuidema 2020, arXiv 2005.00928)."""
    decoder = trained.model.base_model.model.model

    @torch.no_grad()
    def score(example: Any, tokens: list[int]) -> NDArray[np.float64]:
        implementation = decoder.config._attn_implementation
        decoder.set_attn_implementation("eager")
        try:
            attentions = decoder(torch.tensor([tokens]), output_attentions=True, use_cache=False).attentions
        finally:
            decoder.set_attn_implementation(implementation)
        flow = torch.eye(len(tokens))
        for layer in attentions:
            mixed = layer[0].float().mean(0) / 2 + torch.eye(len(tokens)) / 2
            flow = mixed @ flow
        return np.asarray(flow[-1].double().numpy())

    return token_scores(score, trained)


def similar_words(corpus: Corpus, train: Sequence[str]) -> Method:
    """Rank by the cosine of the TF-IDF vectors of sentence and wording."""
    wording = corpus.criteria.set_index("criterion_id")["criterion"]
    texts = corpus.posts.set_index("post_id")["text"].loc[list(train)]
    vectorizer = TfidfVectorizer(sublinear_tf=True, stop_words="english").fit([*texts, *wording])

    def ranked(case: Case) -> dict[str, list[int]]:
        sentences = vectorizer.transform([case.text[span.start : span.end] for span in case.spans])
        of_names = (sentences @ vectorizer.transform(wording.loc[list(case.annotated)]).T).toarray()
        return {name: best_first(scores) for name, scores in zip(case.annotated, of_names.T, strict=True)}

    return ranked


def word_classifier(corpus: Corpus, train: Sequence[str]) -> Method:
    """Rank by the TF-IDF baseline, trained on the posts that the fold was trained on, with all criteria of each."""
    texts = corpus.posts.set_index("post_id")["text"].loc[list(train)]
    labels = corpus.pairs.pivot(index="post_id", columns="criterion_id", values="label").loc[list(train)]
    baseline = BASELINES["tfidf"]
    features = baseline.features().fit(texts)
    estimators = {name: baseline.estimator().fit(features.transform(texts), labels[name]) for name in labels}

    def ranked(case: Case) -> dict[str, list[int]]:
        sentences = features.transform([case.text[span.start : span.end] for span in case.spans])
        return {name: best_first(estimators[name].decision_function(sentences)) for name in case.annotated}

    return ranked


def best_first(scores: NDArray[np.float64]) -> list[int]:
    """Return the positions of the highest scores."""
    return [int(position) for position in np.argsort(-scores, kind="stable")[:NAMED]]


def hits(case: Case, name: str, ranking: Sequence[int]) -> tuple[float, float]:
    """Return precision at 1 and recall at 3 of one pair."""
    annotated = case.annotated[name]
    return float(set(ranking[:1]) <= annotated and bool(ranking)), len(annotated & set(ranking)) / len(annotated)


def by_chance(case: Case, name: str) -> tuple[float, float]:
    """Return what sentences drawn at random have on average."""
    n_sentences = len(case.spans)
    return len(case.annotated[name]) / n_sentences, min(NAMED, n_sentences) / n_sentences


def with_interval(values: NDArray[np.float64], group: NDArray[np.intp]) -> dict[str, Any]:
    """Return the mean with its interval by resampling posts."""
    n_groups = int(group.max()) + 1
    sums = np.stack([np.bincount(group, values, n_groups), np.bincount(group, minlength=n_groups)])

    def statistic(weights: NDArray[np.float64]) -> NDArray[np.float64]:
        total, number = weights @ sums[0], weights @ sums[1]
        return (total / number)[:, None]

    estimate, draws = bootstrap(statistic, n_groups, len(values), OPTIONS)
    return {**interval(estimate[0], draws[:, 0], OPTIONS.confidence)}


def summarised(table: pd.DataFrame) -> dict[str, Any]:
    """Return both measures with intervals."""
    group = np.unique(table["post_id"], return_inverse=True)[1]
    return {name: with_interval(table[name].to_numpy(), group) for name in ("precision_at_1", "recall_at_3")}


def answered_yes(trained: TrainedFold, cases: Sequence[Case]) -> set[tuple[str, str]]:
    """Return the matched pairs that the fold answers with yes."""
    examples = [trained.prompter.example(case.post_id, case.text, list(case.annotated)) for case in cases]
    logits = score_pairs(trained.model, examples, trained.config.inference.tokens_per_pass)
    pairs = [(case.post_id, name) for case in cases for name in case.annotated]
    decided = trained.decision.decide(pd.DataFrame(pairs, columns=["post_id", "criterion_id"]).assign(logit=logits))
    return {pair for pair, label in zip(pairs, decided["prediction"], strict=True) if label}


def main() -> None:
    """Print a row per method, and write studies/results/evidence.json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--posts", type=int, help="take the first so many test posts with a matched pair; default: all")
    n_posts = parser.parse_args().posts
    corpus, trained = read_twin(), load_checkpoint(SHORT_FOLD, BASE_MODELS)
    train = draw_parts(corpus.posts, WORDS, SIZES)["train"]
    cases = read_cases(corpus, json.loads(TEST_POSTS.read_text(encoding="utf-8")))[:n_posts]
    yes = answered_yes(trained, cases)
    methods = {
        "leave one sentence out": leave_one_out(trained),
        "gradient x input": gradient_times_input(trained),
        "attention rollout": attention_rollout(trained),
        "TF-IDF classifier": word_classifier(corpus, train),
        "TF-IDF similarity to the wording": similar_words(corpus, train),
    }
    n_pairs, n_sentences = sum(len(case.annotated) for case in cases), sum(len(case.spans) for case in cases)
    content: dict[str, Any] = {
        "posts": len(cases),
        "pairs": n_pairs,
        "answered_yes": len(yes),
        "sentences_per_post": n_sentences / len(cases),
        "readings_by_leaving_out": n_sentences + len(cases),
        "methods": {},
    }
    print(f"{len(cases)} posts, {n_pairs} matched pairs, {len(yes)} answered yes, {n_sentences} sentences")
    print("| method | precision at 1 | recall at 3 | the same where the answer is yes | seconds |")
    print("| --- | --- | --- | --- | --- |")
    for name, method in {**methods, "random": None}.items():
        started = time.perf_counter()
        rows = []
        for case in cases:
            rankings = method(case) if method else {}
            for criterion in case.annotated:
                found = hits(case, criterion, rankings[criterion]) if method else by_chance(case, criterion)
                rows.append((case.post_id, criterion, *found))
        seconds = time.perf_counter() - started
        table = pd.DataFrame(rows, columns=["post_id", "criterion_id", "precision_at_1", "recall_at_3"])
        is_yes = [pair in yes for pair in zip(table["post_id"], table["criterion_id"], strict=True)]
        of_all, of_yes = summarised(table), summarised(table[is_yes])
        content["methods"][name] = {"all": of_all, "answered_yes": of_yes, "seconds": seconds}
        cells = [f"{a['estimate']:.3f} ({a['low']:.3f} to {a['high']:.3f})" for a in of_all.values()]
        cells.append(" and ".join(f"{a['estimate']:.3f}" for a in of_yes.values()))
        print(f"| {name} | {' | '.join(cells)} | {seconds:.1f} |", flush=True)
    path = PROJECT / "studies/results/evidence.json"
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
