"""Every variable that the project names exists, and the docs list all of them."""

import re

from mentallam.variables import VARIABLES
from tests.samples import PROJECT


def test_only_listed_variables_are_named() -> None:
    files = [path for folder in ("src", "conf", "docs") for path in (PROJECT / folder).rglob("*") if path.is_file()]
    texts = {path: path.read_text(encoding="utf-8") for path in files if path.suffix in (".py", ".yml", ".md", ".j2")}
    # The contract shows a misspelt one, which is refused.
    named = {name for text in texts.values() for name in re.findall(r"\bMENTALLAM_[A-Z_]+\b", text)}
    assert named - {"MENTALLAM_CV_FOLD"} == VARIABLES.keys()


def test_the_contract_lists_every_variable() -> None:
    contract = (PROJECT / "docs" / "contracts" / "cli.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(MENTALLAM_\w+)` \| (.+) \|$", contract, flags=re.MULTILINE)
    assert dict(rows) == VARIABLES
