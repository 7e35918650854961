"""The SafeKey objective: documents, attention within documents, losses, heads, one step."""
