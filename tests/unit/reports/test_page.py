"""Figures on a page of their own, which needs no network."""

import json

import pandas as pd
from plotly.offline import get_plotlyjs

from mentallam.reports.figures import REPORT_FIGURES, report_figures
from mentallam.reports.page import render_figures_page
from tests.unit.reports.hostile_pages import PAYLOAD
from tests.unit.seen import Page, drawn_figures


def test_the_figures_page_draws_all_in_their_order_and_includes_the_library_once(
    oof: pd.DataFrame, criteria: pd.DataFrame
) -> None:
    figures = report_figures(oof, criteria, synthetic=True)
    page = render_figures_page("Figures of fold 0", figures)
    assert drawn_figures(page) == {name: json.loads(figure.to_json()) for name, figure in figures.items()}
    seen = Page(page)
    places = [str(tag["id"]) for _, tag in seen.tags if str(tag.get("id")).startswith("plot-")]
    assert places == [f"plot-{name}" for name in REPORT_FIGURES]
    assert "Figures of fold 0 precision recall roc" in seen.text
    assert page.count(get_plotlyjs()[-200:]) == 1


def test_the_figures_page_loads_nothing() -> None:
    seen = Page(render_figures_page(PAYLOAD, {}))
    assert not [name for name, tag in seen.tags if {"src", "href", "data", "onerror", "onload"} & tag.keys()]
    assert [tag for _, tag in seen.tags if "default-src 'none'" in str(tag.get("content"))]
