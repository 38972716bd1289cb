"""Turn configs and names into parameters and keys that MLflow accepts."""

import json
import re
from collections.abc import Mapping
from typing import Any

# MLflow's limits on characters. A tag's is 8000; older servers take 5000.
KEY_LENGTH, PARAM_LENGTH, TAG_LENGTH = 250, 6000, 5000


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Flatten to dotted keys and text: `{"a": {"b": [1, 2]}}` -> `{"a.b": "[1, 2]"}`.

    Args:
        prefix: put before each key.

    Returns:
        The texts by key. One over MLflow's 6000 characters is cut and ends in a note.
    """
    flat: dict[str, str] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping) and value:
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            text = value if isinstance(value, str) else json.dumps(plain(value))
            note = "... (whole in config.yaml)"
            flat[f"{prefix}{key}"] = text if len(text) <= PARAM_LENGTH else text[: PARAM_LENGTH - len(note)] + note
    return flat


def clean_key(key: str) -> str:
    """Return a key that MLflow accepts.

    Other characters become `_`, path parts that are empty or consist of dots are dropped, and the key is cut to 250
    characters.
    """
    key = re.sub(r"[^\w\-. :/]", "_", key)
    return "/".join(part for part in key.split("/") if part.strip(".")).strip()[:KEY_LENGTH].rstrip("/") or "_"


def plain(value: Any) -> Any:
    """Return a value as mappings, lists and scalars only, as YAML and JSON know them."""
    if isinstance(value, Mapping):
        return {str(key): plain(each) for key, each in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(each) for each in value]
    return value if isinstance(value, (str, int, float, bool, type(None))) else str(value)
