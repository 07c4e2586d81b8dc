"""A criterion that the model was not trained on: how well its wording alone ranks posts.

Some criteria are left out, SmolLM2 is trained on the pairs of the others, and scores the pairs of those that were left
out, on posts that it was not trained on. Repeated until each criterion was left out once. Beside it: the similarity
of the words of post and criterion (TF-IDF, cosine).

make twin && python studies/own_criteria.py
python studies/own_criteria.py --pairs FOLDER     for a corpus of posts.csv, criteria.csv and groundtruth.csv
python studies/short_fold.py && python studies/own_criteria.py --pairs FOLDER --short-fold
                                                  no training: ask a fold of the twin for all criteria of that corpus
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from short_fold import OVERRIDES, SHORT_FOLD, draw_parts, read_twin, thinned, train_fold
from sklearn.feature_extraction.text import TfidfVectorizer
from study_files import BASE_MODELS, PROJECT

from mentallam.classifier.checkpoint import TrainedFold, load_checkpoint
from mentallam.classifier.prompts import Prompter
from mentallam.classifier.scoring import score_pairs
from mentallam.corpus.readers import Corpus, read_pairs
from mentallam.corpus.schemas import wording_by_id
from mentallam.evaluation.resampling import Interval, UncertaintyOptions, bootstrap, interval
from mentallam.evaluation.weighted import HEADLINE, WeightedMetrics

OPTIONS = UncertaintyOptions(resamples=2000, confidence=0.95, seed=42)


def auc_interval(labels: NDArray[np.int64], scores: NDArray[np.float64], group: NDArray[np.intp]) -> Interval:
    """Return ROC-AUC with its interval by resampling posts."""
    table = pd.DataFrame({"criterion_id": "", "label": labels, "probability": 0.5, "prediction": 0})
    n_groups, column = int(group.max()) + 1, HEADLINE.index("roc_auc")
    metrics = WeightedMetrics(table, group, n_groups, rank=scores)
    estimate, draws = bootstrap(metrics, n_groups, len(table), OPTIONS)
    return interval(estimate[column], draws[:, column], OPTIONS.confidence)


def similarity(texts: list[str], wordings: list[str]) -> NDArray[np.float64]:
    """Return the cosine of the TF-IDF vectors of each text and each wording, (texts, wordings)."""
    vectorizer = TfidfVectorizer(sublinear_tf=True, stop_words="english").fit([*texts, *wordings])
    return np.asarray((vectorizer.transform(texts) @ vectorizer.transform(wordings).T).toarray())


def leave_out(corpus: Corpus, left_out: list[str], parts: dict[str, list[str]], overrides: str) -> pd.DataFrame:
    """Train without some criteria; return the logits of all pairs of the test posts, and which were left out."""
    pairs = thinned(corpus.pairs, parts["train"])
    pairs = pairs[~pairs["criterion_id"].isin(left_out)]
    # Of a post whose only pairs were left out nothing can be learnt.
    known = set(pairs["post_id"])
    learnt = {part: [post_id for post_id in ids if post_id in known] for part, ids in parts.items()}
    criteria = corpus.criteria[~corpus.criteria["criterion_id"].isin(left_out)]
    trained = train_fold(corpus, pairs, learnt, overrides, criteria)
    table = score_test_posts(trained, corpus, parts["test"])
    return table.assign(left_out=table["criterion_id"].isin(left_out))


def score_test_posts(trained: TrainedFold, corpus: Corpus, post_ids: list[str]) -> pd.DataFrame:
    """Return the logits of all pairs of some posts, with all wordings of the corpus."""
    model = trained.config.model
    prompter = Prompter(trained.prompter.tokenizer, model.prompt, wording_by_id(corpus.criteria), model.max_length)
    texts = corpus.posts.set_index("post_id")["text"]
    test = corpus.pairs[corpus.pairs["post_id"].isin(post_ids)]
    examples, tables = [], []
    for post_id, of_post in test.groupby("post_id", sort=False):
        examples.append(prompter.example(str(post_id), texts[post_id], of_post["criterion_id"].tolist()))
        tables.append(of_post)
    logits = score_pairs(trained.model, examples, trained.config.inference.tokens_per_pass, "test")
    return pd.concat(tables)[["post_id", "criterion_id", "label"]].assign(logit=logits)


def figures_of(corpus: Corpus, scored: pd.DataFrame) -> dict[str, dict[str, object]]:
    """Return the ROC-AUC of each criterion by its wording alone, by a model trained on it, and by shared words."""
    wording = wording_by_id(corpus.criteria)
    texts = corpus.posts.set_index("post_id")["text"]
    words = pd.DataFrame(
        similarity(texts[scored["post_id"].unique()].tolist(), list(wording.values())),
        index=scored["post_id"].unique(),
        columns=list(wording),
    )
    untrained = scored[scored["left_out"]]
    # Where several trainings have kept a criterion, the first one counts.
    trained = scored[~scored["left_out"]].drop_duplicates(["post_id", "criterion_id"])
    result = {}
    for name in untrained["criterion_id"].unique():
        rows = untrained[untrained["criterion_id"] == name]
        beside = rows.merge(trained, on=["post_id", "criterion_id"], suffixes=("", "_trained"))
        group = np.unique(rows["post_id"], return_inverse=True)[1]
        labels = rows["label"].to_numpy(np.int64)
        overlap = words[name].loc[rows["post_id"]].to_numpy()
        result[name] = {
            "n_positive": int(labels.sum()),
            "n_pairs": len(labels),
            "untrained": auc_interval(labels, rows["logit"].to_numpy(), group),
            # With few trainings none may have kept it.
            "trained": auc_interval(labels, beside["logit_trained"].to_numpy(), group) if len(beside) else None,
            "words": auc_interval(labels, overlap, group),
        }
    return result


def shown(auc: Interval | None) -> str:
    """Return a figure with its interval."""
    return "not trained" if auc is None else f"{auc['estimate']:.3f} ({auc['low']:.3f} to {auc['high']:.3f})"


def main() -> None:
    """Train without each criterion, or set of criteria; print the table and save it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=Path, help="folder of another corpus; default: the twin")
    parser.add_argument("--short-fold", action="store_true", help="train nothing; ask the fold of short_fold.py")
    parser.add_argument("--at-once", type=int, default=1, help="criteria left out of one training (default 1)")
    parser.add_argument("--trainings", type=int, help="train so many times, so leave out some only; default: all")
    for part, size in (("train", 600), ("dev", 100), ("test", 600)):
        parser.add_argument(f"--{part}", type=int, default=size, help=f"{part} posts (default {size})")
    parser.add_argument("--words", type=int, nargs=2, default=[5, 200], help="least and most words of a post")
    parser.add_argument("--overrides", default=OVERRIDES, help="Hydra overrides (default: %(default)s)")
    arguments = parser.parse_args()
    corpus = read_pairs(arguments.pairs) if arguments.pairs else read_twin()
    sizes = {part: getattr(arguments, part) for part in ("train", "dev", "test")}
    parts = draw_parts(corpus.posts, tuple(arguments.words), sizes)
    names = list(corpus.criteria["criterion_id"])
    started = time.perf_counter(), time.process_time()
    # Every n-th, so that neighbours, which resemble one another, are not left out together.
    n_sets = -(-len(names) // arguments.at_once)
    chosen = range(n_sets)[: arguments.trainings]
    if arguments.short_fold:
        fold = load_checkpoint(SHORT_FOLD, BASE_MODELS)
        scored = [score_test_posts(fold, corpus, parts["test"]).assign(left_out=True)]
    else:
        scored = [leave_out(corpus, names[first::n_sets], parts, arguments.overrides) for first in chosen]
    figures = figures_of(corpus, pd.concat(scored, ignore_index=True))
    print("| criterion | positive of pairs | wording alone | trained on it | shared words |")
    print("| --- | --- | --- | --- | --- |")
    for name, row in figures.items():
        cells = " | ".join(shown(row[column]) for column in ("untrained", "trained", "words"))
        print(f"| {name} | {row['n_positive']} of {row['n_pairs']} | {cells} |")
    others = pd.concat(scored).query("not left_out")
    kept = None
    if len(others):
        group = np.unique(others["post_id"], return_inverse=True)[1]
        kept = auc_interval(others["label"].to_numpy(), others["logit"].to_numpy(), group)
    print(f"all pairs of criteria that were kept, on the same posts: {shown(kept)}")
    seconds = {"wall": time.perf_counter() - started[0], "cpu": time.process_time() - started[1]}
    content = {"posts": sizes, "words": arguments.words, "at_once": arguments.at_once, "overrides": arguments.overrides}
    name = f"own_criteria_{arguments.pairs.name if arguments.pairs else 'twin'}.json"
    path = PROJECT / "studies/results" / name
    path.write_text(
        json.dumps({**content, "seconds": seconds, "criteria": figures, "kept": kept}, indent=2) + "\n",
        encoding="utf-8",
    )


if __name__ == "__main__":
    main()
