"""Share a trained model: its card, and the files that may leave this machine."""
