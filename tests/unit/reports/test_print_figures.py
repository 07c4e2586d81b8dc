import re
import shutil
import sys

import plotly.graph_objects as go
import pytest

from mentallam.errors import MentallamError
from mentallam.reports.print_figures import DOTS_PER_INCH, WIDTH_MM, render_figures
from mentallam.reports.style import new_figure


@pytest.fixture
def figure() -> go.Figure:
    figure = new_figure("threshold", "F1", height=400)
    return figure.add_scatter(x=[0, 1], y=[0.25, 0.75], name="a line", line_color="#D55E00", showlegend=True)


def test_a_missing_extra_is_one_sentence(figure: go.Figure, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "kaleido", None)
    with pytest.raises(MentallamError, match=r"pip install -e '\.\[figures\]'") as error:
        render_figures({"curve": figure})
    assert "\n" not in error.value.message


def test_a_missing_browser_is_one_sentence(figure: go.Figure, monkeypatch: pytest.MonkeyPatch) -> None:
    errors = pytest.importorskip("choreographer.errors")

    def nothing_found(*_: object, **__: object) -> None:
        raise errors.ChromeNotFoundError

    monkeypatch.setattr("kaleido.write_fig_from_object_sync", nothing_found)
    with pytest.raises(MentallamError, match="needs a Chrome or Chromium: install one"):
        render_figures({"curve": figure})


@pytest.mark.skipif(shutil.which("chromium") is None, reason="needs a browser: apt-get install chromium")
def test_each_format_has_the_size_of_print_and_the_colours_of_the_page(figure: go.Figure) -> None:
    pytest.importorskip("kaleido", reason="needs the extra figures")
    files = render_figures({"curve": figure})
    assert sorted(files) == ["curve.pdf", "curve.png", "curve.svg"]
    width_px = round(WIDTH_MM / 25.4 * 96)
    svg = files["curve.svg"].decode()
    assert f'width="{width_px}"' in svg and "rgb(213, 94, 0)" in svg and "a line" in svg
    png = files["curve.png"]
    assert int.from_bytes(png[16:20]) == pytest.approx(WIDTH_MM / 25.4 * DOTS_PER_INCH, abs=3)
    box = re.search(rb"/MediaBox \[0 0 ([\d.]+)", files["curve.pdf"])
    assert box and float(box[1]) == pytest.approx(WIDTH_MM / 25.4 * 72, abs=1)
    assert figure.layout.width is None  # the page's figure stays as it was
