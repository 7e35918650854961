"""The grid: the same rows, order and budget for every arm and seed, each trained, attacked and compared."""
