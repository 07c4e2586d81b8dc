"""The pages in a browser: nothing that users name or word runs, with and without the page's own policy."""

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from mentallam.reports.page import render_figures_page
from tests.unit.conftest import *  # noqa: F403
from tests.unit.reports.hostile_pages import OWNED, PAYLOAD, REPORT_INPUTS, hostile_audit, hostile_report
from tests.unit.seen import Page

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(BROWSER is None, reason="no chromium on this machine; Debian's package is chromium"),
]


def opened(html: str, folder: Path) -> str:
    """Return the document as the browser has it after its scripts have run."""
    file = folder / "page.html"
    file.write_text(html, encoding="utf-8")
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", f"--user-data-dir={folder / 'profile'}"]
    command = [str(BROWSER), *options, "--virtual-time-budget=10000", "--dump-dom", file.as_uri()]
    return subprocess.run(command, capture_output=True, text=True, timeout=180, check=True).stdout


def check(html: str, folder: Path, figures: int) -> None:
    """Check that the page draws its figures and is not taken over."""
    for page in {html, re.sub("<meta http-equiv[^>]*>", "", html)}:  # also where only the escapes protect
        document = opened(page, folder)
        assert f"<title>{OWNED}</title>" not in document
        assert document.count('class="main-svg"') >= figures
        for tag, attributes in Page(document).tags:
            assert not [name for name in attributes if name.startswith("on")], tag
            assert not [value for value in attributes.values() if str(value).startswith("javascript:")], tag


@pytest.fixture
def rendered(request: pytest.FixtureRequest) -> Any:
    return hostile_report(*map(request.getfixturevalue, REPORT_INPUTS))


def test_an_unescaped_payload_does_run(tmp_path: Path) -> None:
    """Otherwise the other tests would prove nothing."""
    assert f"<title>{OWNED}</title>" in opened(f"<title>t</title><p>{PAYLOAD}", tmp_path)


def test_the_policy_alone_stops_an_unescaped_payload(rendered: Any, tmp_path: Path) -> None:
    html = rendered[1].replace("<header>", f"<header>{PAYLOAD}")
    assert f"<title>{OWNED}</title>" not in opened(html, tmp_path)


def test_the_report(rendered: Any, tmp_path: Path) -> None:
    check(rendered[1], tmp_path, len(rendered[3]))


def test_the_data_audit(tmp_path: Path) -> None:
    check(hostile_audit(), tmp_path, 5)


def test_the_figures_in_mlflow(rendered: Any, tmp_path: Path) -> None:
    check(render_figures_page(PAYLOAD, rendered[3]), tmp_path, len(rendered[3]))
