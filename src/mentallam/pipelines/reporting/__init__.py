"""Reporting: from the folds' held-out predictions to summary, figures and report, attached to the run."""

from mentallam.pipelines.reporting.pipeline import create_pipeline

__all__ = ["create_pipeline"]
