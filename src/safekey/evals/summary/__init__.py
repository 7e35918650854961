"""The numbers of one run: rates, summary, tables."""
