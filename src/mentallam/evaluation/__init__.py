"""Evaluation: what the predictions on held-out pairs are worth, as numbers.

Rooms: `checks` (what every metric asks of its input); `calibration`, `thresholds` and `decision` (from a logit to a
prediction); `oof` (the out-of-fold table); `metrics`, `protocols`, `slices`, `trivial` and `baselines`; `weighted`,
`resampling` and `uncertainty` (intervals and paired differences); `label_audit`; `aggregate` (fold tables and the
cross-validation summary) and `comparison` (two of them); `figures` (which gathers `figures_scores`, `figures_criteria`
and `figures_training`), `report` (Markdown), `report_page` (the same as one HTML file, with the figures drawn) and
`model_card`.
"""
