"""Sweep: the configuration with the best dev score, found without a look at a held-out post."""

from mentallam.pipelines.sweep.pipeline import create_pipeline

__all__ = ["create_pipeline"]
