"""The tables of a cross-validation and of a comparison for a paper; every number comes from the saved summaries."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from mentallam.evaluation.metrics import METRICS, METRICS_BY_NAME, criterion_name
from mentallam.reports.printed_table import Cell, Estimate, Number, PrintedTable, PValue, Spread, table_texts

REPORT_TABLES = ("results", "baselines", "per_criterion", "folds", "data")
"""The tables of a cross-validation."""

COMPARISON_TABLES = ("comparison",)
"""The tables of a comparison of two cross-validations."""

COMPARED_METRICS = ("f1", "macro_f1", "average_precision", "roc_auc")
"""The metrics of the table of baselines."""

PUBLISHED: dict[str, dict[str, Any]] = yaml.safe_load(
    Path(__file__).with_name("published.yml").read_text(encoding="utf-8")
)
"""Published results by the name of their corpus."""

_SYNTHETIC = "SYNTHETIC DATA: these numbers say nothing about people. "


def report_tables(
    summary: dict[str, Any], uncertainty: dict[str, Any], data_statistics: dict[str, Any]
) -> dict[str, str]:
    """Write the tables of a cross-validation.

    Args:
        summary: As `aggregate.summarise` returns it, with `learned_baselines`.
        uncertainty: As `uncertainty.estimate_uncertainty` returns it.
        data_statistics: Statistics of the corpus, as data_processing saves them.

    Returns:
        The texts by the names of `printed_table.table_datasets`, of `REPORT_TABLES`; without any text of a post.
    """
    mark = _SYNTHETIC if summary["synthetic"] else ""
    tables = [
        _results(summary, uncertainty, mark),
        _baselines(uncertainty, published_results(data_statistics), mark),
        _per_criterion(summary, uncertainty, mark),
        _folds(summary, mark),
        _data(summary, data_statistics, mark),
    ]
    return table_texts(tables)


def comparison_tables(comparison: dict[str, Any]) -> dict[str, str]:
    """Write the table of a comparison of two cross-validations, such as of an ablation.

    Args:
        comparison: As `evaluation.comparison.compare_runs` returns it.

    Returns:
        The texts by the names of `printed_table.table_datasets`, of `COMPARISON_TABLES`.
    """
    runs = comparison["runs"]
    caption = (
        f"{_SYNTHETIC if comparison['synthetic'] else ''}Two cross-validations of {comparison['corpus']}, pooled: "
        f"{runs['first']['model']} (run {runs['first']['cv_run_id']}) and {runs['second']['model']} "
        f"(run {runs['second']['cv_run_id']}); {_intervals(comparison['method'])}; p two-sided, paired permutations."
    )
    headings = {"metric": "metric", "first": "first", "second": "second", "difference": "first - second", "p": "p"}
    rows: list[dict[str, Cell]] = [
        {
            "metric": _label(name),
            "first": Number(comparison["first"][name]["estimate"]),
            "second": Number(comparison["second"][name]["estimate"]),
            "difference": _estimate(difference),
            "p": PValue(difference["p_value"]),
        }
        for name, difference in comparison["difference"].items()
    ]
    return table_texts([PrintedTable("comparison", caption, headings, rows)])


def published_results(data_statistics: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the published results on a corpus; None for another corpus, another number of posts, or synthetic data.

    Args:
        data_statistics: corpus, synthetic and n_posts.
    """
    found = PUBLISHED.get(data_statistics["corpus"])
    if found is None or data_statistics["synthetic"] or found["posts"] != data_statistics["n_posts"]:
        return None
    return found


def _results(summary: dict[str, Any], uncertainty: dict[str, Any], mark: str) -> PrintedTable:
    headline, all_positive = uncertainty["headline"], uncertainty["baselines"]["all_positive"]["headline"]

    def row(name: str) -> dict[str, Cell]:
        interval = headline.get(name)
        if name not in summary["pooled"]:  # macro F1, which folds don't have
            trivial = all_positive[name]["estimate"]
            return {"metric": _label(name), "pooled": _estimate(interval), "all_positive": Number(trivial)}
        spread = summary["metrics"][name]
        estimate = summary["pooled"][name]
        return {
            "metric": _label(name),
            "fold": Spread(spread["mean"], spread["std"], spread["n"]),
            "pooled": Estimate(estimate, interval["low"], interval["high"]) if interval else Number(estimate),
            "all_positive": Number(summary["baselines"]["all_positive"][name]),
        }

    caption = (
        f"{mark}Out-of-fold results of {summary['n_folds']} folds: mean and standard deviation over folds; pooled over "
        f"all pairs, {_intervals(uncertainty['method'])}. Last column: yes to every pair."
    )
    headings = {"metric": "metric", "fold": "over folds", "pooled": "pooled", "all_positive": "all-positive"}
    rows = [row(metric.name) for metric in METRICS if metric.name in summary["pooled"] or metric.name in headline]
    return PrintedTable("results", caption, headings, rows)


def _baselines(uncertainty: dict[str, Any], published: dict[str, Any] | None, mark: str) -> PrintedTable:
    caption = (
        f"{mark}The model and classifiers on the same pairs and folds, pooled; difference: model minus classifier; "
        f"{_intervals(uncertainty['method'])}. p (Holm): of F1 alone, two-sided paired permutations, corrected over "
        "the classifiers; the differences of the other metrics are descriptive."
    )
    if published:
        caption += f" Published: {published['source']}; {published['protocol']}."

    def rows() -> Iterator[dict[str, Cell]]:
        for name in COMPARED_METRICS:
            metric = _label(name)
            yield {"metric": metric, "classifier": "model", "value": _estimate(uncertainty["headline"][name])}
            for classifier, other in uncertainty["baselines"].items():
                difference = other["difference"][name]
                corrected: dict[str, Cell] = {"p_holm": PValue(difference["p_holm"])} if "p_holm" in difference else {}
                yield {
                    "metric": metric,
                    "classifier": classifier.replace("_", "-"),
                    "value": _estimate(other["headline"][name]),
                    "difference": _estimate(difference),
                    **corrected,
                }
            for result in (published or {"results": []})["results"]:
                if name in result:
                    yield {
                        "metric": metric,
                        "classifier": f"{result['classifier']}, published",
                        "value": Number(result[name]),
                    }

    headings = {
        "classifier": "classifier",
        "metric": "metric",
        "value": "value",
        "difference": "difference",
        "p_holm": "p (Holm)",
    }
    return PrintedTable("baselines", caption, headings, list(rows()), small=True, grouped_by="metric")


def _per_criterion(summary: dict[str, Any], uncertainty: dict[str, Any], mark: str) -> PrintedTable:
    intervals = {row["criterion_id"]: row["f1"] for row in uncertainty["per_criterion"]}
    rows: list[dict[str, Cell]] = [
        {
            "criterion": criterion_name(row),
            "pairs": row["n"],
            "positive": row["n_positive"],
            "precision": Number(row["precision"]),
            "recall": Number(row["recall"]),
            "f1": Estimate(row["f1"], *(intervals[row["criterion_id"]][bound] for bound in ("low", "high"))),
            "roc_auc": Number(row["roc_auc"]),
        }
        for row in summary["per_criterion"]
    ]
    caption = (
        f"{mark}Results by criterion, pooled over the folds; n+: positive pairs; {_intervals(uncertainty['method'])}."
    )
    if summary["few_positives"]:
        caption += (
            f" With fewer than 20 positive pairs ({len(summary['few_positives'])} criteria) they may be too narrow."
        )
    headings = {"criterion": "criterion", "pairs": "pairs", "positive": "n+"}
    headings |= {name: METRICS_BY_NAME[name].label for name in ("precision", "recall", "f1", "roc_auc")}
    return PrintedTable("per_criterion", caption, headings, rows, small=True)


def _folds(summary: dict[str, Any], mark: str) -> PrintedTable:
    shown = ("f1", "precision", "recall", "roc_auc", "average_precision")
    rows: list[dict[str, Cell]] = [
        {
            "fold": fold["fold"],
            "pairs": fold["n_pairs"],
            "positive": fold["n_positive"],
            "epoch": fold["best_epoch"],
            **{name: Number(fold[name]) for name in ("dev_f1", "threshold", *shown)},
        }
        for fold in summary["folds"]
    ]
    caption = (
        f"{mark}The held-out folds; n+: positive pairs. AP: average precision. Epoch and threshold were chosen on "
        "the dev split."
    )
    headings = {"fold": "fold", "pairs": "pairs", "positive": "n+", "epoch": "epoch", "dev_f1": "dev F1"}
    headings |= {"threshold": "threshold", **{name: METRICS_BY_NAME[name].label for name in shown}}
    headings["average_precision"] = "AP"
    return PrintedTable("folds", caption, headings, rows, small=True)


def _data(summary: dict[str, Any], data: dict[str, Any], mark: str) -> PrintedTable:
    words, duplicates, folds = data["words_per_post"], data["duplicates"], data["folds"]
    facts: dict[str, object] = {
        "corpus": data["corpus"],
        "synthetic": "yes" if data["synthetic"] else "no",
        "data hash, its beginning": data["data_hash"][:16],
        "posts": summary["n_posts"],
        "authors": "not known" if data["n_authors"] is None else data["n_authors"],
        "criteria": len(summary["per_criterion"]),
        "pairs": summary["n_pairs"],
        "positive pairs": summary["n_positive"],
        "base rate": Number(summary["n_positive"] / summary["n_pairs"]).text(),
        "explicit negatives": summary["explicit_negatives"]["n"],
        "posts without a positive pair": data["n_without_symptom"],
        "words per post, median": f"{words['q50']:g}",
        "words per post, from": words["min"],
        "words per post, to": words["max"],
        "near-duplicate sets": "not searched for" if duplicates["handling"] == "ignore" else duplicates["sets"],
        "folds": summary["n_folds"],
        "folds grouped by": folds["group_by"],
        "groups": summary["n_groups"],
        "seed of the folds": folds["seed"],
        "run": summary["cv_run_id"],
    }
    rows: list[dict[str, Cell]] = [{"item": name, "value": str(value)} for name, value in facts.items()]
    return PrintedTable("data", f"{mark}The data.", {"item": "item", "value": "value"}, rows)


def _label(name: str) -> str:
    """Return how tables call a metric; an arrow says that less is better."""
    metric = METRICS_BY_NAME[name]
    return metric.label + (" \N{DOWNWARDS ARROW}" if metric.less_is_better else "")


def _intervals(method: Mapping[str, Any]) -> str:
    return f"in parentheses {100 * method['confidence']:g} % intervals (cluster bootstrap)"


def _estimate(interval: Mapping[str, Any]) -> Estimate:
    return Estimate(interval["estimate"], interval["low"], interval["high"])
