"""Predict image files and the frames of videos, reading ahead in threads while the network works."""

import pkgutil
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch
from torch import nn

from hcmoco.errors import UserError, one_line
from hcmoco.inference.adapter import Adapter, ImageResult, PredictOptions, PreparedImage, preview
from hcmoco.inference.inputs import ImageFile, VideoFile
from hcmoco.inference.video.frames import VideoEnd, VideoFacts, VideoFrame, read_frames
from hcmoco.inference.writer import line_of
from hcmoco.tasks.base import Prediction, Task
from hcmoco.tasks.registry import REGISTRY
from hcmoco.training.precision import float32


@dataclass
class Summary:
    """The outcome of a prediction.

    Attributes:
        predicted: number of images.
        frames: number of frames of videos, likewise.
        people: number of people on them.
        unmasked: number of images whose depth shows more than the person.
        skipped: number of people on them whom a detector found and who could not be used.
        rejected: names of images that could not be used, and the reasons. Of frames, `videos` tells.
        rejected_frames: number of frames that could not be used.
        videos: what was met in each video.
        first_reason: why the first frame could not be used.
    """

    predicted: int = 0
    frames: int = 0
    people: int = 0
    unmasked: int = 0
    skipped: int = 0
    rejected: list[tuple[str, str]] = field(default_factory=list)
    rejected_frames: int = 0
    videos: list[VideoFacts] = field(default_factory=list)
    first_reason: str = ""


@dataclass(frozen=True, eq=False)
class _Failed:
    """An image or frame that cannot be used."""

    item: ImageFile | VideoFrame
    reason: str


_Item = ImageFile | VideoFrame | VideoEnd
_Ready = tuple[ImageFile | VideoFrame, PreparedImage] | _Failed | VideoEnd


class Results(Protocol):
    """Protocol of what takes the results, one line after the other: a folder (`writer.Output`), or a table."""

    def add(
        self,
        item: ImageFile | VideoFrame,
        line: dict[str, Any],
        prepared: PreparedImage,
        result: ImageResult,
        preview: np.ndarray | None,
    ) -> None:
        """Take an image's JSON values and its results, see `writer.Output.add`."""

    def add_error(self, item: ImageFile | VideoFrame | None, line: dict[str, Any]) -> None:
        """Take the line of an image that was rejected."""

    def end_video(self, facts: VideoFacts) -> None:
        """A video has ended."""


def make_adapter(task: Task, options: PredictOptions) -> Adapter:
    """Return the adapter of a task.

    Raises:
        UserError: the task has no adapter, or needs an option that is not given.
    """
    adapter = REGISTRY[task.name].adapter
    if not adapter:
        raise UserError(f"predict does not know the task {task.name}: its entry in the registry names no adapter")
    return pkgutil.resolve_name(adapter)(task, options)


def predict_images(
    adapter: Adapter,
    model: nn.Module,
    device: torch.device,
    files: Sequence[ImageFile | VideoFile],
    out: Results,
    *,
    batch: int,
    threads: int,
    every: int = 1,
    done: Callable[[int], None] = lambda count: None,
) -> Summary:
    """Predict images and the frames of videos, and write their files, in order.

    An image or frame that cannot be used gets a line with the reason. At most `batch` + `threads` are held at once.

    Args:
        adapter: of the model's task.
        model: on `device`, in evaluation mode.
        device: for the network.
        files: the images and videos.
        out: takes the results.
        batch: number of rows that are predicted together.
        threads: number of images that are read at once.
        every: of a video, the frames 0, `every`, 2 `every`, ... are predicted.
        done: called with the number of images and frames that have been finished since the last call.
    Raises:
        UserError: the device's memory does not hold a batch.
    """
    summary = Summary()
    waiting: list[_Ready] = []
    rows = 0
    for ready in _read_ahead(adapter, _items(files, every), threads, batch + threads):
        waiting.append(ready)
        rows += len(ready[1].batches) if isinstance(ready, tuple) else 0
        if rows >= batch or len(waiting) >= batch:
            _write(adapter, model, device, waiting, out, batch, summary)
            done(len(waiting))
            waiting, rows = [], 0
    _write(adapter, model, device, waiting, out, batch, summary)
    done(len(waiting))
    return summary


def _items(files: Sequence[ImageFile | VideoFile], every: int) -> Iterator[_Item]:
    for file in files:
        if isinstance(file, VideoFile):
            yield from read_frames(file, every)
        else:
            yield file


def _read_ahead(adapter: Adapter, items: Iterator[_Item], threads: int, ahead: int) -> Iterator[_Ready]:
    """The images in order, read and cut into rows; at most `ahead` are held."""

    def read(item: _Item) -> _Ready:
        if isinstance(item, VideoEnd):
            return item
        try:
            return item, adapter.prepare(item)
        except ValueError as error:
            return _Failed(item, one_line(error))

    # PyTorch keeps the number of threads of each thread, and a detector computes in these.
    with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(torch.get_num_threads(),)) as pool:
        futures: deque[Future] = deque()
        try:
            for item in items:
                futures.append(pool.submit(read, item))
                if len(futures) >= ahead:
                    yield futures.popleft().result()
            while futures:
                yield futures.popleft().result()
        finally:
            for future in futures:
                future.cancel()


def _write(
    adapter: Adapter,
    model: nn.Module,
    device: torch.device,
    waiting: Sequence[_Ready],
    out: Results,
    batch: int,
    summary: Summary,
) -> None:
    rows = [row for ready in waiting if isinstance(ready, tuple) for row in ready[1].batches]
    predictions = iter(_predict(adapter.task, model, device, rows, batch))
    for ready in waiting:
        if isinstance(ready, VideoEnd):
            summary.videos.append(ready.facts)
            out.end_video(ready.facts)
            continue
        item = ready.item if isinstance(ready, _Failed) else ready[0]
        line = {**line_of(item), "task": adapter.task.name}
        if isinstance(ready, _Failed):
            if isinstance(item, VideoFrame):
                summary.rejected_frames += 1
                summary.first_reason = summary.first_reason or ready.reason
            else:
                summary.rejected.append((f"{item.place}, {item.name}" if item.place else item.name, ready.reason))
            out.add_error(item, {**line, "error": ready.reason, "people": []})
            continue
        image = ready[1]
        result = adapter.to_result(image, [next(predictions) for _ in image.batches])
        line |= {"error": None, "width": image.width, "height": image.height}
        if adapter.task.modality == "depth":
            line["unmasked"] = image.unmasked
        if image.skipped:
            line["skipped"] = image.skipped
        line["people"] = result.people
        seen = not isinstance(item, VideoFrame) or item.first
        out.add(item, line, image, result, preview(image, result) if seen else None)
        if isinstance(item, VideoFrame):
            summary.frames += 1
        else:
            summary.predicted += 1
        summary.unmasked += image.unmasked
        summary.skipped += len(image.skipped)
        summary.people += len(result.people)


def _predict(task: Task, model: nn.Module, device: torch.device, rows: list, batch: int) -> list[Prediction]:
    found: list[Prediction] = []
    try:
        with torch.inference_mode(), float32():
            for start in range(0, len(rows), batch):
                some = rows[start : start + batch]
                found += task.predict(model, type(some[0]).concatenate(some), device)
    except torch.OutOfMemoryError:
        raise UserError(
            f"the memory of {device} does not hold {batch} pictures at once; predict fewer at once (predict.py: "
            "--batch), or on the CPU"
        ) from None
    return found
