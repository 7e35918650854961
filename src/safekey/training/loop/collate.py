"""Batches of encoded rows: what a `DataLoader` hands to `safekey_loss`."""

from __future__ import annotations

from collections.abc import Sequence

from safekey.errors import UserError
from safekey.training.encoding import Encoded


class SafeKeyCollator:
    """A `collate_fn`: ``DataLoader(rows, batch_size=8, collate_fn=SafeKeyCollator())`` yields ``{"rows": [...]}``.

    Nothing is padded or packed here. Which documents a row contributes depends on the objectives in force, hence on
    the epoch; so packing happens in the step (`safekey_loss`).
    """

    def __call__(self, rows: Sequence[Encoded]) -> dict[str, list[Encoded]]:
        """Return the rows under the one key that the step reads.

        Raises:
            UserError: something else than encoded rows.
        """
        for row in rows:
            if not isinstance(row, Encoded):
                raise UserError(
                    f"SafeKeyCollator got a {type(row).__name__}, expected Encoded rows: call "
                    "safekey.training.encode(example, tokenizer) on your examples first"
                )
        return {"rows": list(rows)}
