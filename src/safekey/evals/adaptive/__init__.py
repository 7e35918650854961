"""Attacks that adapt: an attacker model writes the prompts, and learns from the target's replies."""
