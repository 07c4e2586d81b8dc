"""Predictions on new posts: input, predictor, registered model, command line."""
