"""What is asked: the catalog, files to items, attacks, overlap with training data."""
