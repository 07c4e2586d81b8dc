"""Pages of one file that load nothing: the library that draws their figures is in them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

if TYPE_CHECKING:
    from plotly.graph_objects import Figure


def html_environment() -> Environment:
    """Jinja set up for HTML: ids, names and wordings come from users, so every value is escaped."""
    return Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def drawn(figures: Mapping[str, Figure]) -> dict[str, Any]:
    """What `page.html.j2` needs to draw figures.

    Args:
        figures: By the names under which the page gives them a place.
    """
    from plotly.offline import get_plotlyjs

    return {
        "figures": {name: json.loads(figure.to_json()) for name, figure in figures.items()},
        "plotly_js": Markup(get_plotlyjs()),
    }
