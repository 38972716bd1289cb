"""What an actor of the pool does: hold the encoders, read and decode people in threads, embed and write parts.

A part is written by the actor itself, and goes through no other process. While one batch is encoded, the next people
are read and decoded; while a part is written, the next one is encoded.
"""

import json
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain
from typing import Any

import cv2
import pyarrow as pa
import torch

from hcmoco.data.loader import not_as_prepared
from hcmoco.data.prefetch import prefetch_map
from hcmoco.data.schema import MODALITIES
from hcmoco.datasets.base import Rejected
from hcmoco.embedding import table
from hcmoco.embedding.crops import Crop, Cropping, cut_out
from hcmoco.embedding.encode import Collected, Collector, Kinds
from hcmoco.embedding.sources import People
from hcmoco.errors import StorageError, UserError
from hcmoco.export import Export
from hcmoco.pretrained import Pretrained
from hcmoco.storage import Folder
from hcmoco_ray.ingest.opened_once import OpenedOnce

WORK = "_parts"
_AHEAD = 4  # pieces that each thread has read in advance
OUTCOME = pa.schema({"part": pa.int64(), "outcome": pa.string()})
MISTAKE = "mistake"


@dataclass(frozen=True)
class Job:
    """All that the actors need to know. It is opened once by each process.

    Attributes:
        people: to embed.
        export: the weights.
        cropping: how people are cut out.
        kinds: which embeddings are kept.
        columns: their shapes.
        batch: number of people that are encoded at once.
        precision: of the arithmetic, "float32" or "bfloat16".
        part_rows: people of each part but the last.
        out: folder of the results.
    """

    people: People
    export: Export
    cropping: Cropping
    kinds: Kinds
    columns: dict[str, tuple[int, ...]]
    batch: int
    precision: str
    part_rows: int
    out: str

    def bounds(self, part: int) -> tuple[int, int]:
        """Return the first person of a part, and the first after it."""
        return part * self.part_rows, min((part + 1) * self.part_rows, len(self.people))

    @property
    def parts(self) -> int:
        """Return the number of parts."""
        return -(-len(self.people) // self.part_rows)

    def model(self, cuda: bool) -> Pretrained:
        """Return the encoders, ready to compute."""
        model = Pretrained(self.export.model_with_mappers(), self.export.training).eval()
        model = model.to("cuda" if cuda else "cpu", getattr(torch, self.precision))
        return model.to(memory_format=torch.channels_last)

    def crops(self, bounds: tuple[int, int]) -> list[Crop | Rejected]:
        """Read, decode and cut out people."""
        try:
            rows = self.people.read(*bounds)
            return [row if isinstance(row, Rejected) else cut_out(row, self.cropping) for row in rows]
        except ValueError as error:
            raise not_as_prepared(error) from None


class Embedder:
    """An actor of the pool.

    Args:
        job: what is embedded.
        cuda: compute on the actor's GPU.
        threads: of the CPU's arithmetic, and of reading.
    """

    def __init__(self, job: OpenedOnce[Job], cuda: bool, threads: int):
        torch.set_num_threads(threads)
        cv2.setNumThreads(1)  # pictures are decoded in threads of this process
        self._job, self._threads = job.value, threads
        self._model = self._job.model(cuda)
        self._writer = ThreadPoolExecutor(1, "writer")

    def __call__(self, batch: pa.Table) -> Iterator[pa.Table]:
        """Embed some parts, and yield what became of each once it is written, as a row of OUTCOME."""
        waiting: Future[dict[str, Any]] | None = None
        try:
            numbers = batch["part"].to_pylist()
            for number, begun, collected, rejected in self._parts(numbers):
                if waiting is not None:
                    yield _outcome(waiting.result())
                waiting = self._writer.submit(self._write, number, begun, collected, rejected)
            if waiting is not None:
                yield _outcome(waiting.result())
        except (UserError, StorageError) as error:  # raised, it would lose its type in Ray Data
            yield _outcome({"part": -1, MISTAKE: str(error)})

    def _parts(self, numbers: list[int]) -> Iterator[tuple[int, float, Collected, list[Rejected]]]:
        """Yield the embeddings of parts; people are read in advance, those of the next part too."""
        job = self._job
        pieces = {number: job.people.chunks(*job.bounds(number)) for number in numbers}
        read = prefetch_map(
            job.crops,
            chain.from_iterable(pieces.values()),
            threads=self._threads,
            ahead=_AHEAD * self._threads,
        )
        for number in numbers:
            begun = time.time()
            first, stop = job.bounds(number)
            collector, rejected = Collector(self._model, stop - first, job.kinds, job.batch), []
            for _ in pieces[number]:
                for crop in next(read):
                    if isinstance(crop, Rejected):
                        rejected.append(crop)
                    else:
                        collector.add(crop)
            yield number, begun, collector.finish(), rejected

    def _write(self, number: int, begun: float, found: Collected, rejected: list[Rejected]) -> dict[str, Any]:
        """Write a part's file and then its record, without which the file does not count."""
        job, folder = self._job, Folder(self._job.out)
        file = None
        if found.crops:
            name = f"part-{number:05d}.parquet"
            rows = table.to_table(found, job.columns)
            file = table.write_part(folder, name, rows, job.columns).model_dump()
        present = found.arrays["present"].sum(0)
        first, stop = job.bounds(number)
        record = {
            "part": number,
            "people": stop - first,
            "file": file,
            "modalities": {name: int(count) for name, count in zip(MODALITIES, present, strict=True)},
            "unmasked": sum(crop.unmasked for crop in found.crops),
            "rejected": [[each.id, each.reason] for each in rejected],
            "seconds": [begun, time.time()],
        }
        folder.write(f"{WORK}/part-{number:05d}.json", json.dumps(record).encode())
        return record


def _outcome(record: dict[str, Any]) -> pa.Table:
    return pa.table([[record["part"]], [json.dumps(record)]], schema=OUTCOME)
