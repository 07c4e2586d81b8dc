"""Compare: two tracked cross-validations of the same data, compared pair by pair."""

from mentallam.pipelines.compare.pipeline import create_pipeline

__all__ = ["create_pipeline"]
