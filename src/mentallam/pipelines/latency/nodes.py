"""Nodes of latency that put several steps together; the other nodes are functions of `serving` and `reports`."""

import logging
from pathlib import Path
from typing import Any

from plotly.graph_objects import Figure

from mentallam import tracking
from mentallam.config import compose_inference
from mentallam.errors import MentallamError
from mentallam.reports.figures_latency import latency_histogram
from mentallam.reports.page import render_figures_page
from mentallam.serving.latency import LatencyOptions, cold_start, latency_metrics, summarise_latency, time_answers
from mentallam.serving.predictor import Predictor

logger = logging.getLogger(__name__)


def measure_latency(
    checkpoints: list[Path],
    model: str,
    environment: str,
    hydra_configs: str,
    profile: str,
    overrides: str | None,
    base_models: str,
    options: LatencyOptions,
) -> tuple[dict[str, Any], Figure]:
    """Time a fresh process, and then the loaded model; return the summary and its figure.

    The fresh process goes first, so that two models never share the memory.
    """
    config = compose_inference(Path(hydra_configs), profile, overrides)
    cold_start_s = cold_start(model, environment)
    predictor = Predictor.load(checkpoints, Path(base_models), config)
    timings, tokens = time_answers(predictor, options)
    summary = summarise_latency(timings, tokens, cold_start_s, predictor, options)
    return summary, latency_histogram(timings, options.limit_ms)


def log_latency(summary: dict[str, Any], figure: Figure) -> dict[str, Any]:
    """Log the figures to the model's run, if it is in this tracking store; return the summary."""
    for name, value in latency_metrics(summary).items():
        logger.info("%s: %.4g", name, value)
    try:
        run_id = tracking.writable_run("model", summary["model"]["run_id"]).info.run_id
    except MentallamError as error:  # an exported model
        logger.warning("the latency is not logged to MLflow: %s", error.message)
        return summary
    run = tracking.Run(run_id)
    run.log_metrics(latency_metrics(summary))
    run.log_dict(summary, "latency/latency_summary.json")
    run.log_text(render_figures_page("Latency", {"milliseconds_per_post": figure}), "latency/latency.html")
    if reason := summary["options"]["override_reason"]:
        run.set_tags({"mentallam.latency_override_reason": reason})
    return summary
