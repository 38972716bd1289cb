"""The train state on disk: everything a resumed run needs, written so that a half-written one is never seen.

    <folder>/
      model.safetensors      parameters and buffers
      optimizer.safetensors  optimiser slots, one tensor per parameter and slot
      bank.safetensors       memory banks
      state.json             step, stage, what the run is (plan, model, objective, data), tracking run
      COMPLETE               JSON {file: SHA-256}, written last; without it the folder is not a state
"""

import hashlib
import json
import os
import shutil
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from hcmoco.errors import UserError

STATE_VERSION = 1
_TENSOR_FILES = ("model", "optimizer", "bank")


@dataclass
class TrainState:
    """What a run is after `step` steps.

    Attributes:
        step: steps done.
        full: the second stage has begun (dense mappers exist).
        identity: name -> JSON value; a resumed run must have the same (plan, model, objective, optimiser, data).
        model, optimizer, bank: named tensors on the CPU.
        tracking_run: id of the run in the tracking store, or "".
        history: metrics that the closing table compares, by name of the moment ("untrained", "after stage 1", ...).
    """

    step: int
    full: bool
    identity: dict
    model: dict[str, torch.Tensor]
    optimizer: dict[str, torch.Tensor]
    bank: dict[str, torch.Tensor]
    tracking_run: str = ""
    history: dict = field(default_factory=dict)


def write_state(state: TrainState, folder: Path) -> None:
    """Writes `state` as `folder`, which appears at once or not at all (a temporary folder beside it is renamed)."""
    temporary = folder.parent / f".{folder.name}.writing-{os.getpid()}"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    for name in _TENSOR_FILES:
        tensors = {key: value.detach().cpu().contiguous().clone() for key, value in getattr(state, name).items()}
        save_file(tensors, temporary / f"{name}.safetensors")
    about = {key: getattr(state, key) for key in ("step", "full", "identity", "tracking_run", "history")}
    (temporary / "state.json").write_text(json.dumps({"version": STATE_VERSION, **about}, indent=1, sort_keys=True))
    sums = {each.name: _sha256(each) for each in sorted(temporary.iterdir())}
    for each in temporary.iterdir():
        _flush(each)
    (temporary / "COMPLETE").write_text(json.dumps(sums, indent=1))
    _flush(temporary / "COMPLETE")
    shutil.rmtree(folder, ignore_errors=True)
    temporary.rename(folder)


def is_complete(folder: Path) -> bool:
    """Whether `folder` holds a state that was written to its end."""
    return (folder / "COMPLETE").is_file()


def read_state(folder: Path) -> TrainState:
    """The state in `folder`. UserError where it is incomplete, damaged or of another version."""
    if not is_complete(folder):
        raise UserError(f"{folder} is not a complete train state (no COMPLETE file); resume from another one or start a new run folder")
    try:
        sums = json.loads((folder / "COMPLETE").read_text())
        damaged = [name for name, digest in sums.items() if _sha256(folder / Path(name).name) != digest]
        if damaged:
            raise UserError(f"train state {folder}: {', '.join(damaged)} does not match its checksum; delete this state to go on from the one before")
        about = json.loads((folder / "state.json").read_text())
        if about.pop("version") != STATE_VERSION:
            raise UserError(f"train state {folder} is of another version of hcmoco; this one reads version {STATE_VERSION}")
        return TrainState(**about, **{name: load_file(folder / f"{name}.safetensors") for name in _TENSOR_FILES})
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        raise UserError(f"train state {folder} cannot be read ({error}); it is not one that hcmoco wrote") from None


def newest_state(folder: Path) -> Path | None:
    """The complete state `step-########` with the highest step in `folder`, or None."""
    states = [each for each in sorted(folder.glob("step-*")) if is_complete(each)] if folder.is_dir() else []
    return states[-1] if states else None


def check_identity(state: TrainState, identity: dict, where: str) -> None:
    """UserError that names the first difference between what the state was trained as and what this run is."""
    for key in sorted({*state.identity, *identity}):
        difference = _difference(state.identity.get(key), identity.get(key), key)
        if difference:
            raise UserError(f"{where} holds a run with another config: {difference}; choose another folder with out=..., or the same config")


def _difference(was: object, now: object, key: str) -> str:
    if isinstance(was, dict) and isinstance(now, dict):
        return next((text for name in sorted({*was, *now}) if (text := _difference(was.get(name), now.get(name), f"{key}.{name}"))), "")
    return "" if was == now else f"{key} was {was!r}, now {now!r}"


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _flush(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())
