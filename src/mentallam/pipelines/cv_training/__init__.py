"""From pairs and folds to five trained, scored and tracked classifiers."""

from mentallam.pipelines.cv_training.pipeline import create_pipeline

__all__ = ["create_pipeline"]
