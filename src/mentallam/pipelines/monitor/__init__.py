"""Compare a batch of predictions with the posts that its model learnt from."""

from mentallam.pipelines.monitor.pipeline import create_pipeline

__all__ = ["create_pipeline"]
