"""Read training data in every format as `Example`s, and find the understanding and the key sentence."""

from __future__ import annotations

from safekey.data.load import DataSource, Examples, load_examples, load_mixture
from safekey.data.segment import segment
from safekey.data.summary import Summary, summarize
from safekey.data.write import to_row, write_jsonl
from safekey.text.thinking import SplitResponse, canonical, split_response

__all__ = [
    "DataSource",
    "Examples",
    "SplitResponse",
    "Summary",
    "canonical",
    "load_examples",
    "load_mixture",
    "segment",
    "split_response",
    "summarize",
    "to_row",
    "write_jsonl",
]
