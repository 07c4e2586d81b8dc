"""A table for a paper, printed as CSV, as LaTeX with booktabs, and as Markdown.

All three have the same rows and are rounded by `rounding`. CSV has a column per number and an empty cell where a figure
is not defined; the others put an estimate and its interval into one cell.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import pandas as pd

from mentallam.latex import as_latex, number_as_latex
from mentallam.markdown import as_text
from mentallam.reports.rounding import figure, p_value
from mentallam.spreadsheets import marked

# LaTeX's classes leave no space between a caption and the table below it.
_SKIP = r"\setlength{\belowcaptionskip}{6pt}"


@dataclass(frozen=True)
class Number:
    """A figure without an interval."""

    value: float | None

    def text(self) -> str:
        """Return the figure."""
        return figure(self.value)

    def fields(self, name: str) -> dict[str, object]:
        """Return the number as a column of a CSV."""
        return {name: _rounded(self.value)}


@dataclass(frozen=True)
class Estimate:
    """A figure and its interval, whose bounds may not be defined."""

    value: float | None
    low: float | None
    high: float | None

    def text(self) -> str:
        """Return the figure, and the bounds in parentheses."""
        bounds = "" if self.low is None else f" ({figure(self.low)}, {figure(self.high)})"
        return figure(self.value) + bounds

    def fields(self, name: str) -> dict[str, object]:
        """Return the numbers as columns of a CSV."""
        return {name: _rounded(self.value), f"{name}_low": _rounded(self.low), f"{name}_high": _rounded(self.high)}


@dataclass(frozen=True)
class Spread:
    """A mean over folds, the standard deviation, and in how many folds the metric is defined."""

    mean: float | None
    std: float | None
    n: int

    def text(self) -> str:
        """Return mean and deviation."""
        return figure(self.mean) + ("" if self.std is None else f" ± {figure(self.std)}")

    def fields(self, name: str) -> dict[str, object]:
        """Return the numbers as columns of a CSV."""
        return {f"{name}_mean": _rounded(self.mean), f"{name}_std": _rounded(self.std), f"{name}_folds": self.n}


@dataclass(frozen=True)
class PValue:
    """A p-value."""

    value: float | None

    def text(self) -> str:
        """Return it rounded."""
        return p_value(self.value)

    def fields(self, name: str) -> dict[str, object]:
        """Return it as a column of a CSV: a text, since the smallest are only bounded."""
        return {name: "" if self.value is None else self.text()}


Cell: TypeAlias = str | int | Number | Estimate | Spread | PValue
"""A text (which may come from a user), a count, or figures."""


@dataclass(frozen=True)
class PrintedTable:
    """A table for a paper.

    Attributes:
        name: Name of its files, and of its label in LaTeX.
        caption: What it shows, in sentences.
        headings: Name of a column in CSV to its heading in print. A row without the column has an empty cell.
        rows: The cells of each row by column.
        small: Whether LaTeX sets it in the smaller of two sizes, since it is wide.
        grouped_by: A column whose value stands on a line of its own above its rows in print; empty for none.
    """

    name: str
    caption: str
    headings: Mapping[str, str]
    rows: Sequence[Mapping[str, Cell]]
    small: bool = False
    grouped_by: str = ""

    def to_csv(self) -> str:
        """Return the table as CSV; what a spreadsheet would take for a formula is marked as text."""
        rows = [
            {field: value for name in self.headings for field, value in _fields(name, row.get(name)).items()}
            for row in self.rows
        ]
        return str(marked(pd.DataFrame(rows)).to_csv(index=False, float_format="%.3f", lineterminator="\n"))

    def to_latex(self) -> str:
        """Return the table as a floating LaTeX table, which needs the package booktabs."""
        printed = self._printed(as_latex, number_as_latex, r"\textit{{{}}}")
        size = r"\scriptsize" if self.small else r"\footnotesize"
        table = printed.style.hide(axis="index").to_latex(
            hrules=True,
            column_format="l" + "r" * (len(printed.columns) - 1),
            position="tbp",
            position_float="centering",
            caption=as_latex(self.caption),
            label=f"tab:{self.name}",
        )
        sized = table.replace("\\centering\n", f"\\centering\n{size}\n\\setlength{{\\tabcolsep}}{{4pt}}\n{_SKIP}\n", 1)
        return f"% \\usepackage{{booktabs}}\n{sized}"

    def to_markdown(self) -> str:
        """Return the table as Markdown."""
        printed = self._printed(as_text, str, "*{}*")
        rules = ["---", *["---:"] * (len(printed.columns) - 1)]
        lines = [printed.columns.tolist(), rules, *printed.to_numpy().tolist()]
        return "\n".join([as_text(self.caption), "", *("| " + " | ".join(line) + " |" for line in lines), ""])

    def _printed(
        self, escape_text: Callable[[str], str], escape_number: Callable[[str], str], emphasis: str
    ) -> pd.DataFrame:
        """Return the cells as texts of a markup; a format string emphasises the line above a group."""

        def cell(content: Cell | None) -> str:
            if content is None:
                return ""
            if isinstance(content, str):
                return escape_text(content)
            return escape_number(str(content) if isinstance(content, int) else content.text())

        shown = [name for name in self.headings if name != self.grouped_by]
        rows, group = list[list[str]](), None
        for row in self.rows:
            if self.grouped_by and row[self.grouped_by] != group:
                group = row[self.grouped_by]
                rows.append([emphasis.format(cell(group)), *[""] * (len(shown) - 1)])
            rows.append([cell(row.get(name)) for name in shown])
        return pd.DataFrame(rows, columns=[escape_text(self.headings[name]) for name in shown], dtype=object)


FORMATS: Mapping[str, Callable[[PrintedTable], str]] = {
    "csv": PrintedTable.to_csv,
    "tex": PrintedTable.to_latex,
    "md": PrintedTable.to_markdown,
}
"""Ending of a file to what writes it."""


def table_datasets(names: Sequence[str]) -> list[str]:
    """Return the datasets of some tables, `table_<name>_<format>`, table by table."""
    return [f"table_{name}_{format_}" for name in names for format_ in FORMATS]


def table_texts(tables: Sequence[PrintedTable]) -> dict[str, str]:
    """Return the texts of some tables by the names of `table_datasets`."""
    texts = (write(table) for table in tables for write in FORMATS.values())
    return dict(zip(table_datasets([table.name for table in tables]), texts, strict=True))


def _fields(name: str, cell: Cell | None) -> dict[str, object]:
    if cell is None:
        return {}
    return {name: cell} if isinstance(cell, str | int) else cell.fields(name)


def _rounded(value: float | None) -> float | None:
    return None if value is None else float(figure(value))
