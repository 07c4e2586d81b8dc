"""Print how many mutants of each module the unit tests caught, and every mutant that they missed.

`make test-mutation` runs mutmut, which leaves its results in `mutants/`, and then this program. `equivalent.yml` in
this folder lists the mutants that change no behaviour, with the reason.
"""

import ast
import json
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from difflib import ndiff
from pathlib import Path

import yaml

RESULTS = Path("mutants/src/mentallam")
EQUIVALENT = Path(__file__).parent / "equivalent.yml"
WANTED = 90  # per cent of the mutants of a module that are not equivalent

# Exit codes under mutmut: all tests passed, none was collected, and none reaches the mutant.
_NOT_CAUGHT = {0, 5, 33}


@dataclass(frozen=True)
class Mutant:
    """A mutant: its module and function, the lines that it puts in, and whether a test failed."""

    module: str
    function: str
    lines: str
    caught: bool


def mutants(results: Path) -> Iterator[Mutant]:
    """Yield the mutants of the last run.

    Raises:
        SystemExit: There is no run, or it was interrupted.
    """
    metas = sorted(results.rglob("*.py.meta"))
    for meta in metas:
        source = meta.with_suffix("").read_text(encoding="utf-8")
        lines = source.splitlines()
        functions = {
            node.name: lines[node.lineno - 1 : node.end_lineno]
            for node in ast.walk(ast.parse(source))
            if isinstance(node, ast.FunctionDef)
        }
        module = ".".join(meta.relative_to(results).with_suffix("").with_suffix("").parts)
        for key, code in json.loads(meta.read_text(encoding="utf-8"))["exit_code_by_key"].items():
            if code is None:
                sys.exit("The last run was interrupted: run make test-mutation again")
            name = key.rsplit(".", 1)[1]
            original = name.rsplit("__mutmut_", 1)[0] + "__mutmut_orig"
            # mutmut gives every copy another name.
            before, after = ([line.replace(copy, "f") for line in functions[copy]] for copy in (original, name))
            put_in = "\n".join(line[2:].strip() for line in ndiff(before, after) if line.startswith("+ "))
            function = original.removesuffix("__mutmut_orig").removeprefix("x_").split("ǁ")[-1]
            yield Mutant(module, function, put_in, code not in _NOT_CAUGHT)
    if not metas:
        sys.exit(f"There are no results in {results}: run make test-mutation")


def main() -> int:
    """Print the table and the survivors; return 1 if a module falls short."""
    reasons = {
        (entry["module"], entry["function"], line.strip()): entry["reason"]
        for entry in yaml.safe_load(EQUIVALENT.read_text(encoding="utf-8")) or []
        for line in entry["lines"]
    }
    found = list(mutants(RESULTS))
    of_module: dict[str, Counter[str]] = {}
    survived, used = [], set()
    for mutant in found:
        entry = mutant.module, mutant.function, mutant.lines
        equivalent = entry in reasons and not mutant.caught
        used |= {entry} if equivalent else set()
        kind = "caught" if mutant.caught else "equivalent" if equivalent else "survived"
        of_module.setdefault(mutant.module, Counter())[kind] += 1
        survived += [mutant] if kind == "survived" else []

    for mutant in survived:
        print(f"survived in {mutant.module}.{mutant.function}:\n    {mutant.lines}")
    print("\n| module | mutants | caught | equivalent | survived | caught of those not equivalent |")
    print("| --- | --- | --- | --- | --- | --- |")
    short = []
    for module, count in [*sorted(of_module.items()), ("all", sum(of_module.values(), Counter()))]:
        share = 100 * count["caught"] / (count["caught"] + count["survived"])
        kinds = " | ".join(str(count[kind]) for kind in ("caught", "equivalent", "survived"))
        print(f"| {module} | {count.total()} | {kinds} | {share:.1f} % |")
        short += [module] if share < WANTED else []
    for module, function, line in sorted(entry for entry in reasons.keys() - used if entry[0] in of_module):
        print(f"equivalent.yml lists a mutant of {module}.{function} that is caught or no longer made: {line}")
    if short:
        print(f"Less than {WANTED} % caught: {', '.join(short)}")
    return 1 if short else 0


if __name__ == "__main__":
    sys.exit(main())
