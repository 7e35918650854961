"""Analyses of saved generations; they need no model and no judge."""
