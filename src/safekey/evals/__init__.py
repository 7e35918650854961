"""Evaluation: benchmarks, generation through Inspect, judges, and rates computed from verdicts."""
