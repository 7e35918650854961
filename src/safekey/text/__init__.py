"""Conversations to tokens and back: chat formats, exact token ids, thinking and answer apart."""
