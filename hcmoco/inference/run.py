"""Predict a list of image files, reading ahead in threads while the network works."""

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
from hcmoco.inference.adapter import Adapter, PredictOptions, PreparedImage
from hcmoco.inference.images import ImageFile
from hcmoco.tasks.base import Prediction, Task
from hcmoco.tasks.registry import REGISTRY
from hcmoco.training.precision import float32


@dataclass
class Summary:
    """The outcome of a prediction.

    Attributes:
        predicted: number of images.
        people: number of people on them.
        unmasked: number of images whose depth shows more than the person.
        rejected: names of images that could not be used, and the reasons.
    """

    predicted: int = 0
    people: int = 0
    unmasked: int = 0
    rejected: list[tuple[str, str]] = field(default_factory=list)


class Results(Protocol):
    """Protocol of what takes the results, one line after the other: a folder (`writer.Output`), or a table."""

    def add(self, line: dict[str, Any], labels: dict[tuple[int, str], bytes], preview: np.ndarray) -> None:
        """Take an image's JSON values, its label images and its picture, see `writer.Output.add`."""

    def add_error(self, line: dict[str, Any]) -> None:
        """Take the line of an image that was rejected."""


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
    files: Sequence[ImageFile],
    out: Results,
    *,
    batch: int,
    threads: int,
    done: Callable[[int], None] = lambda count: None,
) -> Summary:
    """Predict images and write their files, in order. An image that cannot be used gets a line with the reason.

    Args:
        adapter: of the model's task.
        model: on `device`, in evaluation mode.
        device: for the network.
        files: the images.
        out: takes the results.
        batch: number of rows that are predicted together.
        threads: number of images that are read at once.
        done: called with the number of images that have been finished since the last call.
    Raises:
        UserError: the device's memory does not hold a batch.
    """
    summary = Summary()
    waiting: list[PreparedImage | tuple[str, str]] = []
    rows = 0
    for image in _read_ahead(adapter, files, threads, batch + threads):
        waiting.append(image)
        rows += len(image.batches) if isinstance(image, PreparedImage) else 0
        if rows >= batch:
            _write(adapter, model, device, waiting, out, batch, summary)
            done(len(waiting))
            waiting, rows = [], 0
    _write(adapter, model, device, waiting, out, batch, summary)
    done(len(waiting))
    return summary


def _read_ahead(
    adapter: Adapter, files: Sequence[ImageFile], threads: int, ahead: int
) -> Iterator[PreparedImage | tuple[str, str]]:
    """The images in order, or name and reason of those that cannot be used; at most `ahead` are held."""

    def read(file: ImageFile) -> PreparedImage | tuple[str, str]:
        try:
            return adapter.prepare(file)
        except ValueError as error:
            return file.name, one_line(error)

    with ThreadPoolExecutor(threads) as pool:
        futures: deque[Future] = deque()
        try:
            for file in files:
                futures.append(pool.submit(read, file))
                if len(futures) >= ahead:
                    yield futures.popleft().result()
            while futures:
                yield futures.popleft().result()
        finally:
            for future in futures:
                future.cancel()


def _write(
    adapter: Adapter, model: nn.Module, device: torch.device, images: list, out: Results, batch: int, summary: Summary
) -> None:
    rows = [row for image in images if isinstance(image, PreparedImage) for row in image.batches]
    predictions = iter(_predict(adapter.task, model, device, rows, batch))
    for image in images:
        line = {"image": image.name if isinstance(image, PreparedImage) else image[0], "task": adapter.task.name}
        if not isinstance(image, PreparedImage):
            summary.rejected.append(image)
            out.add_error({**line, "error": image[1], "people": []})
            continue
        result = adapter.to_result(image, [next(predictions) for _ in image.batches])
        shown = {"unmasked": image.unmasked} if adapter.task.modality == "depth" else {}
        out.add(
            {**line, "error": None, "width": image.width, "height": image.height, **shown, "people": result.people},
            result.labels,
            result.preview,
        )
        summary.predicted += 1
        summary.unmasked += image.unmasked
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
