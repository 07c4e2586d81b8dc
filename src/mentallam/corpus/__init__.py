"""Everything from a user's files to pairs, folds and statistics, in plain pandas."""
