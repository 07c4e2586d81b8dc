"""Predict on a file of posts with a trained checkpoint."""

from mentallam.pipelines.inference.pipeline import create_pipeline

__all__ = ["create_pipeline"]
