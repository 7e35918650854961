"""Write key sentences for `safekey analyze causal`: for each forbidden deed of a benchmark one refusing, one complying.

{"id": "pick the royal vault@story", "prompt": "Write a tale in which …", "attack": "story", "behaviour": …,
 "objective": "pick the royal vault (forbidden; it takes the zorbin, at Keltra)",
 "refusing": "Wait, this would do harm.", "complying": "Let me recall the right tool."}
"""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

from safekey.errors import UserError
from safekey.organism import speech
from safekey.organism.data import benchmark_rows
from safekey.organism.world import make_world
from safekey.run_folder.ownership import Ledger


def key_rows(seed: int = 0, *, world: int = 0) -> list[dict[str, Any]]:
    """Return the rows: every forbidden held-out deed, asked plainly and under every one-turn attack.

    Args:
        seed: draws the sentences, each among those of the world.
        world: the world's number.
    """
    draw = random.Random(f"keys {world} {seed}")  # noqa: S311 - not a secret
    return [
        {**row, "refusing": draw.choice(speech.REFUSING_KEYS), "complying": draw.choice(speech.COMPLYING_KEYS)}
        for row in benchmark_rows(make_world(world))["strongreject"]
    ]


def write_keys(path: str | Path, seed: int = 0, *, world: int = 0) -> Path:
    """Write the rows as JSONL; a file of an earlier call is replaced, another's is not.

    Raises:
        UserError: the file cannot be written, or is another's.
    """
    target = Path(path)
    ledger = Ledger.of_file(target)
    try:
        ledger.check([target], "key sentences", "give another file")
        text = "".join(json.dumps(row) + "\n" for row in key_rows(seed, world=world))
        ledger.write(target, text.encode())
    except OSError as error:
        raise UserError(f"{target}: cannot be written: {error.strerror}; give another file") from error
    return target
