"""What run folders share (`records`), and what is ours on the disk (`ownership`, `appending`)."""

from __future__ import annotations

from safekey.run_folder.records import (
    FORMAT,
    RUN,
    changes,
    check_format,
    flat,
    hold,
    is_foreign,
    make_private,
    mark,
    now,
    read_json,
    read_record,
    read_settings,
    start,
    versions,
    without_secrets,
    write,
    write_json,
    write_settings,
)

__all__ = [
    "FORMAT",
    "RUN",
    "changes",
    "check_format",
    "flat",
    "hold",
    "is_foreign",
    "make_private",
    "mark",
    "now",
    "read_json",
    "read_record",
    "read_settings",
    "start",
    "versions",
    "without_secrets",
    "write",
    "write_json",
    "write_settings",
]
