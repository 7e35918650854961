"""A sealed process for generated code."""
