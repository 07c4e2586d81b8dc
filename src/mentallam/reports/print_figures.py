"""The report's figures as files for a paper: PDF and SVG, which have no resolution, and PNG at 300 dots per inch.

Kaleido draws them with the same plotly.js in a Chrome or Chromium on this machine; nothing is fetched. It is the extra
`figures`, since only a paper needs it (docs/adr/0043).
"""

import tempfile
from collections.abc import Mapping
from pathlib import Path

from plotly.graph_objects import Figure

from mentallam.errors import MentallamError

FORMATS = ("pdf", "svg", "png")
"""Endings of the files of a figure."""

WIDTH_MM = 160
"""Width of a figure: the text of a page of A4 or letter."""

DOTS_PER_INCH = 300
"""Resolution of the PNG."""

_PIXELS_PER_INCH = 96  # of CSS, in which plotly measures
_MM_PER_INCH = 25.4
_FONT = "Helvetica, Arial, Liberation Sans, sans-serif"


def render_figures(figures: Mapping[str, Figure]) -> dict[str, bytes]:
    """Draw figures at the size of print.

    Args:
        figures: Figures by name.

    Returns:
        File name, `<name>.<ending>` with each of `FORMATS`, to its content.

    Raises:
        MentallamError: The extra `figures` or a browser is missing, or the browser does not start.
    """
    try:
        from choreographer.errors import BrowserFailedError, ChromeNotFoundError
        from kaleido import write_fig_from_object_sync
    except ImportError:
        raise MentallamError(
            "print_figures=true needs kaleido: install it with `pip install -e '.[figures]'`"
        ) from None
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        jobs = [
            {"fig": sized.to_plotly_json(), "path": str(folder / f"{name}.{ending}"), "opts": _options(sized, ending)}
            for name, sized in ((name, _for_print(figure)) for name, figure in figures.items())
            for ending in FORMATS
        ]
        try:
            write_fig_from_object_sync(jobs, kopts={"mathjax": False}, cancel_on_error=True)  # MathJax would be fetched
        except ChromeNotFoundError:
            raise MentallamError(
                "print_figures=true needs a Chrome or Chromium: install one (`apt-get install chromium`, or "
                "`kaleido_get_chrome`), or name it in BROWSER_PATH"
            ) from None
        except BrowserFailedError:
            raise MentallamError(
                "print_figures=true: the browser does not start: try `chromium --headless --dump-dom about:blank`, or "
                "name another in BROWSER_PATH"
            ) from None
        return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def _for_print(figure: Figure) -> Figure:
    """Return a copy of the figure at the width of print, in a font that PDF readers have."""
    sized = Figure(figure)
    sized.update_layout(width=round(WIDTH_MM / _MM_PER_INCH * _PIXELS_PER_INCH), font_family=_FONT)
    return sized


def _options(figure: Figure, ending: str) -> dict[str, object]:
    scale = DOTS_PER_INCH / _PIXELS_PER_INCH if ending == "png" else 1
    return {"format": ending, "width": figure.layout.width, "height": figure.layout.height, "scale": scale}
