"""Plots of what happens inside models."""
