"""Using a trained checkpoint on new posts: reading them, predicting, the command line."""
