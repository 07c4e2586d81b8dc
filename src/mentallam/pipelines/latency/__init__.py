"""Measure how long a user waits for an answer."""

from mentallam.pipelines.latency.pipeline import create_pipeline

__all__ = ["create_pipeline"]
