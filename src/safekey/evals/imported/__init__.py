"""Completions that somebody else generated, as an evaluation's run folder."""
