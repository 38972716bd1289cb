"""Train states: everything a resumed run needs, on disk or in an object store, never seen half-written.

<run>/states/step-00000300/
  model.safetensors      parameters and buffers
  optimizer.safetensors  optimizer slots, one tensor per parameter and slot
  bank.safetensors       memory banks
  best.safetensors       weights of the best validation so far, of a fine-tuning
  state.json             step, stage, what the run is (plan, model, objective, ...), tracking run, probe results
  COMPLETE               JSON {file: SHA-256}, written last; a folder without it is not a state
<run>/states/ATTEMPT     number of the newest start of the run; a writer of an earlier one changes nothing any more
"""

import hashlib
import json
import os
import re
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

import torch
from safetensors import SafetensorError
from safetensors.torch import load
from torch import nn

from hcmoco.config import first_difference, upgrade
from hcmoco.errors import UserError, one_line
from hcmoco.storage import Folder, HashingSink, join
from hcmoco.training.optim_step import OptimStep
from hcmoco.training.tensor_files import write_tensors

STATE_VERSION = 3
_ATTEMPT = "ATTEMPT"
_TENSORS = ("model", "optimizer", "bank", "best")
_FACTS = ("step", "stage", "identity", "tracking_run", "history")
_NAME = re.compile(r"step-[0-9]{8,}")


@dataclass
class TrainState:
    """A run after `step` steps.

    Attributes:
        step: steps done.
        stage: 1, or 2 once the second stage has begun (dense mappers exist).
        identity: name -> JSON value; a resumed run must have the same (plan, model, objective, optimizer, ...).
        model, optimizer, bank, best: named tensors on the CPU; those that a run does not have are empty.
        tracking_run: id of the run in the tracking store, or "".
        history: what a closing report needs: probe results by moment ("after stage 1", ...), or the evaluations during
            training.
    """

    step: int
    stage: Literal[1, 2]
    identity: dict
    model: dict[str, torch.Tensor]
    optimizer: dict[str, torch.Tensor]
    bank: dict[str, torch.Tensor] = field(default_factory=dict)
    best: dict[str, torch.Tensor] = field(default_factory=dict)
    tracking_run: str = ""
    history: dict = field(default_factory=dict)

    def let_go(self) -> None:
        """Forget the tensors, once a training has taken them over: whoever holds the state would keep them twice."""
        self.model, self.optimizer, self.bank, self.best = {}, {}, {}, {}


def _files(state: TrainState) -> dict[str, Callable[[HashingSink], object]]:
    """Return for each file of a state, COMPLETE aside, what writes it."""
    facts = {key: getattr(state, key) for key in _FACTS}
    text = json.dumps({"version": STATE_VERSION, **facts}, indent=1, sort_keys=True).encode()
    tensors = {f"{part}.safetensors": partial(_write_part, state, part) for part in _TENSORS}
    return {**tensors, "state.json": lambda sink: sink.write(text)}


def _write_part(state: TrainState, part: str, sink: HashingSink) -> None:
    write_tensors(sink, getattr(state, part))


def _sums(state: TrainState, opened: Callable[[str], AbstractContextManager[Any]]) -> bytes:
    """Write the files of a state into what `opened` opens by their names; return the content of COMPLETE."""
    digests = {}
    for file, write in _files(state).items():
        with opened(file) as stream:
            sink = HashingSink(stream)
            write(sink)
        digests[file] = sink.sha256
    return json.dumps(digests, indent=1).encode()


def _nowhere(name: str) -> AbstractContextManager[Any]:
    return open(os.devnull, "wb")


class States:
    """The train states of one run.

    Args:
        uri: folder that holds them; any URI.
        num_checkpoints: how many of the newest to keep.
        attempt: number of the start that writes, see `begin_attempt`; None: it is not checked.
    """

    def __init__(self, uri: str, num_checkpoints: int = 2, attempt: int | None = None):
        self._folder = Folder(uri)
        self._num_checkpoints = num_checkpoints
        self._attempt = attempt

    def begin_attempt(self) -> int:
        """Return the number of a new start. From now on writers of earlier starts are refused.

        A worker may live on after its run was started again, on a machine that was cut off: when it is back, it must
        neither complete nor delete a state.
        """
        attempt = self._newest_attempt() + 1
        self._folder.write(_ATTEMPT, str(attempt).encode())
        return attempt

    def _newest_attempt(self) -> int:
        try:
            return int(self._folder.read(_ATTEMPT))
        except FileNotFoundError:
            return 0
        except ValueError:
            raise UserError(
                f"{join(self._folder.uri, _ATTEMPT)} does not hold a number; delete it if no other program trains here"
            ) from None

    def _check_attempt(self) -> None:
        if self._attempt is not None and (newest := self._newest_attempt()) != self._attempt:
            raise UserError(
                f"{self._folder.uri}: the run was started again (start {newest}) while this worker belongs to start "
                f"{self._attempt}; this worker stops and leaves the states alone"
            )

    def write(self, state: TrainState) -> None:
        """Add `state`, then delete those that are too many, and what a killed writer left. One process may write at a
        time.

        A state that exists already, byte for byte, is not written again.

        Raises:
            UserError: a later start of the run has begun.
        """
        self._check_attempt()
        name = f"step-{state.step:08d}"
        if name not in self.complete() or self._folder.read(f"{name}/COMPLETE") != _sums(state, _nowhere):
            self._delete(name)
            # A store that is away for a moment is waited for, and the files are written again.
            sums = self._folder.patiently(lambda: _sums(state, self._folder.child(name).replacing))
            self._check_attempt()
            self._folder.write(f"{name}/COMPLETE", sums)
        kept = self.complete()[-self._num_checkpoints :]
        for folder in self._folder.folders():
            if _NAME.fullmatch(folder) and folder not in kept:
                self._delete(folder)

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

    def at(self, step: int) -> TrainState | None:
        """Return the state after `step` steps; None for step 0, where a run begins without one.

        Raises:
            UserError: there is no such state, or it is damaged or of another version.
        """
        if not step:
            return None
        name = f"step-{step:08d}"
        if name not in self.complete():
            raise UserError(
                f"{join(self._folder.uri, name)} is gone since the workers were started; run the same command "
                "again: it goes on from the newest train state"
            )
        return self._read(name)

    def _read(self, name: str) -> TrainState:
        where = join(self._folder.uri, name)
        try:
            sums = json.loads(self._folder.read(f"{name}/COMPLETE"))
            files = {f"{part}.safetensors" for part in _TENSORS} | {"state.json"}
            parts, damaged = {}, []
            for file in sorted(files):  # one after the other: never all of them twice in memory
                data = self._folder.read(f"{name}/{file}")
                if hashlib.sha256(data).hexdigest() != sums.get(file):
                    damaged.append(file)
                else:
                    parts[file] = data if file == "state.json" else load(data)
                del data
            if damaged:
                raise UserError(
                    f"train state {where}: {', '.join(damaged)} does not match its checksum; "
                    "delete that folder to resume from the state before it, if there is one"
                )
            facts = json.loads(parts["state.json"])
            _check_version(facts.pop("version"), where)
            state = TrainState(**facts, **{part: parts[f"{part}.safetensors"] for part in _TENSORS})
            kinds = {"step": int, "stage": int, "identity": dict, "tracking_run": str, "history": dict}
            wrong = [key for key, kind in kinds.items() if type(getattr(state, key)) is not kind]
            wrong += [] if state.stage in (1, 2) else ["stage"]
            if wrong or state.step != _step(name):
                raise ValueError(f"state.json: {', '.join(wrong or ['step'])} is not what this program writes")
            return state
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError, SafetensorError) as error:
            raise UserError(
                f"train state {where} cannot be read ({one_line(error)}); "
                "delete that folder to resume from the state before it, if there is one"
            ) from None


def _check_version(version: object, where: str) -> None:
    if version == STATE_VERSION:
        return
    if version in (1, 2):
        raise UserError(
            f"train state {where} was written by hcmoco 0.1, which this version cannot resume: finish the run with "
            f"hcmoco 0.1, or start "
            "again in another folder; an export of that run still loads"
        )
    raise UserError(
        f"train state {where} has version {version}, this program reads {STATE_VERSION}: resume with the version of "
        f"hcmoco that wrote "
        "it, or start again in another folder"
    )


def _step(name: str) -> int:
    return int(name.removeprefix("step-"))


def check_resumes(config: Any, state: TrainState, identity: dict, where: str) -> None:
    """Check that a state is of the run that resumes from it. Keys of the state that were renamed since count as equal.

    Args:
        config: of the run.
        identity: of the run.
        where: its folder, for messages.

    Raises:
        UserError: see `check_identity`.
    """
    check_identity(upgrade(type(config), state.identity), identity, where)


def check_identity(saved: dict, identity: dict, where: str) -> None:
    """Raise UserError that names the first difference between what a run was (`saved`) and what it would now be."""
    difference = first_difference(json.loads(json.dumps(saved)), json.loads(json.dumps(identity)))
    if difference:
        key, was, now = difference
        raise UserError(
            f"{where} holds a run with another config: {key} was {was!r}, now {now!r}; "
            "take the same config again, or another folder with output_dir=..."
        )


def capture(model: nn.Module, optim: OptimStep, *, step: int, **facts: Any) -> TrainState:
    """Return the state after `step` steps; `facts` are the other fields of a TrainState.

    Raises:
        UserError: a weight is no longer finite; such a state is not kept.
    """
    bad = [name for name, weight in model.named_parameters() if not weight.isfinite().all()]
    if bad:
        raise UserError(
            f"the weights {bad[0]} are no longer finite after step {step}; lower optim.lr, or set optim.clip_norm"
        )
    return TrainState(step=step, model=model.state_dict(), optimizer=optim.state_dict(), **facts)


def restore(state: TrainState, model: nn.Module, optim: OptimStep, *, where: str, libraries: str) -> None:
    """Copy the weights and the optimizer's slots of a state into a model.

    Args:
        where: the run's folder, for messages.
        libraries: whose versions matter, for messages: another release may name the weights otherwise.

    Raises:
        UserError: the tensors are not those of this model.
    """
    try:
        model.load_state_dict(state.model)
        optim.load_state_dict(state.optimizer)
    except (RuntimeError, ValueError) as error:
        raise UserError(
            f"the train state in {where} does not fit this model ({' '.join(str(error).split())[:200]}); resume with "
            f"the versions of "
            f"{libraries} that wrote it, or choose another folder with output_dir=..."
        ) from None
