"""The report of a learning curve: the answer in a sentence, the figure and the table."""

from typing import Any

from mentallam.evaluation.learning_curve import CURVE_METRICS, MODEL
from mentallam.evaluation.metrics import METRICS_BY_NAME
from mentallam.reports.printed_table import Cell, Estimate, PrintedTable, PValue, table_texts
from mentallam.reports.report import markdown_environment
from mentallam.reports.rounding import figure

TEMPLATE = "learning_curve.md.j2"

CURVE_TABLES = ("learning_curve",)
"""The tables of a learning curve, as `tables.REPORT_TABLES`."""


def render_learning_curve(curve: dict[str, Any]) -> str:
    """Write the report as Markdown, without any text of a post.

    Args:
        curve: As `evaluation.learning_curve.learning_curve` returns it.
    """
    gains = curve_gains(curve).to_markdown().partition("\n\n")[2]
    template = markdown_environment().get_template(TEMPLATE)
    return template.render(curve=curve, answer=answer(curve), table=curve_table(curve).to_markdown(), gains=gains)


def learning_curve_tables(curve: dict[str, Any]) -> dict[str, str]:
    """Write the table for a paper, by the names of `printed_table.table_datasets`."""
    return table_texts([curve_table(curve)])


def answer(curve: dict[str, Any]) -> str:
    """Answer in one sentence whether more annotation would help, as far as these posts can tell."""
    doubling = curve["last_doubling"]
    gain = doubling["difference"][MODEL]["f1"]
    if gain["low"] is None:
        return "F1 is not defined at these sizes, so they cannot tell whether more annotation would help."
    step = f"from {doubling['of']} to {doubling['to']} % of the training posts"
    change = (
        f"{figure(abs(gain['estimate']))} (interval of the difference: {figure(gain['low'])} to {figure(gain['high'])})"
    )
    if gain["low"] > 0:
        return f"F1 still rose by {change} {step}: more annotation is likely to help."
    if gain["high"] < 0:
        return f"F1 fell by {change} {step}: more annotation of this kind did not help, unless one training went badly."
    direction = "rose" if gain["estimate"] >= 0 else "fell"
    return (
        f"F1 {direction} by {change} {step}, which chance alone may explain: these held-out posts cannot tell whether "
        "more annotation would help."
    )


def curve_table(curve: dict[str, Any]) -> PrintedTable:
    """Return the table of each classifier's metrics by size."""
    sizes = {row["size"]: row for row in curve["sizes"]}
    rows: list[dict[str, Cell]] = [
        {
            "classifier": model,
            "size": row["size"],
            "posts": round(sizes[row["size"]]["posts"]),
            "positive": round(sizes[row["size"]]["positive"]),
            **{name: _estimate(row[name]) for name in CURVE_METRICS},
        }
        for model, of_model in curve["curves"].items()
        for row in of_model
    ]
    mark = "SYNTHETIC DATA: these numbers say nothing about people. " if curve["synthetic"] else ""
    confidence = f"{100 * curve['method']['confidence']:g} %"
    caption = (
        f"{mark}Performance by size of the training set, in % of a fold's training posts; posts and n+ (positive "
        f"pairs) are means over the folds that were trained ({len(curve['folds'])}); in parentheses {confidence} "
        "intervals (cluster bootstrap)."
    )
    headings = {"size": "%", "classifier": "classifier", "posts": "posts", "positive": "n+"}
    headings |= {name: METRICS_BY_NAME[name].label for name in CURVE_METRICS}
    return PrintedTable("learning_curve", caption, headings, rows, small=True, grouped_by="classifier")


def curve_gains(curve: dict[str, Any]) -> PrintedTable:
    """Return the table of differences: what the last doubling brought, and how far ahead the model is at each size."""
    doubling = curve["last_doubling"]
    rows: list[dict[str, Cell]] = [
        {"what": f"{model}: {doubling['to']} % minus {doubling['of']} %", **_differences(difference)}
        for model, difference in doubling["difference"].items()
    ]
    rows += [{"what": f"{MODEL} minus {row['than']} at {row['size']} %", **_differences(row)} for row in curve["ahead"]]
    headings = {"what": "difference"}
    for name in CURVE_METRICS:
        headings |= {name: METRICS_BY_NAME[name].label, f"{name}_p": "p (raw)"}
    return PrintedTable("learning_curve_gains", "", headings, rows)


def _differences(metrics: dict[str, Any]) -> dict[str, Cell]:
    cells: dict[str, Cell] = {}
    for name in CURVE_METRICS:
        cells |= {name: _estimate(metrics[name]), f"{name}_p": PValue(metrics[name]["p_value"])}
    return cells


def _estimate(interval: dict[str, Any]) -> Estimate:
    return Estimate(interval["estimate"], interval["low"], interval["high"])
