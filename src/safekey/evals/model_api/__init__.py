"""safekey engines as an Inspect model provider."""
