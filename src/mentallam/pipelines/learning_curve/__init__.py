"""Learning curve: performance by the size of the training set."""

from mentallam.pipelines.learning_curve.pipeline import create_pipeline

__all__ = ["create_pipeline"]
