"""One Inspect task for each benchmark: solver and scorers."""
