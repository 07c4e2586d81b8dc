"""The report's HTML page: what it shows, and what it must never load or contain."""

import json
import re
from typing import Any

import pandas as pd
import pytest
from plotly.graph_objects import Figure

from mentallam import __version__
from mentallam.reports.figures import REPORT_FIGURES, report_figures
from mentallam.reports.report_page import render_report_page
from tests.unit.seen import Page, drawn_figures


@pytest.fixture
def figures(oof: pd.DataFrame, criteria: pd.DataFrame) -> dict[str, Figure]:
    return report_figures(oof, criteria, synthetic=True)


@pytest.fixture
def page(report: str, figures: dict[str, Figure]) -> str:
    return render_report_page(report, figures, synthetic=True)


def attributes(page: str, tag: str) -> list[dict[str, str | None]]:
    return [found for name, found in Page(page).tags if name == tag]


def test_it_says_what_the_markdown_says(page: str, summary: dict[str, Any]) -> None:
    text = Page(page).text
    f1 = summary["metrics"]["f1"]
    for words in (
        "Cross-validation report: does this post match this criterion? Research screening, never a diagnosis.",
        f"Written by mentallam {__version__}",
        f"F1 {f1['mean']:.3f} ± {f1['std']:.3f}",
        f"Selection optimism: {summary['selection_optimism']:.3f} (",
        "A.9 SUICIDAL_THOUGHTS",
        "wording of A.9",
        "learning_rate: 0.001",
        "data/06_models/fold_2",
    ):
        assert words in text
    assert text.count("in one file that needs nothing else") == 0  # This page is that file.


def test_every_figure_has_a_place_an_address_and_a_title(page: str, figures: dict[str, Figure]) -> None:
    assert sorted(str(tag["id"]) for tag in attributes(page, "figure")) == sorted(f"figure-{n}" for n in REPORT_FIGURES)
    assert "Precision and recall of each fold and pooled; dots are" in Page(page).text
    assert drawn_figures(page) == {name: json.loads(figure.to_json()) for name, figure in figures.items()}


def test_figures_stand_in_their_sections(page: str) -> None:
    sections = {part.split("</h2>")[0]: part for part in page.split("<h2>")[1:]}
    assert list(sections) == [
        *("Summary", "Checks"),
        *("Data", "Result", "Calibration", "Net benefit", "How epoch and threshold were chosen"),
        *("The served model", "Folds", "Criteria", "Where the errors are", "Baselines", "Uncertainty", "Limits"),
        *("Configuration", "TRIPOD+AI checklist"),
    ]
    assert 'id="plot-roc"' in sections["Result"]
    assert 'id="plot-criterion_f1"' in sections["Criteria"]


def test_the_contents_lead_to_every_section(page: str) -> None:
    links = [tag["href"] for tag in attributes(page, "a")]
    assert links == [f"#{tag['id']}" for tag in attributes(page, "section")]
    assert links[6] == "#7-how-epoch-and-threshold-were-chosen"


def test_the_page_loads_nothing(page: str) -> None:
    found = Page(page).tags
    loading = {"src", "srcset", "data", "action"}
    assert not [tag for tag in found if loading & tag[1].keys()]
    assert all(str(tag["href"]).startswith("#") for tag in attributes(page, "a"))
    assert not {"link", "iframe", "img", "object", "embed", "base"} & {tag for tag, _ in found}
    policy = [tag["content"] for tag in attributes(page, "meta") if tag.get("http-equiv")]
    hashes = r"'sha256-[\w+/]{43}=' 'sha256-[\w+/]{43}='"
    wanted = rf"default-src 'none'; script-src {hashes}; style-src 'unsafe-inline'; img-src data:"
    assert len(policy) == 1 and re.fullmatch(wanted, str(policy[0]))
    assert page.count("plotly.js v") == 1


def test_synthetic_data_are_marked_in_every_section_and_in_every_figure(
    page: str, report: str, oof: pd.DataFrame, criteria: pd.DataFrame
) -> None:
    for section in page.split("<section")[1:]:
        assert "SYNTHETIC DATA" in Page(section.split("<footer>")[0]).text
    assert '<div class="banner">SYNTHETIC DATA</div>' in page
    real = report.replace("SYNTHETIC", "")
    page = render_report_page(real, report_figures(oof, criteria, synthetic=False), synthetic=False)
    assert "SYNTHETIC" not in page


def test_what_users_write_cannot_become_markup(
    report: str, figures: dict[str, Figure], oof: pd.DataFrame, criteria: pd.DataFrame
) -> None:
    evil = "<script>alert(1)</script>"
    page = render_report_page(report.replace("wording of A.1", evil), figures, synthetic=True)
    assert "alert(1)" in Page(page).text and "<script>alert" not in page
    criteria.loc[0, "symptom"] = "</script>" + evil
    page = render_report_page(report, report_figures(oof, criteria, synthetic=True), synthetic=True)
    assert "<script>alert" not in page
    assert [tag for tag, _ in Page(page).tags].count("script") == 2


def test_a_figure_that_is_not_drawn_is_reported(report: str, figures: dict[str, Figure]) -> None:
    del figures["roc"]
    with pytest.raises(KeyError, match="roc"):
        render_report_page(report, figures, synthetic=True)


def test_long_texts_in_tables_are_broken_and_addresses_are_not() -> None:
    report = f"# T\n\n## S\n\n| a | b | c |\n| --- | --- | --- |\n| {'word ' * 9} | `{'x' * 40}` | 0.5 |\n"
    page = render_report_page(report, {}, synthetic=False)
    assert [tag.get("class") for tag in attributes(page, "th")] == [None, None, "n"]
    assert [tag.get("class") for tag in attributes(page, "td")] == ["long", "code", "n"]
