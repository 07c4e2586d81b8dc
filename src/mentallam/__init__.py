"""mentallam: does this post match this DSM-5 depression criterion?"""

import logging
import os

# The one place of the version: pyproject.toml reads it, and a test holds CITATION.cff and CHANGELOG.md to it.
__version__ = "0.2.0"

# MLflow would report to its makers, under an id that it keeps in the home folder. It decides when it is imported.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")

# At DEBUG, Kedro logs each hook's arguments: the posts that a node takes, and the words of a command.
for _traced in ("kedro.framework.hooks.manager", "kedro.framework.cli.hooks.manager"):
    logging.getLogger(_traced).addFilter(lambda record: record.levelno > logging.DEBUG)
