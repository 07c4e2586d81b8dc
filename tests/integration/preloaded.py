"""What `forked_commands` imports once: all that a run needs, without connecting to a tracking store."""

import os
import threading

os.environ["COLUMNS"] = "300"  # Kedro's log takes its width when it is imported

import sklearn.feature_extraction.text
import sklearn.linear_model
from kedro.framework.cli import cli

from mentallam import tracking_hooks
from mentallam.classifier import training
from mentallam.pipelines import cv_training, data_processing, inference, reporting

__all__ = ["cli", "cv_training", "data_processing", "inference", "reporting", "sklearn", "tracking_hooks", "training"]

# A process with threads can't be forked safely: a lock that another thread holds would never be free in the child.
assert threading.active_count() == 1, "an import has started a thread"
