"""A linear probe for harm at every layer and position of a model."""
