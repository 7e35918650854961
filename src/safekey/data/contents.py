"""Read a data file's bytes: unpack gzip within a limit, and name what a file is when it is not what its name says.

`mine.json` may be a Git LFS pointer, a web page that says "404", a zip archive, or gzip without `.gz`. The parsers
would call all of them "wrong JSON at line 1".
"""

from __future__ import annotations

import gzip
import os
import re
import zlib
from pathlib import Path

from safekey.errors import DataError, UserError

UNPACKED_LIMIT = "SAFEKEY_UNPACKED_LIMIT_MB"
"""The environment variable that sets how much one file may unpack to, in megabytes."""

_MB = 1 << 20
_USUAL = 256 * _MB  # a small file may unpack to this
_RATIO = 100  # a larger one to so many times its own size: text seldom shrinks by more than 20
_MOST = 4096 * _MB
_CHUNK = 4 * _MB

_GZIP = b"\x1f\x8b"
_PARQUET = b"PAR1"
_KINDS = {
    b"PK\x03\x04": "a zip archive (or an .xlsx or .npz file): unpack it, and name the file in it",
    b"BZh": "compressed with bzip2: unpack it with bunzip2",
    b"\xfd7zXZ\0": "compressed with xz: unpack it with unxz",
    b"\x28\xb5\x2f\xfd": "compressed with zstd: unpack it with unzstd",
    b"7z\xbc\xaf\x27\x1c": "a 7z archive: unpack it",
    b"Rar!": "a rar archive: unpack it",
    b"ARROW1": "an Arrow file: load it with `datasets`, and save it as Parquet",
    b"SQLite format 3": "an SQLite database: write its table to a JSONL file",
    b"\x89HDF": "an HDF5 file: write its rows to a JSONL file",
    b"%PDF": "a PDF document",
    b"\x89PNG": "a picture",
    b"\xff\xd8\xff": "a picture",
}
_PICKLE = re.compile(rb"\x80[\x02-\x05]")
_PAGE = re.compile(rb"(?:\xef\xbb\xbf)?\s*(?:<\?xml[^>]*>\s*)?<(?:!doctype\s+html|html|head|body)\b", re.IGNORECASE)
_LFS = re.compile(rb"version https://git-lfs\.github\.com/spec/\S+\s[^\0]*?\bsize (\d+)")


def file_bytes(path: str, local: Path, notes: list[str]) -> bytes:
    """Return a file's content, unpacked; a note says what the name does not.

    Raises:
        DataError: it cannot be read, is no data, or unpacks to more than the limit.
    """
    try:
        with local.open("rb") as stream:
            head = stream.read(512)
            _refuse(path, head)
            packed = head.startswith(_GZIP)
            if local.name.endswith(".gz") and not packed:
                shown = "an empty file" if not head else "no gzip: take .gz from its name"
                raise DataError(f"{path}: cannot be read: it is {shown}")
            data = _unpacked(path, local, notes) if packed else head + stream.read()
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error
    if packed:
        _refuse(path, data[:512])
    return data


def is_parquet(data: bytes) -> bool:
    """Whether these are the bytes of a Parquet file, whatever it is called."""
    return data.startswith(_PARQUET) and data.endswith(_PARQUET) and len(data) >= 12


def _refuse(path: str, head: bytes) -> None:
    """Raise where the first bytes are those of something that is no data file."""
    pointer = _LFS.match(head)
    if pointer is not None:
        raise DataError(
            f"{path}: is a Git LFS pointer, not the data ({int(pointer[1]):,} bytes lie elsewhere): "
            "run `git lfs pull` in its repository, or download the file itself"
        )
    if re.match(rb"(?:\.\./)*\.?/?(?:\.git/)?annex/objects/", head):
        raise DataError(f"{path}: is a git-annex pointer, not the data: run `git annex get` in its repository")
    if _PAGE.match(head):
        raise DataError(f"{path}: is a web page (HTML), not data: the download saved an error or a log-in page")
    kind = next((what for magic, what in _KINDS.items() if head.startswith(magic)), None)
    if kind is None and _PICKLE.match(head):
        kind = "a pickle, which is never loaded because it may run code: save the rows as JSONL"
    if kind is not None:
        raise DataError(f"{path}: is {kind}")


def unpacked_limit(packed: int) -> int:
    """Return how many bytes a packed file of this size may unpack to.

    Raises:
        UserError: the environment variable is no number.
    """
    own = os.environ.get(UNPACKED_LIMIT, "").strip()
    if not own:
        return min(max(_USUAL, _RATIO * packed), _MOST)
    if not own.isdecimal() or int(own) < 1:
        raise UserError(f"{UNPACKED_LIMIT}: expected a number of megabytes from 1, found {own!r:.40}")
    return int(own) * _MB


def too_large(path: str, limit: int) -> DataError:
    """Return the error for a file that unpacks to more than the limit."""
    return DataError(
        f"{path}: unpacks to more than {limit // _MB:,} MB, the limit for a file of its size (it may be made to fill "
        f"the memory). If you trust it, unpack it yourself, or set {UNPACKED_LIMIT} to more megabytes"
    )


def _unpacked(path: str, local: Path, notes: list[str]) -> bytes:
    """Unpack gzip piece by piece, and stop at the limit."""
    limit = unpacked_limit(local.stat().st_size)
    pieces: list[bytes] = []
    size = 0
    try:
        with gzip.open(local) as stream:
            while piece := stream.read(_CHUNK):
                size += len(piece)
                if size > limit:
                    raise too_large(path, limit)
                pieces.append(piece)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"{path}: cannot be read: its gzip data is cut short or broken ({error})") from error
    if not local.name.endswith(".gz"):
        notes.append(f"{path}: is gzip, although its name does not end in .gz; it was unpacked")
    return b"".join(pieces)
