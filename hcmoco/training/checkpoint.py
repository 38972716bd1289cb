"""The train state on disk or in an object store: everything a resumed run needs, and never seen half-written.

<run>/states/step-00000300/
  model.safetensors      parameters and buffers
  optimizer.safetensors  optimiser slots, one tensor per parameter and slot
  bank.safetensors       memory banks
  best.safetensors       the chosen model so far, of a fine-tuning
  state.json             step, stage, what the run is (plan, model, objective, ...), tracking run, probe results
  COMPLETE               JSON {file: SHA-256}, written last; a folder without it is not a state
"""

import hashlib
import json
import re
from dataclasses import dataclass, field

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save

from hcmoco.errors import UserError
from hcmoco.storage import Folder, first_line

STATE_VERSION = 2
_TENSORS = ("model", "optimizer", "bank", "best")
_FACTS = ("step", "full", "identity", "tracking_run", "history")
_NAME = re.compile(r"step-[0-9]{8,}")


@dataclass
class TrainState:
    """What a run is after `step` steps.

    Attributes:
        step: steps done.
        full: the second stage has begun (dense mappers exist).
        identity: name -> JSON value; a resumed run must have the same (plan, model, objective, optimiser, ...).
        model, optimizer, bank, best: named tensors on the CPU; those that a run does not have are empty.
        tracking_run: id of the run in the tracking store, or "".
        history: what a closing report needs: probe results by moment ("after stage 1", ...), or the validations of a fine-tuning.
    """

    step: int
    full: bool
    identity: dict
    model: dict[str, torch.Tensor]
    optimizer: dict[str, torch.Tensor]
    bank: dict[str, torch.Tensor] = field(default_factory=dict)
    best: dict[str, torch.Tensor] = field(default_factory=dict)
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
        """Adds `state`, then deletes those that are too many, and what a killed writer left. One process may write at a time.

        A state that is there already, byte for byte, is not written again.
        """
        name = f"step-{state.step:08d}"
        files = {
            f"{each}.safetensors": save(
                {key: value.detach().cpu().contiguous() for key, value in getattr(state, each).items()}
            )
            for each in _TENSORS
        }
        facts = {key: getattr(state, key) for key in _FACTS}
        files["state.json"] = json.dumps({"version": STATE_VERSION, **facts}, indent=1, sort_keys=True).encode()
        sums = json.dumps({file: hashlib.sha256(data).hexdigest() for file, data in files.items()}, indent=1).encode()
        if name not in self.complete() or self._folder.read(f"{name}/COMPLETE") != sums:
            self._delete(name)
            for file, data in files.items():
                self._folder.write(f"{name}/{file}", data)
            self._folder.write(f"{name}/COMPLETE", sums)
        kept = self.complete()[-self._keep :]
        for other in self._folder.folders():
            if _NAME.fullmatch(other) and other not in kept:
                self._delete(other)

    def _delete(self, name: str) -> None:
        # COMPLETE goes first, so that a folder that is deleted by half is not a state.
        self._folder.delete(f"{name}/COMPLETE")
        self._folder.delete_folder(name)

    def complete(self) -> list[str]:
        """Names of the states that were written to their end, oldest first."""
        names = sorted((name for name in self._folder.folders() if _NAME.fullmatch(name)), key=_step)
        return [name for name in names if self._folder.exists(f"{name}/COMPLETE")]

    @property
    def newest_step(self) -> int:
        """Steps done in the newest state; 0 where there is none."""
        names = self.complete()
        return _step(names[-1]) if names else 0

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
                    f"train state {where}: {', '.join(damaged)} does not match its checksum; "
                    "delete that folder to go on from the state before, if there is one"
                )
            facts = json.loads(data["state.json"])
            if facts.pop("version") != STATE_VERSION:
                raise UserError(
                    f"train state {where} is of another version of hcmoco; this one reads version {STATE_VERSION}: "
                    "go on with the version that wrote it, or choose another folder"
                )
            state = TrainState(**facts, **{each: load(data[f"{each}.safetensors"]) for each in _TENSORS})
            kinds = {"step": int, "full": bool, "identity": dict, "tracking_run": str, "history": dict}
            wrong = [key for key, kind in kinds.items() if type(getattr(state, key)) is not kind]
            if wrong or state.step != _step(name):
                raise ValueError(f"state.json: {', '.join(wrong or ['step'])} is not what this program writes")
            return state
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError, SafetensorError) as error:
            raise UserError(
                f"train state {where} cannot be read ({first_line(error)}); "
                "delete that folder to go on from the state before, if there is one"
            ) from None


def _step(name: str) -> int:
    return int(name.removeprefix("step-"))


def check_identity(saved: dict, identity: dict, where: str) -> None:
    """UserError that names the first difference between what a run was (`saved`) and what it would now be."""
    difference = _difference(json.loads(json.dumps(saved)), json.loads(json.dumps(identity)), "")
    if difference:
        raise UserError(
            f"{where} holds a run with another config: {difference}; take the same config again, or another folder with out=..."
        )


def _difference(was: object, now: object, key: str) -> str:
    if isinstance(was, dict) and isinstance(now, dict):
        for name in sorted({*was, *now}):
            if text := _difference(was.get(name), now.get(name), f"{key}.{name}" if key else name):
                return text
        return ""
    if isinstance(was, list) and isinstance(now, list) and len(was) == len(now):
        return next(
            (text for i, pair in enumerate(zip(was, now, strict=True)) if (text := _difference(*pair, f"{key}.{i}"))),
            "",
        )
    return "" if was == now else f"{key} was {was!r}, now {now!r}"
