"""No word of a post and no token of the environment is found outside the text datasets, whatever is done with them."""

import re
import shutil
from pathlib import Path

import pandas as pd
import pytest

from tests.faults.canary import POST, PREDICTED, WORDS, CanaryProject
from tests.faults.fail import BAD_DATA, FAILURES
from tests.leaks import find_leaks
from tests.samples import PROJECT

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> CanaryProject:
    """Run the whole default pipeline with canaries in posts and environment and all logs at DEBUG."""
    place = CanaryProject(tmp_path_factory.mktemp("canary"))
    place.prepare()
    done = place.kedro("run", "--env", "test")
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert "DEBUG" in done.stdout + done.stderr
    return place


def test_the_search_finds_a_canary_where_there_is_one(place: CanaryProject) -> None:
    assert {leak.rpartition(": ")[2] for leak in find_leaks(WORDS, place.corpus)} >= {"zanthoquell", "ockelbrand"}
    assert find_leaks(WORDS, place.project / "data/test/02_intermediate")
    assert place.leaks() == []


def test_training_and_reporting(place: CanaryProject) -> None:
    assert (place.project / "data/test/08_reporting/report.md").is_file()
    assert not (place.root / "home/.config/mlflow").exists()  # MLflow's id of this installation
    assert place.leaks() == []


def test_inference(place: CanaryProject) -> None:
    posts = place.root / "spoilt" / "posts.csv"
    pd.DataFrame({"post_id": ["a", "b"], "text": [PREDICTED, POST]}).to_csv(posts, index=False)
    done = place.kedro("run", "--env", "test", "--pipeline", "inference", "--params", f"input={posts}")
    assert done.returncode == 0, done.stderr[-2000:]
    done = place.kedro(
        "run", "--env", "test", "--pipeline", "inference", "--params", f"input={PREDICTED},overwrite=true"
    )
    assert done.returncode == 1
    assert place.leaks() == []


def test_predict(place: CanaryProject) -> None:
    for text, stdin in ((PREDICTED, None), ("-", PREDICTED)):
        done = place.run("-m", "mentallam", "predict", text, "--env", "test", "--json", stdin=stdin)
        assert done.returncode == 0, done.stderr[-2000:]
    assert place.run("-m", "mentallam", "predict", PREDICTED, "--criterion", POST).returncode == 1
    assert place.leaks() == []


def test_the_served_model(place: CanaryProject) -> None:
    done = place.run(
        str(PROJECT / "tests/faults/serve.py"),
        "mentallam-tiny",
        PYTHONPATH=f"{place.project / 'src'}:{PROJECT}",
        MLFLOW_TRACKING_URI=f"sqlite:///{place.project}/mlflow.db",
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.count("FAILURE") == 8
    assert place.leaks() == []


def test_failures(place: CanaryProject) -> None:
    done = place.run(
        str(PROJECT / "tests/faults/fail.py"),
        str(place.root / "spoilt"),
        PYTHONPATH=f"{place.project / 'src'}:{PROJECT}",
    )
    assert done.returncode == 0, done.stderr[-2000:]
    failed = re.findall(r"^FAILURE (.+): ", done.stdout, re.MULTILINE)
    assert failed == [*BAD_DATA, *FAILURES]
    assert place.leaks() == []


@pytest.mark.parametrize("options", [(), ("--include-previews",)])
def test_viz(place: CanaryProject, options: tuple[str, ...]) -> None:
    done = place.kedro("viz", "build", *options)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert (place.project / "build").is_dir()
    assert place.leaks() == []
    shutil.rmtree(place.project / "build")


def test_no_log_shows_the_variables_of_a_traceback() -> None:
    """Rich shows them on request, and they hold posts."""
    for path in (PROJECT / "conf").rglob("logging*.yml"):
        assert "show_locals" not in Path(path).read_text(encoding="utf-8")
