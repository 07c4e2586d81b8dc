"""The command `mentallam` in a folder that is no project, as a wheel's user runs it."""

import json
import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mentallam.classifier.checkpoint import TrainedFold, save_checkpoint
from mentallam.serving.export import export_model

TEXT = "I have been awake until four every night this month, and I am so tired."


@dataclass(frozen=True)
class Outside:
    """An installed command, and an empty folder to run it in.

    Attributes:
        command: What starts it.
        root: The parent of the folder, of the user's home and of the models.
        variables: Further environment variables.
    """

    command: Sequence[str]
    root: Path
    variables: dict[str, str]

    @property
    def folder(self) -> Path:
        """Where the command runs."""
        return self.root / "empty"

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        self.folder.mkdir(exist_ok=True)
        hidden = {"PYTHONPATH", "XDG_CACHE_HOME", "MENTALLAM_BASE_MODELS"}
        kept = {name: value for name, value in os.environ.items() if name not in hidden}
        environment = {**kept, "HOME": str(self.root / "home"), **self.variables}
        command = [*self.command, *arguments]
        return subprocess.run(command, cwd=self.folder, env=environment, capture_output=True, text=True, timeout=600)

    def answer(self, model: Path) -> dict[str, Any]:
        """Return what `mentallam predict --json` prints."""
        done = self.run("predict", "--json", "--model", str(model), TEXT)
        assert done.returncode == 0, done.stderr[-3000:]
        answer: dict[str, Any] = json.loads(done.stdout)
        return answer


def save_models(trained: TrainedFold, folder: Path) -> tuple[Path, Path]:
    """Write a fold as a checkpoint and as an exported model, and return their folders."""
    checkpoint, exported = folder / "models" / "fold_1", folder / "models" / "exported"
    save_checkpoint(trained, checkpoint)
    export_model(checkpoint, exported, Path(trained.base.folder).parent, "auto")
    return checkpoint, exported


def check_commands(outside: Outside, version: str, models: Sequence[Path]) -> None:
    """Check that the command answers from each folder alike, says what needs a project, and leaves nothing behind."""
    assert outside.run("--version").stdout == f"mentallam {version}\n"
    assert "predict" in outside.run("--help").stdout
    first, *others = (outside.answer(model) for model in models)
    assert first["model"]["run_id"] == "fold-run"
    assert [row["criterion_id"] for row in first["answers"]] == ["A.1", "A.4", "A.6"]
    assert all(other == first for other in others)
    refused = outside.run("report")
    assert refused.returncode == 1 and refused.stdout == ""
    assert refused.stderr.startswith("Error: there is no mentallam project here") and refused.stderr.count("\n") == 1
    assert list(outside.folder.iterdir()) == []
    assert (outside.root / "home" / ".cache" / "mentallam" / "base_models").is_dir()
