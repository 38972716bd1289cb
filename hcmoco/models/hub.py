"""Fail fast, or use the local cache, when the Hugging Face Hub is unreachable.

The hub's client tries for about a minute before it looks into its cache, whatever its timeouts are (measured with
huggingface_hub 1.x and HF_HUB_ETAG_TIMEOUT=2: 59 s). So the address is tried first.
"""

import os
import socket
import urllib.request
from urllib.parse import urlsplit

import timm
from huggingface_hub import constants, try_to_load_from_cache

_SECONDS = 5.0
_FILES = ("model.safetensors", "pytorch_model.bin")


def weights_arguments(name: str) -> dict:
    """Return the arguments of `timm.create_model` that load the published weights of a model.

    Args:
        name: timm model, with or without a tag.

    Raises:
        ConnectionError: the hub is unreachable and its local cache lacks the weights.
    """
    if constants.HF_HUB_OFFLINE or is_reachable():  # offline, the client looks into its cache itself
        return {"pretrained": True}
    published = timm.get_pretrained_cfg(name)
    if published is not None and published.hf_hub_id:
        for file in _FILES:
            cached = try_to_load_from_cache(published.hf_hub_id, file)
            if isinstance(cached, str):
                return {"pretrained": True, "pretrained_cfg_overlay": {"file": cached}}
    raise ConnectionError(f"{constants.ENDPOINT} cannot be reached, and they are not in the local cache")


def is_reachable() -> bool:
    """Return whether the hub may be reached: it answers, or only a proxy can tell. False where it is switched off."""
    if constants.HF_HUB_OFFLINE:
        return False
    address = urlsplit(constants.ENDPOINT)
    if address.scheme in urllib.request.getproxies() or os.environ.get("ALL_PROXY"):
        return True  # only the proxy can tell
    port = address.port or (80 if address.scheme == "http" else 443)
    try:
        socket.create_connection((address.hostname or "", port), timeout=_SECONDS).close()
    except OSError:
        return False
    return True
