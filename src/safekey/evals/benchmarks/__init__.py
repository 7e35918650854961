"""Benchmarks: the catalog, reading files into items, attacks, overlap with training data."""
