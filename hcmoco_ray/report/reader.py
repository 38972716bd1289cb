"""A results folder, read: what the programs in tuning/ left, checked for its form and not judged.

<results>/fractions.json, ablation.json, versatility.json   indices: which cells there are, and how each ended
<results>/cells/NAME.json, versatility/NAME.json            a fine-tuning, a co-training: figures, validations, conditions
<results>/pretrainings/INIT.json                            a pre-training: conditions, probes
<results>/pictures/*.png, versatility/*.png
"""

import json
from dataclasses import dataclass
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from hcmoco.errors import UserError
from hcmoco.storage import Folder

PROGRAMS = ("fractions", "ablation", "versatility")
PICTURE_FOLDERS = ("pictures", "versatility")


class _File(BaseModel):
    """A file may hold more than is read here."""

    model_config = ConfigDict(extra="ignore", frozen=True)


class Labels(_File):
    """The labelled rows of a training."""

    rows: int


class Test(_File):
    """Scores on the test data; `figures` are shares 0..1, but for those in cm."""

    rows: int
    figures: dict[str, float]


class _Made(_File):
    """What a result is of, and what made it."""

    init: str = ""
    seed: int
    steps: int
    precision: str = ""
    hcmoco: str = ""
    torch: str = ""
    commit: str = ""


class Run(_Made):
    """A fine-tuning or a co-training; `validations` are (step, figures), `seconds` its time."""

    task: str = ""
    experiment: str = ""
    method: str = ""
    labels: Labels
    main: str
    test: Test
    validations: list[tuple[int, dict[str, float]]] = []
    seconds: float


class Pretraining(_Made):
    """A pre-training; `probes` are percentages by moment and figure, `seconds` None where it was not timed from its start to its end."""

    init: str
    recipe: str = ""
    overrides: list[str] | dict[str, object] = []
    digests: dict[str, str] = {}
    probes: dict[str, dict[str, float]] = {}
    seconds: float | None


class _Line(_File):
    """A cell in an index: of a grid (task, init, labels), or of versatility.py (experiment, method)."""

    task: str = ""
    init: str = ""
    labels: str = ""
    experiment: str = ""
    method: str = ""
    seed: int
    status: str
    cell: str | None = None


class Index(_File):
    """What a program left behind."""

    recipe: str
    hcmoco: str = ""
    commit: str = ""
    cells: list[_Line]


@dataclass(frozen=True)
class Entry:
    """A cell: what it is, how it ended, and its result if it is done. `labels` is "" for a co-training."""

    program: str
    task: str
    init: str
    labels: str
    seed: int
    status: str
    run: Run | None


@dataclass(frozen=True)
class Results:
    """All of a folder; `notes` are lines about what is not there. `pictures` maps names below the folder to bytes of PNG."""

    indices: dict[str, Index]
    entries: tuple[Entry, ...]
    pretrainings: tuple[Pretraining, ...]
    pictures: dict[str, bytes]
    notes: tuple[str, ...]


def read_results(uri: str) -> Results:
    """Reads the folder at `uri`. UserError for a folder that is not there or empty, and for a file that is not what it should be."""
    folder = Folder(uri)
    if not folder.sizes() and not folder.folders():
        raise UserError(
            f"{uri}: there is no such folder, or nothing is in it; give a folder of results that the programs in tuning/ left"
        )
    indices: dict[str, Index] = {}
    entries: list[Entry] = []
    notes: list[str] = []
    for program in PROGRAMS:
        if not folder.exists(f"{program}.json"):
            notes.append(f"{program}.json is not there: tuning/{program}.py was not run")
            continue
        indices[program] = _read(folder, f"{program}.json", Index)
        for line in indices[program].cells:
            task, init = line.experiment or line.task, line.method or line.init
            run, status = None, line.status
            if line.cell and (".." in line.cell.split("/") or line.cell.startswith("/") or ":" in line.cell):
                raise UserError(
                    f"{uri}/{program}.json: cell {line.cell!r} lies outside the folder; run tuning/{program}.py again"
                )
            if line.cell and not folder.exists(line.cell):
                status = "missing"
                notes.append(f"{line.cell} is not there, though {program}.json names it")
            elif line.cell:
                run = _read(folder, line.cell, Run)
                if (run.experiment or run.task, run.method or run.init, run.seed) != (task, init, line.seed):
                    raise UserError(
                        f"{uri}/{line.cell} is another cell's result than {program}.json says; run tuning/{program}.py again"
                    )
            entries.append(Entry(program, task, init, line.labels, line.seed, status, run))
    notes += _open_cells(entries)
    files = sorted(name for name in folder.sizes("pretrainings") if _is(name, ".json"))
    pretrainings = [_read(folder, f"pretrainings/{name}", Pretraining) for name in files]
    if not pretrainings:
        notes.append("pretrainings/ holds no file: what the starts learnt in pre-training is not shown")
    names = [
        f"{below}/{name}" for below in PICTURE_FOLDERS for name in sorted(folder.sizes(below)) if _is(name, ".png")
    ]
    return Results(
        indices, tuple(entries), tuple(pretrainings), {name: folder.read(name) for name in names}, tuple(notes)
    )


def _is(name: str, suffix: str) -> bool:
    return name.endswith(suffix) and not name.startswith(".")


def _open_cells(entries: list[Entry]) -> list[str]:
    """A line for each start and way of ending but well, with the cells that ended so."""
    cells: dict[tuple[str, str, str], dict[str, list[int]]] = {}
    for each in entries:
        if each.run is None:
            name = " ".join(part for part in (each.task, each.labels) if part)
            cells.setdefault((each.program, each.init, each.status), {}).setdefault(name, []).append(each.seed)
    lines = []
    for (program, init, status), names in cells.items():
        listed = "; ".join(
            f"{name} (seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, sorted(seeds)))})"
            for name, seeds in names.items()
        )
        lines.append(f"{program}, {init}: {status}: {listed}")
    return lines


_Kind = TypeVar("_Kind", bound=BaseModel)


def _read(folder: Folder, name: str, kind: type[_Kind]) -> _Kind:
    """The file as `kind`; UserError that names the file and the first thing that is wrong with it."""
    place = f"{folder.uri}/{name}"
    try:
        return kind.model_validate(json.loads(folder.read(name)))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(each) for each in first["loc"]) or "the file"
        raise UserError(
            f"{place}: {where}: {first['msg']}; delete the file and run its program in tuning/ again"
        ) from None
    except ValueError as error:
        raise UserError(f"{place}: not JSON ({error}); delete the file and run its program in tuning/ again") from None
