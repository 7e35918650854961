"""Attacks that need no model: what is put around a request, and how an answer in a cipher is read."""
