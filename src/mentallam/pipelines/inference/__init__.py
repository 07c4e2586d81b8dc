"""From a file of posts to predictions by a trained checkpoint."""

from mentallam.pipelines.inference.pipeline import create_pipeline

__all__ = ["create_pipeline"]
