"""Key sentences in generated outputs: where U ends, what K says, what came of it."""
