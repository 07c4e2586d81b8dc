"""Every number of every printed table is that of the summaries, under the rounding rule, in all three formats."""

import io
import re
import shutil
import subprocess
from itertools import count
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from mentallam.evaluation.comparison import ReportedRun, compare_runs
from mentallam.evaluation.metrics import METRICS, METRICS_BY_NAME
from mentallam.evaluation.resampling import UncertaintyOptions
from mentallam.reports.printed_table import table_datasets
from mentallam.reports.tables import (
    COMPARED_METRICS,
    COMPARISON_TABLES,
    PUBLISHED,
    REPORT_TABLES,
    comparison_tables,
    published_results,
    report_tables,
)
from tests.unit.reports.hostile_pages import PAYLOAD
from tests.unit.reports.test_table_columns import distinct
from tests.unit.seen import tables

Facts = dict[str, Any]
Rows = list[dict[str, list[float]]]
BOUNDS = ("estimate", "low", "high")
PRINTED = r"-?\d+\.\d{3}(?!\d)|(?<![\w.])-?\d+(?![\w.])"


@pytest.fixture
def facts(summary: Facts, uncertainty: Facts, data_statistics: Facts) -> tuple[Facts, Facts, Facts]:
    """Return the inputs with a different number in place of each."""
    numbers = count(100)
    return tuple(distinct(part, numbers) for part in (summary, uncertainty, data_statistics))  # type: ignore[return-value]


@pytest.fixture
def comparison(
    oof: pd.DataFrame,
    baseline: pd.DataFrame,
    data_statistics: Facts,
    criteria: pd.DataFrame,
    options: UncertaintyOptions,
) -> Facts:
    runs = (
        ReportedRun(f"{name}-run", table, data_statistics, criteria, name)
        for name, table in {"a": oof, "b": baseline}.items()
    )
    return compare_runs(*runs, options)


def latex_rows(text: str) -> list[list[str]]:
    """Return the cells of a LaTeX table, the header first, with its escapes undone."""
    body = text.partition("\\toprule\n")[2].partition("\\bottomrule")[0].replace("\\midrule\n", "")
    plain = body.replace("$-$", "-").replace("$<$", "<").replace("$\\pm$", "±").replace("\\_", "_")
    return [line.removesuffix(" \\\\").split(" & ") for line in plain.splitlines()]


def numbers_of(cell: object) -> list[float]:
    return [float(number) for number in re.findall(PRINTED, str(cell))]


def printed(texts: Facts, name: str) -> list[Rows]:
    """Return the numbers of a table by row and heading, of its Markdown and of its LaTeX; an empty cell has none."""
    [markdown] = tables(texts[f"table_{name}_md"]).values()
    both = []
    for header, *rows in (markdown, latex_rows(texts[f"table_{name}_tex"])):
        assert all(len(row) == len(header) for row in rows)
        both.append([dict(zip(header[1:], map(numbers_of, row[1:]), strict=True)) for row in rows if any(row[1:])])
    return both


def csv_of(texts: Facts, name: str) -> list[Facts]:
    table = pd.read_csv(io.StringIO(texts[f"table_{name}_csv"]), keep_default_na=False, na_values=[""])
    return [{column: value for column, value in row.items() if pd.notna(value)} for row in table.to_dict("records")]


def interval(bounds: Facts) -> list[float]:
    return [bounds[name] for name in BOUNDS]


def named(column: str, bounds: Facts) -> Facts:
    return dict(zip((column, f"{column}_low", f"{column}_high"), interval(bounds), strict=True))


def test_the_results(facts: tuple[Facts, Facts, Facts]) -> None:
    summary, uncertainty, _ = facts
    texts = report_tables(*facts)
    assert list(texts) == table_datasets(REPORT_TABLES)
    expected: Rows = []
    in_csv: list[Facts] = []
    for metric in METRICS:
        bounds = uncertainty["headline"].get(metric.name)
        if metric.name == "macro_f1":
            trivial = uncertainty["baselines"]["all_positive"]["headline"]["macro_f1"]["estimate"]
            expected.append({"over folds": [], "pooled": interval(bounds), "all-positive": [trivial]})
            in_csv.append({"metric": "macro F1", **named("pooled", bounds), "all_positive": trivial})
            continue
        pooled, spread = summary["pooled"][metric.name], summary["metrics"][metric.name]
        trivial = summary["baselines"]["all_positive"][metric.name]
        known = {**bounds, "estimate": pooled} if bounds else None
        expected.append(
            {
                "over folds": [spread["mean"], spread["std"]],
                "pooled": interval(known) if known else [pooled],
                "all-positive": [trivial],
            }
        )
        in_csv.append(
            {
                "metric": metric.label + (" ↓" if metric.less_is_better else ""),
                **{"fold_mean": spread["mean"], "fold_std": spread["std"], "fold_folds": spread["n"]},
                **(named("pooled", known) if known else {"pooled": pooled}),
                "all_positive": trivial,
            }
        )
    assert printed(texts, "results") == [expected, expected]
    assert csv_of(texts, "results") == in_csv


def test_the_baselines(facts: tuple[Facts, Facts, Facts]) -> None:
    summary, uncertainty, data = facts
    data |= {"corpus": "ReDSM5", "synthetic": False, "n_posts": 1484}
    texts = report_tables(summary, uncertainty, data)
    expected: Rows = []
    in_csv: list[Facts] = []
    for name in COMPARED_METRICS:
        metric, nothing = METRICS_BY_NAME[name].label, {"difference": [], "p (Holm)": []}
        expected.append({**nothing, "value": interval(uncertainty["headline"][name])})
        in_csv.append({"classifier": "model", "metric": metric, **named("value", uncertainty["headline"][name])})
        for classifier, other in uncertainty["baselines"].items():
            value, difference = other["headline"][name], other["difference"][name]
            cells = {"value": interval(value), "difference": interval(difference)}
            corrected = {"p_holm": difference["p_holm"]} if name == "f1" else {}
            expected.append({**cells, "p (Holm)": [*corrected.values()]})
            in_csv.append(
                {
                    **{"classifier": classifier.replace("_", "-"), "metric": metric, **corrected},
                    **named("value", value),
                    **named("difference", difference),
                }
            )
        for result in PUBLISHED["ReDSM5"]["results"]:
            if name in result:
                expected.append({**nothing, "value": [result[name]]})
                known = f"{result['classifier']}, published"
                in_csv.append({"classifier": known, "metric": metric, "value": result[name]})
    assert printed(texts, "baselines") == [expected, expected]
    assert csv_of(texts, "baselines") == in_csv
    assert len(in_csv) == 4 * 5 + 2 * 4
    assert "arXiv 2508.03399" in texts["table_baselines_md"]


@pytest.mark.parametrize("other", [{"synthetic": True}, {"corpus": "synthetic twin"}, {"n_posts": 17}])
def test_published_results_belong_to_one_corpus(data_statistics: Facts, other: Facts) -> None:
    data = {**data_statistics, "corpus": "ReDSM5", "synthetic": False, "n_posts": 1484}
    assert published_results(data) == PUBLISHED["ReDSM5"]
    assert published_results({**data, **other}) is None


def test_without_published_results_none_is_named(summary: Facts, uncertainty: Facts, data_statistics: Facts) -> None:
    assert "published" not in "".join(report_tables(summary, uncertainty, data_statistics).values()).lower()


def test_the_criteria(facts: tuple[Facts, Facts, Facts]) -> None:
    summary, uncertainty, _ = facts
    texts = report_tables(*facts)
    expected: Rows = []
    in_csv: list[Facts] = []
    for row, bounds in zip(summary["per_criterion"], uncertainty["per_criterion"], strict=True):
        f1 = {**bounds["f1"], "estimate": row["f1"]}
        counts = {"pairs": [row["n"]], "n+": [row["n_positive"]]}
        numbers = {heading: [row[heading]] for heading in ("precision", "recall")}
        expected.append({**counts, **numbers, "F1": interval(f1), "ROC-AUC": [row["roc_auc"]]})
        in_csv.append(
            {
                **{"criterion": f"{row['criterion_id']} {row['symptom']}", "pairs": row["n"]},
                **{"positive": row["n_positive"], **named("f1", f1)},
                **{name: row[name] for name in ("precision", "recall", "roc_auc")},
            }
        )
    assert printed(texts, "per_criterion") == [expected, expected]
    assert csv_of(texts, "per_criterion") == in_csv


def test_the_folds(facts: tuple[Facts, Facts, Facts]) -> None:
    columns = {
        **{"pairs": "n_pairs", "positive": "n_positive", "epoch": "best_epoch", "dev_f1": "dev_f1"},
        **{name: name for name in ("threshold", "f1", "precision", "recall", "roc_auc", "average_precision")},
    }
    texts = report_tables(*facts)
    folds = facts[0]["folds"]
    expected = [[[fold[key]] for key in columns.values()] for fold in folds]
    for rows in printed(texts, "folds"):
        assert [list(row.values()) for row in rows] == expected
    in_csv = [{"fold": fold["fold"], **{name: fold[key] for name, key in columns.items()}} for fold in folds]
    assert csv_of(texts, "folds") == in_csv


def test_the_data_statement(summary: Facts, uncertainty: Facts, data_statistics: Facts) -> None:
    texts = report_tables(summary, uncertainty, data_statistics)
    [markdown] = tables(texts["table_data_md"]).values()
    table = pd.read_csv(io.StringIO(texts["table_data_csv"]), dtype=str)
    assert (
        [[name, value.replace("\\.", ".")] for name, value in markdown[1:]]
        == latex_rows(texts["table_data_tex"])[1:]
        == table.to_numpy().tolist()
    )
    values = dict(table.to_numpy().tolist())
    assert values == {
        **{"corpus": "the sample", "synthetic": "yes", "data hash, its beginning": "ab" * 8, "run": "parent"},
        **{"posts": "60", "authors": "45", "criteria": "9", "pairs": "540", "groups": "60", "folds": "5"},
        "positive pairs": str(summary["n_positive"]),
        "base rate": f"{summary['n_positive'] / 540:.3f}",
        "explicit negatives": "0",
        "posts without a positive pair": "14",
        **{"words per post, median": "41.5", "words per post, from": "14", "words per post, to": "97"},
        **{"near-duplicate sets": "0", "folds grouped by": "post_id", "seed of the folds": "42"},
    }


def test_the_comparison(comparison: Facts) -> None:
    comparison = distinct(comparison, count(100))
    texts = comparison_tables(comparison)
    assert list(texts) == table_datasets(COMPARISON_TABLES)
    expected: Rows = []
    in_csv: list[Facts] = []
    for name, difference in comparison["difference"].items():
        parts = {side: comparison[side][name]["estimate"] for side in ("first", "second")}
        cells = {side: [value] for side, value in parts.items()}
        expected.append({**cells, "first - second": interval(difference), "p": [difference["p_value"]]})
        label = METRICS_BY_NAME[name].label + (" ↓" if METRICS_BY_NAME[name].less_is_better else "")
        in_csv.append({"metric": label, **parts, **named("difference", difference), "p": difference["p_value"]})
    assert printed(texts, "comparison") == [expected, expected]
    assert csv_of(texts, "comparison") == in_csv


def test_negative_and_small_numbers_and_those_that_are_not_defined(
    summary: Facts, uncertainty: Facts, data_statistics: Facts
) -> None:
    uncertainty["baselines"]["tfidf"]["difference"]["f1"] = {
        "estimate": -0.0504,
        "low": -0.1,
        "high": 0.2,
        "p_holm": 1e-4,
    }
    uncertainty["per_criterion"][0]["f1"] |= {"low": None, "high": None}
    summary["per_criterion"][0] |= {"f1": 0.0, "roc_auc": None}
    texts = report_tables(summary, uncertainty, data_statistics)
    assert "| -0.050 (-0.100, 0.200) | < 0.001 |" in texts["table_baselines_md"]
    assert "& $-$0.050 ($-$0.100, 0.200) & $<$ 0.001 \\\\" in texts["table_baselines_tex"]
    assert ",-0.050,-0.100,0.200,< 0.001\n" in texts["table_baselines_csv"]
    assert "| 0.000 | not defined |" in texts["table_per_criterion_md"]
    assert "0.000,,," in texts["table_per_criterion_csv"]


def test_ids_are_texts_in_every_format(summary: Facts, uncertainty: Facts, data_statistics: Facts) -> None:
    for row, name in zip(summary["per_criterion"], ("=1+1", "a|b", "[2pt]", "50 % & \\input{x}"), strict=False):
        row |= {"criterion_id": name, "symptom": name}
    for row, name in zip(uncertainty["per_criterion"], ("=1+1", "a|b", "[2pt]", "50 % & \\input{x}"), strict=False):
        row["criterion_id"] = name
    texts = report_tables(summary, uncertainty, data_statistics)
    names = [line.partition(",")[0] for line in texts["table_per_criterion_csv"].splitlines()[1:5]]
    assert names == ["'=1+1", "a|b", "[2pt]", "50 % & \\input{x}"]
    assert "| a\\|b |" in texts["table_per_criterion_md"]
    assert "\n{[}2pt] & " in texts["table_per_criterion_tex"]
    assert "50 \\% \\& \\textbackslash{}input\\{x\\} & " in texts["table_per_criterion_tex"]


def test_synthetic_data_are_marked(
    summary: Facts, uncertainty: Facts, data_statistics: Facts, comparison: Facts
) -> None:
    texts = {**report_tables(summary, uncertainty, data_statistics), **comparison_tables(comparison)}
    assert all("SYNTHETIC DATA" in text for name, text in texts.items() if not name.endswith("csv"))
    summary["synthetic"] = comparison["synthetic"] = False
    texts = {**report_tables(summary, uncertainty, data_statistics), **comparison_tables(comparison)}
    assert not any("SYNTHETIC DATA" in text for text in texts.values())


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="needs a TeX engine: apt-get install texlive-latex-base")
@pytest.mark.parametrize("payload", ["", PAYLOAD])
def test_the_tables_compile_in_a_plain_article_and_fit_its_width(
    summary: Facts, uncertainty: Facts, data_statistics: Facts, comparison: Facts, tmp_path: Path, payload: str
) -> None:
    data_statistics |= {"corpus": f"ReDSM5{payload}", "synthetic": False, "n_posts": 1484}
    summary["per_criterion"][0]["symptom"] += payload.replace("\u2028", "")
    texts = {**report_tables(summary, uncertainty, data_statistics), **comparison_tables(comparison)}
    latex = [text for name, text in texts.items() if name.endswith("tex")]
    lines = [r"\documentclass{article}", r"\usepackage{booktabs}", r"\begin{document}", *latex, r"\end{document}"]
    (tmp_path / "tables.tex").write_text("\n".join(lines), encoding="utf-8")
    command = ["pdflatex", "-no-shell-escape", "-halt-on-error", "-interaction=nonstopmode", "tables.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, errors="replace")
    assert done.returncode == 0, done.stdout[-2000:]
    assert (tmp_path / "tables.pdf").is_file()
    assert payload or "Overfull" not in done.stdout, re.findall("Overfull.*", done.stdout)
