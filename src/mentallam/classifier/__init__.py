"""The path from posts and criteria to a trained classifier: prompts, packing, attention, DoRA, weights, training."""
