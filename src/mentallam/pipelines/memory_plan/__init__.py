"""From the configuration to the memory that a training step takes; needs neither data nor weights."""

from mentallam.pipelines.memory_plan.pipeline import create_pipeline

__all__ = ["create_pipeline"]
