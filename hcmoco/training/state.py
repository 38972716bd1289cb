"""The train state on disk or in an object store: everything a resumed run needs, and never seen half-written.

    <run>/states/step-00000300/
      model.safetensors      parameters and buffers
      optimizer.safetensors  optimiser slots, one tensor per parameter and slot
      bank.safetensors       memory banks
      state.json             step, stage, what the run is (plan, model, objective, ...), tracking run, probe results
      COMPLETE               JSON {file: SHA-256}, written last; a folder without it is not a state
"""

import hashlib
import json
from dataclasses import dataclass, field

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save

from hcmoco.errors import UserError
from hcmoco.shards.storage import Folder, first_line

STATE_VERSION = 1
_TENSORS = ("model", "optimizer", "bank")
_FACTS = ("step", "full", "identity", "tracking_run", "history")


@dataclass
class TrainState:
    """What a run is after `step` steps.

    Attributes:
        step: steps done.
        full: the second stage has begun (dense mappers exist).
        identity: name -> JSON value; a resumed run must have the same (plan, model, objective, optimiser, ...).
        model, optimizer, bank: named tensors on the CPU.
        tracking_run: id of the run in the tracking store, or "".
        history: probe results by the moment that the closing table names ("after stage 1", ...).
    """

    step: int
    full: bool
    identity: dict
    model: dict[str, torch.Tensor]
    optimizer: dict[str, torch.Tensor]
    bank: dict[str, torch.Tensor]
    tracking_run: str = ""
    history: dict = field(default_factory=dict)


class States:
    """The train states of one run.

    Args:
        uri: folder that holds them; any URI.
        keep: how many to keep, newest last.
    """

    def __init__(self, uri: str, keep: int = 2):
        self._folder = Folder(uri)
        self._keep = keep

    def write(self, state: TrainState) -> None:
        """Adds `state`, then deletes those that are too many, and what a killed writer left. One process may write at a time."""
        name = f"step-{state.step:08d}"
        self._folder.delete(f"{name}/COMPLETE")
        files = {
            f"{each}.safetensors": save({key: value.detach().cpu().contiguous() for key, value in getattr(state, each).items()})
            for each in _TENSORS
        }
        facts = {key: getattr(state, key) for key in _FACTS}
        files["state.json"] = json.dumps({"version": STATE_VERSION, **facts}, indent=1).encode()
        for file, data in files.items():
            self._folder.write(f"{name}/{file}", data)
        sums = {file: hashlib.sha256(data).hexdigest() for file, data in files.items()}
        self._folder.write(f"{name}/COMPLETE", json.dumps(sums, indent=1).encode())
        kept = self.complete()[-self._keep :]
        for other in self._folder.folders():
            if other not in kept:
                self._folder.delete_folder(other)

    def complete(self) -> list[str]:
        """Names of the states that were written to their end, oldest first."""
        return [name for name in self._folder.folders() if name.startswith("step-") and self._folder.exists(f"{name}/COMPLETE")]

    @property
    def newest_step(self) -> int:
        """Steps done in the newest state; 0 where there is none."""
        names = self.complete()
        return int(names[-1].removeprefix("step-")) if names else 0

    def newest(self) -> TrainState | None:
        """The newest state, or None. UserError where it is damaged or of another version."""
        names = self.complete()
        return self._read(names[-1]) if names else None

    def _read(self, name: str) -> TrainState:
        where = f"{self._folder.uri}/{name}"
        try:
            sums = json.loads(self._folder.read(f"{name}/COMPLETE"))
            files = {f"{each}.safetensors" for each in _TENSORS} | {"state.json"}
            data = {file: self._folder.read(f"{name}/{file}") for file in sorted(files)}
            damaged = [file for file in sorted(files) if hashlib.sha256(data[file]).hexdigest() != sums.get(file)]
            if damaged:
                raise UserError(
                    f"train state {where}: {', '.join(damaged)} does not match its checksum; delete that folder to go on from the state before"
                )
            facts = json.loads(data["state.json"])
            if facts.pop("version") != STATE_VERSION:
                raise UserError(f"train state {where} is of another version of hcmoco; this one reads version {STATE_VERSION}")
            return TrainState(**facts, **{each: load(data[f"{each}.safetensors"]) for each in _TENSORS})
        except (OSError, ValueError, KeyError, TypeError, AttributeError, SafetensorError) as error:
            raise UserError(
                f"train state {where} cannot be read ({first_line(error)}); delete that folder to go on from the state before"
            ) from None


def check_identity(saved: dict, identity: dict, where: str) -> None:
    """UserError that names the first difference between what a run was (`saved`) and what it would now be."""
    difference = _difference(json.loads(json.dumps(saved)), json.loads(json.dumps(identity)), "")
    if difference:
        raise UserError(f"{where} holds a run with another config: {difference}; take the same config again, or another folder with out=...")


def _difference(was: object, now: object, key: str) -> str:
    if isinstance(was, dict) and isinstance(now, dict):
        for name in sorted({*was, *now}):
            if text := _difference(was.get(name), now.get(name), f"{key}.{name}" if key else name):
                return text
        return ""
    if isinstance(was, list) and isinstance(now, list) and len(was) == len(now):
        return next((text for i, pair in enumerate(zip(was, now, strict=True)) if (text := _difference(*pair, f"{key}.{i}"))), "")
    return "" if was == now else f"{key} was {was!r}, now {now!r}"
