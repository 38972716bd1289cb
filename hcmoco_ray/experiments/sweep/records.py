"""What a sweep leaves on disk, from which the same command goes on after any kill. All of it is JSON; nothing of Ray's own is read back.

<out>/sweep.json           id, and what the sweep is: another one is refused
<out>/trials/0007.json     a trial that is over: values, status, score, figures, (step, figure) reports, starts
<out>/work/0007/           a trial that was begun and is not over
    values.json              its values, written before it starts
    progress.json            its reports and starts so far, and which states are its
    states-0/                train states (states-1, ... after it went on from another trial's state)
"""

import json
import time
import uuid
from dataclasses import asdict, dataclass, field
from typing import Any

from hcmoco.errors import UserError
from hcmoco.storage import Folder
from hcmoco.training.checkpoint import check_identity
from hcmoco_ray.experiments.sweep.config import Value
from hcmoco_ray.experiments.sweep.suggest import Tried

DONE, STOPPED, FAILED = "done", "stopped", "failed"


@dataclass
class Progress:
    """How far a trial that is not over has come.

    Attributes:
        reports: (step, figure) of each probe, steps ascending unless it went on from another trial's earlier state.
        starts: one entry for each time that its process began: `step`, and the time in seconds since 1970.
        schedule: the values from each step on: `step`, `values`, and `from`, the trial whose state it went on from, where it did.
        generation: number of the folder of states that is its.
        seconds: that it has run.
    """

    reports: list[list[float]] = field(default_factory=list)
    starts: list[dict] = field(default_factory=list)
    schedule: list[dict] = field(default_factory=list)
    generation: int = 0
    seconds: float = 0.0

    def report(self, step: int, figure: float) -> None:
        """Adds a report. A step that is repeated after a restart is the same one."""
        if not self.reports or self.reports[-1][0] != step:
            self.reports.append([step, figure])


@dataclass(frozen=True)
class Records:
    """The folder of one sweep."""

    out: str

    @property
    def folder(self) -> Folder:
        return Folder(self.out)

    def there(self) -> tuple[str, dict] | None:
        """Id and identity of the sweep in the folder, if there is one."""
        if not self.folder.exists("sweep.json"):
            return None
        try:
            there = json.loads(self.folder.read("sweep.json"))
            return str(there["id"]), {**there["identity"]}
        except (ValueError, KeyError, TypeError):
            raise UserError(
                f"{self.out}/sweep.json is not what this program writes; choose another folder with out=..."
            ) from None

    def open(self, identity: dict) -> str:
        """The id of the sweep in the folder, which begins here if there is none. UserError, naming the first difference, for another."""
        there = self.there()
        if there:
            number, was = there
            check_identity(was, json.loads(json.dumps(identity)), self.out)
            return number
        if self.folder.sizes():
            others = [name for name in self.folder.sizes() if not name.startswith((".", "mlflow."))]
            if others:
                raise UserError(f"{self.out} holds other files ({others[0]}); choose another folder with out=...")
        number = uuid.uuid4().hex
        self.folder.write("sweep.json", json.dumps({"id": number, "identity": identity}, indent=1).encode())
        return number

    def over(self) -> dict[int, dict]:
        """The records of trials that are over, by number."""
        names = sorted(name for name in self.folder.sizes("trials") if name.endswith(".json"))
        return {int(name.removesuffix(".json")): json.loads(self.folder.read(f"trials/{name}")) for name in names}

    def begun(self) -> dict[int, dict[str, Value]]:
        """The first values of trials that were begun and are not over, by number."""
        over = {int(name.removesuffix(".json")) for name in self.folder.sizes("trials") if name.endswith(".json")}
        numbers = sorted(int(name) for name in Folder(f"{self.out}/work").folders() if name.isdigit())
        values = {
            n: json.loads(self.folder.read(f"{_work(n)}/values.json"))
            for n in numbers
            if self.folder.exists(f"{_work(n)}/values.json")
        }
        return {number: each for number, each in values.items() if number not in over}

    def begin(self, number: int, values: dict[str, Value]) -> None:
        """Notes the values of a trial before it starts."""
        self.folder.write(f"{_work(number)}/values.json", json.dumps(values).encode())

    def progress(self, number: int) -> Progress:
        """How far a trial has come; empty for one that has not started."""
        name = f"{_work(number)}/progress.json"
        return Progress(**json.loads(self.folder.read(name))) if self.folder.exists(name) else Progress()

    def keep(self, number: int, progress: Progress) -> None:
        """Notes how far a trial has come."""
        self.folder.write(f"{_work(number)}/progress.json", json.dumps(asdict(progress)).encode())

    def values_now(self, number: int, first: dict[str, Value]) -> dict[str, Value]:
        """The values that a trial goes on with: those of the newest entry of its schedule."""
        schedule = self.progress(number).schedule
        return schedule[-1]["values"] if schedule else first

    def states(self, number: int, generation: int) -> str:
        """Folder of a trial's train states."""
        return f"{self.out}/{_work(number)}/states-{generation}"

    def place(self, number: int) -> str:
        """Folder of a trial that is not over."""
        return f"{self.out}/{_work(number)}"

    def end(self, number: int, status: str, *, score: float | None = None, steps: int = 0, **more: Any) -> dict:
        """Notes that a trial is over, once and for all, and returns its record."""
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
        }
        record["ended"] = time.time()
        self.folder.write(f"trials/{number:04d}.json", json.dumps(record, indent=1).encode())
        return record

    def clear(self, number: int) -> None:
        """Deletes the states of a trial that is over."""
        self.folder.delete_folder(_work(number))

    def tried(self) -> list[Tried]:
        """All trials that were begun, for the choice of the next values."""
        over = [(number, Tried(each["values"], each["score"])) for number, each in self.over().items()]
        begun = [(number, Tried(values, None, over=False)) for number, values in self.begun().items()]
        return [each for _, each in sorted(over + begun, key=lambda pair: pair[0])]


def _work(number: int) -> str:
    return f"work/{number:04d}"
