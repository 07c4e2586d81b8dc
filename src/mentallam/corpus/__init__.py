"""The corpus wing: from the files that a user brings to pairs, folds and statistics, in plain pandas."""
