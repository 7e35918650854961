"""A folder kept by one process at a time."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import IO

from safekey.errors import UserError


def hold(folder: Path, who: str) -> IO[str]:
    """Make a folder and lock it until the returned file is closed or the process ends, however it ends.

    A file system, or a Windows, without such locks is used without one; two commands at once are then the user's care.

    Args:
        folder: it gets a file `.lock`.
        who: what would work here, for the message.

    Raises:
        UserError: another process holds it, or it cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / ".lock").open("w")
    except OSError as error:
        raise UserError(f"{folder}: cannot be written: {error.strerror}; give another --output") from error
    try:
        with suppress(ImportError):
            import fcntl

            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.close()
        raise UserError(f"{folder}: another {who} works here: wait for it, or end it") from None
    except OSError:
        pass
    return lock
