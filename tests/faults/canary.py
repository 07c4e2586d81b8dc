"""A copy of the project in which posts and environment hold canaries: words that must not be found anywhere else."""

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
import yaml

from tests.leaks import SECRETS, find_leaks
from tests.samples import PROJECT

# Each is unique as a whole, and each of its rare words is a canary as well: a vocabulary would hold them one by one.
POST = "The zanthoquell counted glimmerfax until the quonsettle"
SENTENCE = "A wribblestane under the flemptower"
EXPLANATION = "Says ockelbrand of itself"
PREDICTED = "My drizzlewump weighs more than the snarvelocket"
WORDS = [word for text in (POST, SENTENCE, EXPLANATION, PREDICTED) for word in text.split() if len(word) > 9]

# What docs/data-model.md lists as holding text, and the data that the tests spoil or predict on.
TEXT_DATASETS = ("*/data/01_raw/*", "*/02_intermediate/posts.parquet", "spoilt/*")


@dataclass
class CanaryProject:
    """A copy of the project, a home and a folder for temporary files, all below one root.

    The path has spaces and umlauts.
    """

    root: Path
    commands: int = field(default=0, init=False)

    @property
    def project(self) -> Path:
        return self.root / "Projekt für Übungen"

    @property
    def corpus(self) -> Path:
        return self.project / "data/01_raw/sample"

    def prepare(self) -> None:
        """Copy the project, put the canaries into the sample, and make all logs as talkative as they can be."""
        for name in ("home", "tmp", "captured", "spoilt"):
            (self.root / name).mkdir()
        leave_out = shutil.ignore_patterns("__pycache__", "redsm5", "twin", "pairs")
        for name in ("conf", "hydra_configs", "src", "data/01_raw"):
            shutil.copytree(PROJECT / name, self.project / name, ignore=leave_out)
        shutil.copy(PROJECT / "pyproject.toml", self.project)
        posts = pd.read_csv(self.corpus / "redsm5_posts.csv", dtype=str)
        posts.loc[0, "text"] = f"{POST}. {posts.loc[0, 'text']}"  # what shows a frame shows how its texts begin
        posts.to_csv(self.corpus / "redsm5_posts.csv", index=False)
        annotations = pd.read_csv(self.corpus / "redsm5_annotations.csv", dtype=str)
        annotations.loc[0, ["sentence_text", "explanation"]] = SENTENCE, EXPLANATION
        annotations.to_csv(self.corpus / "redsm5_annotations.csv", index=False)
        logs = yaml.safe_load((self.project / "conf/logging.yml").read_text(encoding="utf-8"))
        logs["loggers"] = {name: {"level": "DEBUG"} for name in logs["loggers"]}
        logs["root"] = {"handlers": ["screen"], "level": "DEBUG"}
        (self.root / "debug.yml").write_text(yaml.safe_dump(logs), encoding="utf-8")

    def run(self, *arguments: str, stdin: str | None = None, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run Python with these arguments in the project, and keep what it prints below the root."""
        done = subprocess.run(
            [sys.executable, *arguments],
            cwd=self.project,
            env=self.environment | variables,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=1200,
        )
        self.commands += 1
        # The command line itself is not searched: a text that is predicted on stands there.
        (self.root / "captured" / f"{self.commands}.txt").write_text(done.stdout + done.stderr, encoding="utf-8")
        return done

    def kedro(self, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        return self.run("-m", "kedro", *arguments, **variables)

    @property
    def environment(self) -> dict[str, str]:
        kept = {name: os.environ[name] for name in ("PATH", "OMP_NUM_THREADS", "LANG") if name in os.environ}
        return {
            **kept,
            **SECRETS,
            "HOME": str(self.root / "home"),
            "TMPDIR": str(self.root / "tmp"),
            "PYTHONPATH": str(self.project / "src"),
            "PYTHONFAULTHANDLER": "1",
            "PYTHONUTF8": "1",
            "KEDRO_DISABLE_TELEMETRY": "1",
            "KEDRO_LOGGING_CONFIG": str(self.root / "debug.yml"),
            "MLFLOW_LOGGING_LEVEL": "DEBUG",
            "TRANSFORMERS_VERBOSITY": "debug",
            "HF_HUB_OFFLINE": "1",
            "CUDA_VISIBLE_DEVICES": "",
            "COLUMNS": "300",
        }

    def leaks(self) -> list[str]:
        """Return where a canary is found outside the text datasets."""
        return find_leaks([*WORDS, *SECRETS.values()], self.root, TEXT_DATASETS)
