import platform
from importlib.metadata import version

from mentallam.provenance import machine_facts, package_versions


def test_versions_are_those_that_are_installed() -> None:
    versions = package_versions()
    assert versions["torch"] == version("torch")
    assert {"mentallam", "mlflow", "transformers"} <= versions.keys()


def test_facts_do_not_name_the_machine() -> None:
    facts = machine_facts()
    assert facts["python"] == platform.python_version()
    assert facts["memory_bytes"] > 2**20
    assert platform.node() not in {str(value) for value in facts.values()}
