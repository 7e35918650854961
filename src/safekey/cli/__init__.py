"""The `safekey` command: one module for each group of verbs; `app` is the entry point, `common` what verbs share."""
