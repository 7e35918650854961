"""The `safekey` command: one module for each group of verbs."""
