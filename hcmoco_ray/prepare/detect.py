"""Find the people of a data set's pictures with a detector, before its items are read.

Ray Data runs it: tasks read pictures and decode videos; a pool of actors, each of which loads the weights once, finds
the people. What is found is kept in `_parts/detected-00000.json` and so on, for a run that is started again.
"""

import json
import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from hcmoco.datasets.base import Found, Rejected, Shown, Skipped
from hcmoco.datasets.detected import find_people
from hcmoco.detection.detector import Detected, Detector
from hcmoco.detection.opened import open_detector
from hcmoco.detection.options import DetectOptions
from hcmoco.errors import UserError
from hcmoco.storage import Folder
from hcmoco_ray import compat
from hcmoco_ray.cluster.nodes import alive_nodes
from hcmoco_ray.cluster.resources import count_fitting
from hcmoco_ray.prepare.reader import Source
from hcmoco_ray.prepare.request import WORK
from hcmoco_ray.tracking.progress import Progress

PREFIX = "detected-"
# CPUs of a task that reads, and of an actor that detects: a cluster of one CPU has room for both.
_READ_CPUS, _DETECT_CPUS = 0.25, 0.75
# Processes that are lost in a row, without an item between, before the program gives up.
_TRIES = 3
_GROUP = 32  # items that a task reads, at most
_BLOCK_BYTES = 16 << 20
_KEEP_EVERY_S = 30.0
_PICTURE = pa.schema(
    {
        "item": pa.int64(),
        "key": pa.string(),
        "width": pa.int64(),
        "height": pa.int64(),
        "rgb": pa.large_binary(),
        "boxes": pa.string(),
        "pictures": pa.int64(),
    }
)
_ANSWER = pa.schema(
    {"item": pa.int64(), "key": pa.string(), "found": pa.string(), "pictures": pa.int64(), "mistake": pa.string()}
)
_BROKEN = -1  # in place of the number of pictures: one could not be read


def find_all(source: Source, folder: Folder, items: Sequence, gpus: float = 0.0) -> list:
    """Return the items with the people that the detector of the source's config finds.

    Args:
        source: whose config has a detector.
        folder: of the data set; what was found is kept there.
        items: of the source.
        gpus: that each process with the detector asks the cluster for; 0: it computes on a CPU.

    Raises:
        UserError: the cluster has no such GPU, or the detector fails on a picture.
    """
    import ray

    stage = source.reader.to_detect
    if stage is None:
        raise TypeError(f"the reader of {source.kind} finds nobody")
    progress = Progress(f"finding people in {source.name}", len(items), source.unit)
    answers = _Answers(folder, [item.id for item in items], progress)
    missing = [
        (number, item)
        for number, item in enumerate(items)
        if number not in answers.found and not isinstance(item, Rejected | Skipped)
    ]
    progress.add(len(items) - len(missing), free=True)
    tries = 0
    try:
        while missing:
            left = len(missing)
            try:
                for table in _answered(source, missing, gpus):
                    answers.take(table)
            except ray.exceptions.RayError as error:
                tries += 1
                if not compat.is_lost_actor(error) or tries > _TRIES:
                    raise
            else:
                if any(number not in answers.found for number, _ in missing):
                    raise RuntimeError("Ray Data ended before all pictures were looked at")
            answers.forget_arrived()
            missing = [each for each in missing if each[0] not in answers.found]
            tries = 0 if len(missing) < left else tries
    finally:
        answers.keep()
        progress.close()
    result: list = []
    for number, item in enumerate(items):
        found = answers.found.get(number)
        result += stage.with_people(item, _unpacked(found)) if found else [item]
    return result


@dataclass
class _Answers:
    """What is found: it comes in any order, and is kept item by item.

    Attributes:
        folder: of the data set.
        ids: of the items, for messages.
        progress: of the items.
        found: by number of the item and key of the picture, packed.
    """

    folder: Folder
    ids: Sequence[str]
    progress: Progress
    found: dict[int, dict] = field(default_factory=dict)
    _arrived: dict[int, dict] = field(default_factory=dict)
    _pictures: dict[int, int] = field(default_factory=dict)
    _unkept: dict[int, dict] = field(default_factory=dict)
    _files: int = 0
    _kept_at: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        for name in self.folder.sizes(WORK):
            if name.startswith(PREFIX):
                self._files = max(self._files, int(name.removeprefix(PREFIX).partition(".")[0]) + 1)
                try:
                    earlier = json.loads(self.folder.read(f"{WORK}/{name}"))
                except (OSError, ValueError):
                    continue  # cut short: its items are looked at again
                self.found |= {int(number): each for number, each in earlier.items()}

    def take(self, table: pa.Table) -> None:
        """Take rows of `_ANSWER`. Raises UserError for a mistake."""
        for row in table.to_pylist():
            number = row["item"]
            if row["mistake"]:
                raise UserError(f"{self.ids[number]}: {row['mistake']}")
            arrived = self._arrived.setdefault(number, {})
            if row["found"]:
                arrived[row["key"]] = json.loads(row["found"])
            else:
                self._pictures[number] = row["pictures"]
            expected = self._pictures.get(number)
            if expected == len(arrived) or expected == _BROKEN:
                self._finish(number, whole=expected != _BROKEN)
        self.progress.show()
        if time.monotonic() - self._kept_at > _KEEP_EVERY_S:
            self.keep()

    def _finish(self, number: int, *, whole: bool) -> None:
        if number not in self.found:
            self.progress.add(1)
        self.found[number] = self._arrived[number]
        if whole:  # else a run that is started again looks at it again
            self._unkept[number] = self.found[number]

    def forget_arrived(self) -> None:
        """Forget what arrived of items that are not whole: a process was lost, and they are looked at again."""
        self._arrived.clear()
        self._pictures.clear()

    def keep(self) -> None:
        """Write what was not written yet."""
        if self._unkept:
            self.folder.write(f"{WORK}/{PREFIX}{self._files:05d}.json", json.dumps(self._unkept).encode())
            self._files += 1
            self._unkept = {}
        self._kept_at = time.monotonic()


def _answered(source: Source, numbered: Sequence[tuple[int, Any]], gpus: float) -> Iterator[pa.Table]:
    """Yield tables of `_ANSWER`, in any order: a row for each picture, and one for each item, of how many it has."""
    import ray.data

    pool = min(_room(gpus), len(numbered))
    logging.getLogger("ray.data").setLevel(logging.ERROR)  # it announces every execution
    context = ray.data.DataContext.get_current().copy()
    context.enable_progress_bars = False
    context.target_max_block_size = _BLOCK_BYTES
    options = DetectOptions(**source.config.model_dump(include=set(DetectOptions.model_fields)))

    group = max(1, min(_GROUP, len(numbered) // (4 * pool)))
    groups = [ray.put(numbered[first : first + group]) for first in range(0, len(numbered), group)]

    def read(batch: pa.Table) -> Iterator[pa.Table]:
        for row in batch.to_pylist():
            for number, item in ray.get(groups[row["group"]]):
                yield from _pictures(source, number, item)

    with ray.data.DataContext.current(context):
        rows = [{"group": number} for number in range(len(groups))]
        data: ray.data.Dataset = ray.data.from_items(rows, override_num_blocks=len(rows))
        data = data.map_batches(read, batch_size=1, batch_format="pyarrow", num_cpus=_READ_CPUS)
        data = compat.actor_pool(data, _Finder, (options, bool(gpus)), size=pool, num_cpus=_DETECT_CPUS, num_gpus=gpus)
        yield from data.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=1)


def _room(gpus: float) -> int:
    """How many actors, each beside a task that reads, there is room for; UserError if there is no such GPU."""
    if gpus < 0:
        raise UserError(f"--gpus {gpus:g}: must be 0 or more")
    bundle = {"CPU": _READ_CPUS + _DETECT_CPUS, "GPU": gpus}
    room = sum(count_fitting(node["Resources"], bundle) for node in alive_nodes())
    if gpus and not room:
        raise UserError(
            f"--gpus {gpus:g}: no node of the cluster has as many beside a CPU; without --gpus the detector computes "
            "on CPUs"
        )
    return max(1, room)


def _pictures(source: Source, number: int, item: Any) -> Iterator[pa.Table]:
    """Tables of `_PICTURE`: the pictures of an item, and how many they are."""
    stage = source.reader.to_detect
    count = 0
    try:
        for shown in stage.shown(item) if stage else ():
            height, width = shown.rgb.shape[:2]
            boxes = json.dumps([None if box is None else np.asarray(box).tolist() for box in shown.boxes])
            rgb = np.ascontiguousarray(shown.rgb).tobytes()
            yield pa.table([[number], [shown.key], [width], [height], [rgb], [boxes], [0]], schema=_PICTURE)
            count += 1
    except (ValueError, OSError):  # the reader says it, when it reads the item
        count = _BROKEN
    yield pa.table([[number], [""], [0], [0], [b""], [""], [count]], schema=_PICTURE)


class _Finder:
    """An actor of the pool: a detector that is loaded once."""

    def __init__(self, options: DetectOptions, cuda: bool):
        self._detector: Detector = open_detector(options, cuda=cuda).detector

    def __call__(self, batch: pa.Table) -> pa.Table:
        return pa.Table.from_pylist([self._answer(row) for row in batch.to_pylist()], schema=_ANSWER)

    def _answer(self, row: Mapping[str, Any]) -> dict[str, Any]:
        answer = {"item": row["item"], "key": row["key"], "found": "", "pictures": row["pictures"], "mistake": ""}
        if not row["boxes"]:
            return answer
        rgb = np.frombuffer(row["rgb"], np.uint8).reshape(row["height"], row["width"], 3)
        boxes = [None if box is None else np.array(box) for box in json.loads(row["boxes"])]
        try:
            return answer | {"found": json.dumps(_packed(find_people(self._detector, Shown(row["key"], rgb, boxes))))}
        except ValueError as error:  # raised, it would lose its type in Ray Data
            return answer | {"mistake": str(error)}


def _packed(found: Found) -> dict:
    def person(each: Detected) -> dict:
        box, joints = each.box.round(3).tolist(), each.joints.round(4).tolist()
        return {"box": box, "score": round(each.score, 4), "joints": joints}

    return {"size": found.size, "people": [[person(each) for each in line] for line in found.people]}


def _unpacked(answers: Mapping[str, dict]) -> dict[str, Found]:
    def person(each: dict) -> Detected:
        return Detected(np.array(each["box"]), each["score"], np.array(each["joints"]))

    return {
        key: Found(tuple(answer["size"]), [[person(each) for each in line] for line in answer["people"]])
        for key, answer in answers.items()
    }
