"""Judges measured against people, and rates corrected for what the measurement found."""
