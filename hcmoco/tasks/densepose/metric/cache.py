"""Cache arrays in files of the user's cache folder, under a digest of everything that they depend on."""

import hashlib
import logging
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import filelock
import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from hcmoco.storage import absolute, is_local

_log = logging.getLogger(__name__)


def cache_folder() -> Path:
    """Return `cache` under HCMOCO_HOME if that is a path, else `hcmoco` under XDG_CACHE_HOME (by default ~/.cache)."""
    home = os.environ.get("HCMOCO_HOME", "")
    if home and is_local(home):
        return Path(absolute(home)) / "cache"
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser().absolute() / "hcmoco"


def fingerprint(arrays: dict[str, np.ndarray]) -> str:
    """Return the hexadecimal SHA-256 of arrays: names, types, shapes and values."""
    digest = hashlib.sha256()
    for name, array in sorted(arrays.items()):
        digest.update(f"{name} {array.dtype.str} {array.shape};".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def cached(
    name: str, key: str, compute: Callable[[], dict[str, np.ndarray]], folder: Path | None = None
) -> dict[str, np.ndarray]:
    """Return the arrays of `compute`, from the cache if it holds them, else computed and stored there.

    A file that is damaged is computed again. If several processes need it, one computes and the others wait. If the
    folder cannot be written, the arrays are computed, with a warning.

    Args:
        name: of the file, for people.
        key: digest of everything that the arrays depend on, with the version of the computation.
        compute: returns the arrays by name.
        folder: of the cache; None: `cache_folder()`.
    """
    folder = cache_folder() if folder is None else Path(folder)
    path = folder / f"{name}-{key[:16]}.safetensors"
    found = _read(path, key)
    if found is not None:
        return found
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(path.with_suffix(".lock")):
            found = _read(path, key)
            if found is None:
                found = compute()
                _write(path, key, found)
            return found
    except OSError as error:
        _log.warning("%s is computed and not stored: %s cannot be written (%s)", name, folder, error)
        return compute() if found is None else found


def _read(path: Path, key: str) -> dict[str, np.ndarray] | None:
    try:
        with safe_open(path, "numpy") as file:
            stored = file.metadata() or {}
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except FileNotFoundError:
        return None
    except (OSError, SafetensorError) as error:
        _log.warning("%s is damaged and computed again (%s)", path, error)
        return None
    if stored.get("key") != key or stored.get("sha256") != fingerprint(arrays):
        _log.warning("%s is damaged and computed again (its checksum does not match)", path)
        return None
    return arrays


def _write(path: Path, key: str, arrays: dict[str, np.ndarray]) -> None:
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=path.stem, suffix=".part")
    os.close(handle)
    try:
        save_file(arrays, temporary, {"key": key, "sha256": fingerprint(arrays)})
        os.replace(temporary, path)
    finally:
        Path(temporary).unlink(missing_ok=True)
