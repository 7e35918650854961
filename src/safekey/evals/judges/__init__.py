"""Judges: prompts, parsers, the models behind them, verdicts."""
