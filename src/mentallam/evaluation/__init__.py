"""Evaluation: the scores of predictions on held-out pairs, as numbers.

- From a logit to a prediction: `calibration`, `thresholds`, `decision`.
- The out-of-fold table and its checks: `oof`, `arrays`.
- Metrics: `metrics` (the table of all metrics), `protocols`, `slices`, `trivial`, `baseline_scores`, `few_positives`.
- Checks of probabilities: `calibration_check`, `net_benefit`. Coded checks of the whole result: `checks`, `findings`.
- Intervals and paired differences: `counts`, `weighted`, `resampling`, `uncertainty`.
- Summaries: `aggregate` (fold tables and the cross-validation summary), `comparison` (two cross-validations),
  `label_audit`.
"""
