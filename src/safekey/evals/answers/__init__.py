"""Exact scorers: mathematics, letters, integers, programs."""
