"""Scores of models trained on the synthetic twin against its ceiling, on the held-out posts of the trained folds.

First run `make twin` and `kedro run --env twin`. To train single folds instead of all, run `kedro run --env twin
--pipelines cv_training --to-nodes open_cv_run`, then the same with `--namespaces fold_0` in place of `--to-nodes
open_cv_run` (docs/contracts/cli.md). Then run

python studies/twin_learned.py [FOLD ...]
"""

import argparse

import pandas as pd
from sklearn.metrics import f1_score
from study_files import PROJECT, TWIN

from mentallam.evaluation.resampling import UncertaintyOptions
from mentallam.evaluation.uncertainty import compare_tables

DATA = PROJECT / "data/twin"
PAIR = ["post_id", "criterion_id"]
OPTIONS = UncertaintyOptions(resamples=2000, confidence=0.95, seed=42)


def main() -> None:
    """Print a row per model, and tables by the length of posts and by the number of sentences."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folds", metavar="FOLD", type=int, nargs="*", help="trained folds to compare (default: all)")
    output = DATA / "07_model_output"
    found = sorted((output / "folds").glob("fold_?_predictions.parquet"))
    folds = parser.parse_args().folds or [int(path.name.split("_")[1]) for path in found]
    model = pd.concat([pd.read_parquet(output / f"folds/fold_{fold}_predictions.parquet") for fold in folds])
    baselines = pd.read_parquet(output / "baseline_predictions.parquet").query("fold in @folds")
    symptoms = pd.read_parquet(DATA / "02_intermediate/criteria.parquet")[["criterion_id", "symptom"]]
    truth = pd.read_csv(TWIN / "twin_truth.csv")[["post_id", "symptom", "shown"]]
    pairs = model.merge(symptoms, on="criterion_id").merge(truth, on=["post_id", "symptom"], validate="one_to_one")
    ceiling = f1_score(pairs["label"], pairs["shown"])
    against_shown = f1_score(pairs["shown"], pairs["prediction"])
    print(f"folds {folds}: {pairs['post_id'].nunique()} posts, {len(pairs)} pairs, {pairs['label'].sum()} positive")
    print(f"ceiling {ceiling:.4f}; the model's F1 against what is shown, noise aside: {against_shown:.3f}\n")
    print("| model | F1 | 95 % interval | share of the ceiling |\n| --- | --- | --- | --- |")
    tables = dict([("trained", model), *baselines.groupby("model")])
    # The reader's score is the ceiling, and its interval shows how precisely this many posts can measure a score.
    reader = model.drop(columns="prediction").merge(
        pairs[[*PAIR, "shown"]].rename(columns={"shown": "prediction"}), on=PAIR
    )
    for name, table in [*tables.items(), ("perfect reader", reader)]:
        f1 = compare_tables(table, model, OPTIONS)["first"]["f1"]
        share = f1["estimate"] / ceiling
        print(f"| {name} | {f1['estimate']:.3f} | {f1['low']:.3f} to {f1['high']:.3f} | {share:.3f} |")

    print("\nF1 against what is shown, by the length of posts:")
    print(f"| fifth of posts, tokens | pairs shown | {' | '.join(tables)} |")
    print("| --- | --- |" + " --- |" * len(tables))
    pairs["fifth"] = pd.qcut(pairs["post_tokens"], 5)
    for fifth, chosen in pairs.groupby("fifth", observed=True):
        scores = [f"{f1_score(chosen['shown'], predicted):.3f}" for predicted in _predictions(chosen, tables)]
        print(f"| {fifth.left:.0f} to {fifth.right:.0f} | {chosen['shown'].sum()} | {' | '.join(scores)} |")

    print("\nRecall of what is shown and annotated, by the number of sentences that show it:")
    print(f"| sentences | pairs | {' | '.join(tables)} |")
    print("| --- | --- |" + " --- |" * len(tables))
    evidence = (
        pd.read_csv(TWIN / "redsm5_annotations.csv").query("status == 1").rename(columns={"DSM5_symptom": "symptom"})
    )
    sentences = evidence.groupby(["post_id", "symptom"]).size().rename("sentences").reset_index()
    for number, chosen in pairs.query("shown == 1").merge(sentences, on=["post_id", "symptom"]).groupby("sentences"):
        recalls = [f"{predicted.mean():.3f}" for predicted in _predictions(chosen, tables)]
        print(f"| {number} | {len(chosen)} | {' | '.join(recalls)} |")


def _predictions(pairs: pd.DataFrame, tables: dict[str, pd.DataFrame]) -> list[pd.Series]:
    """Return each model's predictions for these pairs, in their order."""
    return [pairs[PAIR].merge(table, on=PAIR)["prediction"] for table in tables.values()]


if __name__ == "__main__":
    main()
