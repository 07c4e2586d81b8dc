"""Import what the commands import, so that Python keeps it compiled; `make install` ends with this.

uv compiles no module when it installs. Python does so when a module is first imported; where PYTHONDONTWRITEBYTECODE
is set, as in many containers, at every import, and then a command takes about twice as long to start.
"""

import contextlib
import importlib
import io
import pkgutil
import sys

import mentallam
from mentallam.console import capture_warnings

# What the commands, the tracking server and the tests import beside the package's modules.
_OTHERS = (
    "_pytest.assertion.rewrite",
    "gguf",
    "hypothesis",
    "kedro.framework.cli.cli",
    "kedro_mlflow.framework.cli.cli",
    "mlflow.cli",
    "mlflow.pyfunc.scoring_server",
    "mlflow.server.fastapi_app",
    "mlflow.store.tracking.sqlalchemy_store",
    "opentelemetry.sdk.metrics",
    "pandera.pandas",
    "plotly.graph_objects",
    "safetensors.torch",
    "sklearn.feature_extraction.text",
    "sklearn.linear_model",
    "transformers.models.llama.modeling_llama",
    "uvicorn",
)


def main() -> None:
    """Import the modules; one that fails will say so to whoever needs it."""
    sys.dont_write_bytecode = False
    own = (module.name for module in pkgutil.walk_packages(mentallam.__path__, "mentallam."))
    capture_warnings()
    for name in (*own, *_OTHERS):
        if not name.endswith(("__main__", "export_example")):
            with contextlib.suppress(Exception), contextlib.redirect_stdout(io.StringIO()):
                importlib.import_module(name)


if __name__ == "__main__":
    main()
