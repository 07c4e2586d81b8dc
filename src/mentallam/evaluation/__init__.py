"""Evaluation: what the predictions on held-out pairs are worth, as numbers, pictures and a report.

Rooms: `checks` (what every metric asks of its input), `thresholds`, `metrics`, `oof` (the out-of-fold table),
`aggregate` (fold tables and the cross-validation summary), `figures` (which gathers `figures_scores`,
`figures_criteria` and `figures_training`), `report` (Markdown) and `report_page` (the same as one HTML file, with the
figures drawn).
"""
