"""The run folder of an evaluation and its rows."""
