"""Kedro pipelines: nodes that call the wings, and their wiring."""
