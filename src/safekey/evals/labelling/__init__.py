"""Answers of a run, labelled by people: the draw, the label file, the page and the terminal view."""
