"""The files of a sweep, from which the same command resumes after any kill. No file of Ray's is read back.

<out>/sweep.json           id and identity of the sweep: another sweep is refused
<out>/trials/0007.json     a finished trial: values, status, score, metrics, (step, metric) reports, starts, versions
<out>/work/0007/           a trial that was started and is not finished
    values.json              its values, written before it starts
    progress.json            its reports and starts so far, and which states are its own
    states-0/                train states (states-1, ... after it resumed from another trial's state)
"""

import json
import time
import uuid
from dataclasses import asdict, dataclass, field
from typing import Any

from hcmoco.errors import UserError
from hcmoco.storage import Folder, join
from hcmoco.training.checkpoint import check_identity
from hcmoco_ray.experiments.sweep.config import Value
from hcmoco_ray.experiments.sweep.suggest import Tried
from hcmoco_ray.tracking.provenance import made_by

DONE, STOPPED, FAILED = "done", "stopped", "failed"


@dataclass
class Progress:
    """The progress of an unfinished trial.

    Attributes:
        reports: (step, metric) of each probe; steps ascend unless it resumed from another trial's earlier state.
        starts: an entry for each start of its process: `step`, and `time` in seconds since 1970.
        schedule: the values from each step on: `step`, `values`, and, where it resumed from another trial's state,
            `from`, the number of that trial.
        generation: number of the folder of states that is its own.
        seconds: how long it has run.
    """

    reports: list[list[float]] = field(default_factory=list)
    starts: list[dict] = field(default_factory=list)
    schedule: list[dict] = field(default_factory=list)
    generation: int = 0
    seconds: float = 0.0

    def report(self, step: int, value: float) -> None:
        """Add a report, unless the last one is of the same step, which a restart repeats."""
        if not self.reports or self.reports[-1][0] != step:
            self.reports.append([step, value])


@dataclass(frozen=True)
class Records:
    """The folder `out` of one sweep."""

    out: str

    @property
    def folder(self) -> Folder:
        return Folder(self.out)

    def saved(self) -> tuple[str, dict] | None:
        """Return id and identity of the sweep in the folder; None if it holds none.

        Raises:
            UserError: the file is damaged.
        """
        if not self.folder.exists("sweep.json"):
            return None
        try:
            values = json.loads(self.folder.read("sweep.json"))
            return str(values["id"]), {**values["identity"]}
        except (ValueError, KeyError, TypeError):
            raise UserError(
                f"{join(self.out, 'sweep.json')} is not what this program writes; "
                "choose another folder with output_dir=..."
            ) from None

    def open(self, identity: dict) -> str:
        """Return the id of the sweep in the folder, starting the sweep if the folder holds none.

        Raises:
            UserError: the folder holds other files, or another sweep; the message names the first difference.
        """
        saved = self.saved()
        if saved:
            sweep_id, saved_identity = saved
            check_identity(saved_identity, json.loads(json.dumps(identity)), self.out)
            return sweep_id
        others = [name for name in self.folder.sizes() if not name.startswith((".", "mlflow."))]
        if others:
            raise UserError(f"{self.out} holds other files ({others[0]}); choose another folder with output_dir=...")
        sweep_id = uuid.uuid4().hex
        self.folder.write("sweep.json", json.dumps({"id": sweep_id, "identity": identity}, indent=1).encode())
        return sweep_id

    def finished(self) -> dict[int, dict]:
        """Return the records of finished trials, by number."""
        names = sorted(name for name in self.folder.sizes("trials") if name.endswith(".json"))
        return {
            int(name.removesuffix(".json")): _upgraded(json.loads(self.folder.read(f"trials/{name}"))) for name in names
        }

    def unfinished(self) -> dict[int, dict[str, Value]]:
        """Return the first values of trials that were started and are not finished, by number."""
        finished = {int(name.removesuffix(".json")) for name in self.folder.sizes("trials") if name.endswith(".json")}
        numbers = sorted(int(name) for name in self.folder.child("work").folders() if name.isdigit())
        values = {
            n: json.loads(self.folder.read(f"{_work(n)}/values.json"))
            for n in numbers
            if self.folder.exists(f"{_work(n)}/values.json")
        }
        return {number: first for number, first in values.items() if number not in finished}

    def begin(self, number: int, values: dict[str, Value]) -> None:
        """Write the values of a trial before it starts."""
        self.folder.write(f"{_work(number)}/values.json", json.dumps(values).encode())

    def progress(self, number: int) -> Progress:
        """Return the progress of a trial; empty for one that has not started."""
        name = f"{_work(number)}/progress.json"
        return Progress(**json.loads(self.folder.read(name))) if self.folder.exists(name) else Progress()

    def keep(self, number: int, progress: Progress) -> None:
        """Write the progress of a trial."""
        self.folder.write(f"{_work(number)}/progress.json", json.dumps(asdict(progress)).encode())

    def values_now(self, number: int, first: dict[str, Value]) -> dict[str, Value]:
        """Return the current values of a trial: those of the newest entry of its schedule."""
        schedule = self.progress(number).schedule
        return schedule[-1]["values"] if schedule else first

    def states(self, number: int, generation: int) -> str:
        """Return the folder of a trial's train states."""
        return join(self.out, _work(number), f"states-{generation}")

    def place(self, number: int) -> str:
        """Return the folder of an unfinished trial."""
        return join(self.out, _work(number))

    def end(self, number: int, status: str, *, score: float | None = None, steps: int = 0, **more: Any) -> dict:
        """Write the record of a trial that is finished for good.

        Args:
            number: of the trial.
            status: DONE, STOPPED, or FAILED with a reason.
            score: in percent, or None.
            steps: that it trained.
            more: entries that are added to the record.

        Returns:
            The record.
        """
        first, progress = json.loads(self.folder.read(f"{_work(number)}/values.json")), self.progress(number)
        values = progress.schedule[-1]["values"] if progress.schedule else first
        record = {
            "number": number,
            "values": values,
            "status": status,
            "score": score,
            "steps": steps,
            **asdict(progress),
            **more,
            **made_by(),
        }
        record["ended"] = time.time()
        self.folder.write(f"trials/{number:04d}.json", json.dumps(record, indent=1).encode())
        return record

    def clear(self, number: int) -> None:
        """Delete the states of a finished trial."""
        self.folder.delete_folder(_work(number))

    def tried(self) -> list[Tried]:
        """Return all trials that were started, by number, for the choice of the next values."""
        trials = {number: Tried(values, None, finished=False) for number, values in self.unfinished().items()}
        trials |= {number: Tried(record["values"], record["score"]) for number, record in self.finished().items()}
        return [trials[number] for number in sorted(trials)]


def _work(number: int) -> str:
    return f"work/{number:04d}"


def _upgraded(record: dict) -> dict:
    """Return a trial's record of version 0.1 with today's keys."""
    return {{"figures": "metrics"}.get(key, key): value for key, value in record.items()}
