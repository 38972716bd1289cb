"""Read a results folder that the programs in tuning/ wrote, and check the form of its files.

<results>/PROGRAM.json                                           an index: the experiments and their status
<results>/experiments/NAME.json, versatility/NAME.json           a fine-tuning, a co-training: metrics, evals
<results>/pretrainings/INIT.json                                 a pre-training: conditions, probes
<results>/pictures/*.png, versatility/*.png
"""

import json
from dataclasses import dataclass
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from hcmoco import config_errors
from hcmoco.errors import UserError
from hcmoco.storage import Folder, join
from hcmoco_ray.experiments.results import NO_WEIGHTS

PROGRAMS = ("label_fractions", "ablation", "backbones", "versatility")
_EARLIER = {"label_fractions": "fractions.json"}
PICTURE_FOLDERS = ("pictures", "versatility")


class _File(BaseModel):
    """A file of the folder; keys that are not read here are ignored."""

    model_config = ConfigDict(extra="ignore", frozen=True)


class Labels(_File):
    """The labeled rows of a training."""

    rows: int


class Test(_File):
    """Scores on the test data; `metrics` are shares from 0 to 1, or lengths in cm."""

    rows: int
    metrics: dict[str, float]


class Init(_File):
    """The encoder initialization of a training; `name` is the grid's name of it."""

    name: str = ""


class _Provenance(_File):
    """Facts that every result has."""

    seed: int
    steps: int
    precision: str = ""
    hcmoco: str = ""
    torch: str = ""
    commit: str = ""


class Run(_Provenance):
    """A fine-tuning or a co-training; `evals` are (step, metrics), `seconds` its time."""

    task: str = ""
    experiment: str = ""
    method: str = ""
    init: Init = Init()
    labels: Labels
    primary_metric: str
    test: Test
    evals: list[tuple[int, dict[str, float]]] = []
    seconds: float


class Pretraining(_Provenance):
    """A pre-training.

    Attributes:
        probes: moment -> metric -> percentage.
        seconds: its duration; None if it was not timed from start to end.
    """

    init: str
    recipe: str = ""
    overrides: list[str] | dict[str, object] = []
    digests: dict[str, str] = {}
    probes: dict[str, dict[str, float]] = {}
    seconds: float | None


class _Line(_File):
    """An experiment in an index: of a grid (task, init, labels), or of versatility.py (experiment, method)."""

    task: str = ""
    init: str = ""
    labels: str = ""
    experiment: str = ""
    method: str = ""
    seed: int
    status: str
    result: str | None = None


class Index(_File):
    """The index of a program."""

    recipe: str
    hcmoco: str = ""
    commit: str = ""
    experiments: list[_Line]


@dataclass(frozen=True)
class Entry:
    """An experiment with its status, and its result if it is done. `labels` is "" for a co-training."""

    program: str
    task: str
    init: str
    labels: str
    seed: int
    status: str
    run: Run | None


@dataclass(frozen=True)
class Results:
    """The content of a folder.

    Attributes:
        indices: by program.
        entries: the experiments of all programs.
        pretrainings: the pre-trainings.
        pictures: name below the folder -> PNG file.
        notes: lines about what is missing.
    """

    indices: dict[str, Index]
    entries: tuple[Entry, ...]
    pretrainings: tuple[Pretraining, ...]
    pictures: dict[str, bytes]
    notes: tuple[str, ...]


def read_results(uri: str) -> Results:
    """Read the folder at `uri`.

    Raises:
        UserError: the folder does not exist or holds no results, or a file is not what it should be.
    """
    folder = Folder(uri)
    if not folder.sizes() and not folder.folders():
        raise UserError(
            f"{uri}: this folder does not exist or is empty; give a folder of results that the programs in tuning/ "
            "wrote"
        )
    indices: dict[str, Index] = {}
    entries: list[Entry] = []
    notes: list[str] = []
    for program in PROGRAMS:
        if not folder.exists(f"{program}.json"):
            earlier = _EARLIER.get(program)
            notes.append(
                f"{earlier} is of version 0.1: run tuning/{program}.py again, which keeps what is done"
                if earlier and folder.exists(earlier)
                else f"{program}.json does not exist: tuning/{program}.py was not run"
            )
            continue
        indices[program] = _read(folder, f"{program}.json", Index)
        for line in indices[program].experiments:
            task, init = line.experiment or line.task, line.method or line.init
            run, status = None, line.status
            if line.result and (".." in line.result.split("/") or line.result.startswith("/") or ":" in line.result):
                raise UserError(
                    f"{join(uri, f'{program}.json')}: result {line.result!r} is outside the folder; "
                    f"run tuning/{program}.py again"
                )
            if line.result and not folder.exists(line.result):
                status = "missing"
                notes.append(f"{line.result} does not exist, though {program}.json names it")
            elif line.result:
                run = _read(folder, line.result, Run)
                if (run.experiment or run.task, run.method or run.init.name, run.seed) != (task, init, line.seed):
                    raise UserError(
                        f"{join(uri, line.result)} is another experiment's result than {program}.json says; "
                        f"run tuning/{program}.py again"
                    )
            entries.append(Entry(program, task, init, line.labels, line.seed, status, run))
    notes += _without_result(entries)
    files = sorted(name for name in folder.sizes("pretrainings") if _is(name, ".json"))
    pretrainings = [_read(folder, f"pretrainings/{name}", Pretraining) for name in files]
    if not (indices or pretrainings or any(folder.exists(name) for name in _EARLIER.values())):
        raise UserError(
            f"{uri}: no results are here, neither {', '.join(f'{program}.json' for program in PROGRAMS)} nor "
            "pretrainings/; give a folder of results that the programs in tuning/ wrote"
        )
    if not pretrainings:
        notes.append("pretrainings/ holds no file: the probes of the pre-trainings are not shown")
    names = [
        f"{below}/{name}" for below in PICTURE_FOLDERS for name in sorted(folder.sizes(below)) if _is(name, ".png")
    ]
    return Results(
        indices, tuple(entries), tuple(pretrainings), {name: folder.read(name) for name in names}, tuple(notes)
    )


def _is(name: str, suffix: str) -> bool:
    return name.endswith(suffix) and not name.startswith(".")


def _without_result(entries: list[Entry]) -> list[str]:
    """Return a line for each initialization and status, with the experiments without a result."""
    groups: dict[tuple[str, str, str], dict[str, list[int]]] = {}
    for each in entries:
        if each.run is None and each.status != NO_WEIGHTS:
            name = " ".join(part for part in (each.task, each.labels) if part)
            groups.setdefault((each.program, each.init, each.status), {}).setdefault(name, []).append(each.seed)
    unstarted = [each for each in entries if each.run is None and each.status == NO_WEIGHTS]
    noun = "experiment starts" if len(unstarted) == 1 else "experiments start"
    lines = [f"{len(unstarted)} {noun} from ImageNet's weights, which were not at hand"] if unstarted else []
    for (program, init, status), names in groups.items():
        listed = "; ".join(
            f"{name} (seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, sorted(seeds)))})"
            for name, seeds in names.items()
        )
        lines.append(f"{program}, {init}: {status}: {listed}")
    return lines


_Kind = TypeVar("_Kind", bound=BaseModel)


def _read(folder: Folder, name: str, kind: type[_Kind]) -> _Kind:
    """Read a file as `kind`. Raises UserError that names the file and the first mistake in it."""
    place = join(folder.uri, name)
    try:
        values = json.loads(folder.read(name))
        return kind.model_validate(values)
    except ValidationError as error:
        mistakes = config_errors.lines(kind, values, error.errors())
        raise UserError(f"{place}: {mistakes}; delete the file and run its program in tuning/ again") from None
    except ValueError as error:
        raise UserError(f"{place}: not JSON ({error}); delete the file and run its program in tuning/ again") from None
