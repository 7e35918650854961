"""The stages of a recipe: each takes rows and returns rows, and sets aside with its reason what cannot go on."""
