"""Is the key sentence decisive on this model? Put another one in its place, and let the model go on."""
