"""What in usable rows looks like a mistake: left-over chat tokens, and blocks in the answer that look like thinking."""

from __future__ import annotations

import re

from safekey.schema import Example
from safekey.text.thinking import split_thinking, thinking_in_answer

_CHAT_TOKEN = re.compile(
    r"<[|｜](?:im_start|im_end|im_sep|eot_id|eom_id|start_header_id|end_header_id|begin_of_text|end_of_text|endoftext|eot"
    r"|return|end|start|channel|message|call|user|assistant|system|begin▁of▁sentence|end▁of▁sentence|User|Assistant"
    r"|START_OF_TURN_TOKEN|END_OF_TURN_TOKEN|end_of_turn|endofprompt|endofresponse)[|｜]>"
    r"|<(?:start_of_turn|end_of_turn|eos|bos)>|\[/?INST\]|<</?SYS>>"
)
_END_OF_S = re.compile(r"</s>\s*\Z")  # elsewhere it is HTML's


class Doubts:
    """Counts doubtful rows of one file."""

    def __init__(self) -> None:
        self._tokens: dict[str, list[int]] = {}
        self._blocks: dict[str, list[int]] = {}

    def look(self, example: Example) -> None:
        """Look at one usable row."""
        texts = [example.response, *(turn.content for turn in example.prompt)]
        for token in dict.fromkeys(token for text in texts for token in chat_tokens(text)):
            self._tokens.setdefault(token, []).append(example.row)
        if block := thinking_in_answer(split_thinking(example.response, started_inside=False)):
            self._blocks.setdefault(block, []).append(example.row)

    def lines(self, file: str) -> list[str]:
        """Return one line for each token and each tag that was found."""
        return [
            *(
                f"{file}, {_rows(rows)}: the text holds the chat token '{token}', which is trained as text, not as the "
                "end or the beginning of a turn; take it out if it was left over"
                for token, rows in self._tokens.items()
            ),
            *(
                f"{file}, {_rows(rows)}: the answer holds {tag}, and so perhaps thinking; it is trained as a part of "
                "the answer; take it out if it is thinking"
                for tag, rows in self._blocks.items()
            ),
        ]


def chat_tokens(text: str) -> list[str]:
    """Return the strings in a text that chat templates write around turns."""
    if "<" not in text and "[" not in text:
        return []
    found = [match[0] for match in _CHAT_TOKEN.finditer(text)]
    return [*dict.fromkeys(found), *(["</s>"] if _END_OF_S.search(text) else [])]


def _rows(rows: list[int]) -> str:
    return f"row {rows[0]}" + (f" and {len(rows) - 1} more" if len(rows) > 1 else "")
