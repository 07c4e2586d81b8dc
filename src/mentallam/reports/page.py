"""HTML pages of a single file that loads nothing: the file includes the library that draws its figures."""

import json
from base64 import b64encode
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from plotly.graph_objects import Figure
from plotly.offline import get_plotlyjs

from mentallam.reports import style


def html_environment() -> Environment:
    """Return a Jinja environment for HTML that escapes every value: ids, names and wordings come from users."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["script_hash"] = _script_hash
    environment.globals.update(BLUE=style.BLUE, VERMILLION=style.VERMILLION, SYNTHETIC_MARK=style.SYNTHETIC_MARK)
    return environment


def render_figures_page(title: str, figures: Mapping[str, Figure]) -> str:
    """Return figures below one another as one HTML page that loads nothing.

    Args:
        title: The page's title.
        figures: Figures by name; the name, with spaces, is the heading above the figure.
    """
    template = html_environment().get_template("figures.html.j2")
    return template.render(title=title, **figure_context(figures))


def figure_context(figures: Mapping[str, Figure]) -> dict[str, Any]:
    """Return the values that `page.html.j2` needs to draw figures.

    Args:
        figures: Figures by the name under which the page reserves a place for them.
    """
    return {
        "figures": {name: json.loads(figure.to_json()) for name, figure in figures.items()},
        # A browser counts a line break as one character before it compares the hash.
        "plotly_js": Markup(get_plotlyjs().replace("\r\n", "\n")),
    }


def _script_hash(script: str) -> Markup:
    """Return the source that lets a content security policy run this script, and no other."""
    return Markup(f"'sha256-{b64encode(sha256(script.encode()).digest()).decode()}'")
