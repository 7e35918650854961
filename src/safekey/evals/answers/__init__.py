"""Exact scoring of answers: formulas, integers, letters, programs."""
