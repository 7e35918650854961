"""`safekey make`: its options, and what it prints."""
