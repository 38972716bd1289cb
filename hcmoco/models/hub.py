"""The place that timm gets its published weights from, asked in a way that ends soon where there is no network."""

import os
import socket
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

_SECONDS = 5.0


@contextmanager
def answers_soon() -> Iterator[None]:
    """While the block runs, downloads come from the local cache alone where the hub cannot be reached: its client tries for most of a
    minute before it looks there. An error of the block is a ConnectionError then.
    """
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE or _reachable(constants.ENDPOINT):
        yield
        return
    constants.HF_HUB_OFFLINE = True
    try:
        yield
    except Exception as error:
        raise ConnectionError(f"{constants.ENDPOINT} cannot be reached, and they are not in the local cache") from error
    finally:
        constants.HF_HUB_OFFLINE = False


def _reachable(endpoint: str) -> bool:
    place = urlsplit(endpoint)
    if place.scheme in urllib.request.getproxies() or os.environ.get("ALL_PROXY"):
        return True  # the proxy's to know
    try:
        socket.create_connection(
            (place.hostname or "", place.port or (80 if place.scheme == "http" else 443)), timeout=_SECONDS
        ).close()
    except OSError:
        return False
    return True
