"""From corpus files to pairs, folds and data statistics."""

from mentallam.pipelines.data_processing.pipeline import create_pipeline

__all__ = ["create_pipeline"]
