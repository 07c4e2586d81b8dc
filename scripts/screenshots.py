"""Take screenshots of the latest run: terminal, report, MLflow, Viz and this documentation's site.

It needs a finished `kedro run`, the site that `make docs` builds, and Chromium (Debian: chromium). docs/img has
those of the default run that the quickstart shows. Look at each picture before you commit it: an id may name somebody.

python scripts/screenshots.py [--env ENV] [--to build/screenshots]
"""

import argparse
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Thread

from rich.console import Console
from rich.text import Text
from tenacity import retry, retry_if_exception_type, stop_after_delay, wait_fixed

from mentallam.config_loading import DATA_FOLDER, load_parameters

PROJECT = Path(__file__).resolve().parents[1]
DESKTOP, PHONE = (1280, 860), (390, 844)  # CSS pixels
WIDE = (1700, 960)  # where a panel of the page's own covers the right


def main() -> None:
    """Take all screenshots, and print where each one is."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--env", help="Kedro's environment of the run (default: that of `kedro run`)")
    parser.add_argument(
        "--to", type=Path, default=PROJECT / "build/screenshots", help="folder (default build/screenshots)"
    )
    arguments = parser.parse_args()
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if browser is None:
        sys.exit("no Chromium on this machine; Debian's package is chromium")
    arguments.to.mkdir(parents=True, exist_ok=True)
    env = ["--env", arguments.env] if arguments.env else []
    data = Path(load_parameters(PROJECT, arguments.env)[DATA_FOLDER])

    shown = take_terminal(browser, ["run", *env], arguments.to / "terminal.png")
    report = (data / "08_reporting/report.html").as_uri()
    photograph(browser, report, DESKTOP, arguments.to / "report.png")
    photograph(browser, report, PHONE, arguments.to / "report-phone.png")
    with served("mlflow", "ui", *env) as address:
        [runs] = re.findall(r"http://127\.0\.0\.1:5000(/#/experiments/\S+)", shown)
        photograph(browser, address + runs, WIDE, arguments.to / "mlflow.png")
    with served("viz", "run", "--no-browser", *env) as address:
        photograph(browser, f"{address}/?types=nodes", WIDE, arguments.to / "viz.png")
    with files_served(PROJECT / "build/site") as address:
        photograph(browser, address, DESKTOP, arguments.to / "site.png")
        photograph(browser, address, PHONE, arguments.to / "site-phone.png")


def take_terminal(browser: str, arguments: list[str], picture: Path) -> str:
    """Run a kedro command again, which keeps what is done; draw what it writes and return it."""
    done = subprocess.run(
        [sys.executable, "-m", "kedro", *arguments], cwd=PROJECT, capture_output=True, text=True, check=True
    )
    console = Console(record=True, width=130, file=StringIO())
    console.print(Text(f"$ kedro {' '.join(arguments)}\n{done.stdout}"))
    with TemporaryDirectory() as folder:
        drawing = Path(folder) / "terminal.svg"
        console.save_svg(str(drawing), title="kedro run")
        photograph(browser, drawing.as_uri(), DESKTOP, picture)
    return done.stdout


def photograph(browser: str, address: str, size: tuple[int, int], picture: Path) -> None:
    """Save what a browser's window of a size shows at an address once the page is quiet."""
    with TemporaryDirectory() as profile:
        options = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", f"--user-data-dir={profile}"]
        window = [f"--window-size={size[0]},{size[1]}", "--virtual-time-budget=20000", f"--screenshot={picture}"]
        subprocess.run([browser, *options, *window, address], check=True, capture_output=True, timeout=180)
    print(picture)


@contextmanager
def served(*arguments: str) -> Iterator[str]:
    """Start a kedro command that serves pages; yield its address once it answers."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "kedro", *arguments, "--port", str(port)]
    server = subprocess.Popen(
        command, cwd=PROJECT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    try:
        answer(address := f"http://127.0.0.1:{port}")
        yield address
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait(timeout=30)


@retry(retry=retry_if_exception_type(OSError), wait=wait_fixed(1), stop=stop_after_delay(180))
def answer(address: str) -> None:
    """Wait until a server answers."""
    with urllib.request.urlopen(address, timeout=10):
        pass


class _QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """Leave requests out of what the script prints."""


@contextmanager
def files_served(folder: Path) -> Iterator[str]:
    """Serve a folder's files; yield the address."""
    handler = partial(_QuietHandler, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


if __name__ == "__main__":
    main()
