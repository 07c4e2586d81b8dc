"""Settings of Kedro: hooks, and how the configuration is loaded."""

from mentallam.config_loading import CONFIG_LOADER_ARGS as CONFIG_LOADER_ARGS
from mentallam.hooks import ProjectHooks
from mentallam.tracking_hooks import TrackingHooks

HOOKS = (ProjectHooks(), TrackingHooks())
# TrackingHooks replaces its hook. Kedro compares with the name in the package's metadata.
DISABLE_HOOKS_FOR_PLUGINS = ("kedro-mlflow", "kedro_mlflow")
