"""The Inspect tasks: one for each benchmark, with solver and scorers."""
