"""Train one model on all posts of a finished cross-validation."""

from mentallam.pipelines.refit.pipeline import create_pipeline

__all__ = ["create_pipeline"]
