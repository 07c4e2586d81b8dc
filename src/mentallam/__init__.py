"""mentallam: does this post match this DSM-5 depression criterion?"""

import os

__version__ = "0.1.0"

# MLflow would report to its makers, under an id that it keeps in the home folder. It decides when it is imported.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
