"""Key sentences in saved generations: where U ends, K's stance, and the outcome."""
