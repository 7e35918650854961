"""What `safekey train` does: recipe, rows, models, dry run, launch, run folder."""
