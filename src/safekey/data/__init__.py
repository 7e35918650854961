"""Data in: every format to `Example`, and finding the understanding and the key sentence."""

from __future__ import annotations

from safekey.data.load import Examples, load_examples
from safekey.data.mix import DataSource, load_mixture
from safekey.data.segment import segment, segment_all
from safekey.data.summary import Summary, summarize
from safekey.data.write import to_row, write_jsonl
from safekey.text.canonical import SplitResponse, canonical, split_response

__all__ = [
    "DataSource",
    "Examples",
    "SplitResponse",
    "Summary",
    "canonical",
    "load_examples",
    "load_mixture",
    "segment",
    "segment_all",
    "split_response",
    "summarize",
    "to_row",
    "write_jsonl",
]
