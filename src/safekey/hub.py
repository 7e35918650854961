"""Use the Hugging Face hub only when it can be reached.

Without a connection the hub's client tries every file six times, for half a minute or more, before it uses its cache.
"""

from __future__ import annotations

import os
import socket
import sys
from urllib.parse import urlsplit
from urllib.request import getproxies

from safekey.terminal import without_login


def hub_reachable(timeout: float = 5.0) -> bool:
    """Return whether the hub can be reached; if not, this process uses the local cache from now on.

    It is reachable when its address answers. With a proxy it is assumed to be, because only the proxy can know.
    """
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return False
    if getproxies().keys() & {"http", "https", "all"}:
        return True
    address = urlsplit(constants.ENDPOINT)
    try:
        port = address.port or (80 if address.scheme == "http" else 443)
        socket.create_connection((address.hostname or "", port), timeout=timeout).close()
    except OSError:
        constants.HF_HUB_OFFLINE = True  # what HF_HUB_OFFLINE=1 sets; the environment is left as it is
        if "datasets" in sys.modules:  # it keeps a copy
            sys.modules["datasets"].config.HF_HUB_OFFLINE = True
        return False
    return True


def local_note() -> str:
    """Return "" or, when this process asks the local cache only, why it does, for the beginning of a message."""
    from huggingface_hub import constants

    if not constants.HF_HUB_OFFLINE:
        return ""
    asked = os.environ.get("HF_HUB_OFFLINE") or os.environ.get("TRANSFORMERS_OFFLINE")
    why = "HF_HUB_OFFLINE is set" if asked else f"there is no connection to {without_login(constants.ENDPOINT)}"
    return f"{why}, so only the local cache was asked: "
