import re
from importlib import metadata

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from tests.samples import PROJECT

PYTHONS = ("3.10.0", "3.11.0", "3.11.4", "3.12.0", "3.13.0")


def pins() -> list[Requirement]:
    lines = (PROJECT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    return [Requirement(pin) for line in lines if (pin := line.split("#")[0].strip())]


def test_every_pin_is_an_exact_version_and_every_python_has_one() -> None:
    for pin in pins():
        assert re.fullmatch(r"==[^,*]+", str(pin.specifier)), pin
    for python in PYTHONS:
        names = [pin.name for pin in pins() if holds_for(pin, python)]
        assert len(names) == len(set(names))


def test_installed_pins_admit_every_python_that_is_promised() -> None:
    """Pins for another Python are not installed, so each of CI's Pythons checks the pins that it has."""
    refused, looked_at = [], 0
    for pin in pins():
        try:
            found = metadata.distribution(pin.name)
        except metadata.PackageNotFoundError:
            continue
        if not pin.specifier.contains(found.version, prereleases=True):
            continue
        looked_at += 1
        admitted = SpecifierSet(found.metadata.get("Requires-Python") or "")
        refused += [(str(pin), python) for python in PYTHONS if holds_for(pin, python) and python not in admitted]
    assert refused == []
    assert looked_at > 150


def holds_for(pin: Requirement, python: str) -> bool:
    environment = {"python_version": python.rpartition(".")[0], "python_full_version": python}
    return pin.marker is None or pin.marker.evaluate(environment)
