"""mentallam: does this post match this DSM-5 depression criterion?"""

import os

__version__ = "0.1.0"

# MLflow would tell its makers about each run, and keep an id for that in the home folder. It decides when it is imported.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
