"""Saved evaluation runs as arms, compared with a reference arm."""
