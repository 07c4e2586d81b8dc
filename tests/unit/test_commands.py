"""Each command in README.md and docs/ exists, with its options, parameters and names."""

import ast
import re
from pathlib import Path

import pytest

from tests.commands import PAGES, Block, WrongCommandError, blocks, check, commands, commands_of, inline
from tests.samples import PROJECT

BLOCKS = [block for page in PAGES for block in blocks(page)]
COMMANDS = [block for block in BLOCKS if block.language in ("", "console") and not block.exempt]


@pytest.mark.parametrize("block", COMMANDS, ids=lambda block: block.place)
def test_every_command_of_a_block_exists_with_its_options(block: Block) -> None:
    found = list(commands_of(block))
    assert found, "a block that holds no command names a language, such as text or json"
    for command in found:
        check(command)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(PROJECT)))
def test_every_command_in_a_sentence_exists_with_its_options(page: Path) -> None:
    for command in inline(page):
        check(command, whole=False)


@pytest.mark.parametrize(
    "block", [block for block in BLOCKS if block.language == "python"], ids=lambda block: block.place
)
def test_what_a_python_block_imports_exists(block: Block) -> None:
    for node in ast.walk(ast.parse(block.text)):
        if isinstance(node, ast.ImportFrom) and str(node.module).startswith("mentallam"):
            source = (
                PROJECT.joinpath("src", *str(node.module).split(".")).with_suffix(".py").read_text(encoding="utf-8")
            )
            for name in node.names:
                assert re.search(rf"\b{name.name}\b", source), (block.place, name.name)


def test_few_blocks_are_not_checked() -> None:
    exempt = [block.place.partition(":")[0] for block in BLOCKS if block.exempt]
    assert exempt == ["docs/export.md"] * 3


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        ("kedro run --pipeline infrence", "did you mean inference"),
        ("kedro run --pipline inference", "No such option"),
        ("kedro run --env mentalam", "there is no folder mentalam"),
        ("kedro run --namespaces fold_9 --pipelines cv_training", "there is no such name"),
        ("kedro run --params inptu=x.csv --pipeline inference", "did you mean input"),
        ("kedro run --params folds.seed=-1", "folds.seed is -1"),
        ("kedro run --pipeline inference --params monitor.psi=0.1", "would change nothing"),
        ('kedro run --params "overrides=training.max_epoch=1"', "max_epoch"),
        ('kedro run --pipeline inference --params "overrides=training.max_epochs=1"', "training.max_epochs"),
        ("kedro run --runner SequentalRunner", "no such runner"),
        ("MENTALLAM_CV_FOLD=2 kedro run", "did you mean MENTALLAM_CV_FOLDS"),
        ("kedro vizz", "No such command"),
        ("mentallam predict --exlain text", "No such option"),
        ("mentallam dokter", "No such command"),
        ("mentallam seeds 42 142 --vary fold", "is not one of"),
        ("mentallam seeds 42 142 --params fold.seed=1", "nothing reads the parameter"),
        ("make rnu", "no target rnu"),
        ("make test-faults LNG=1", "no variable LNG"),
        ('make bench-training OPTIONS="--quik"', "no option --quik"),
        ("python studies/nothing.py", "no file"),
        ("python studies/coverage.py --study 10", "no option --study"),
        ("python -m mentallam.corpus.synthetic --size 1", "no option --size"),
        ("pytest tests/unit/test_nothing.py", "no file"),
        ("pip install -e '.[figure]'", "no extra figure"),
        ("sbatch scripts/slurm.sh", "no file"),
        ("sbatch scripts/slurm_cv.sh --env mental", "there is no folder mental"),
        ("docker build --file scripts/train.Dockerfile .", "no file"),
        ("docker run --rm mentallam:cuda kedro run --env mental", "there is no folder mental"),
        ("docker compose --file scripts/compose.yml up --env-file scripts/composed.env", "no file"),
        ("docker compose --file scripts/compose.yml run --rm trainer", "no service trainer"),
        ("docker compose --file scripts/compose.yml run --rm training kedro rnu", "No such command"),
        ("kedro airflow create --jinja-file scripts/dag.j2", "no file"),
        ("kubectl create --filename scripts/ray.yml", "no file"),
        ("sky jobs launch scripts/skypilot.yml --env MLFLOW_URI=x", "no variable MLFLOW_URI"),
        ("kedr run", "no program"),
    ],
)
def test_a_wrong_command_is_found(command: str, reason: str) -> None:
    with pytest.raises(WrongCommandError, match=re.escape(reason)):
        for one in commands(command, "page:1"):
            check(one)
