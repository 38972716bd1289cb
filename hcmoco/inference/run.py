"""From picture files to a folder of predictions, reading ahead in threads while the network works."""

import importlib
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

import torch
from torch import nn

from hcmoco.errors import UserError, one_line
from hcmoco.inference.adapter import Adapter, PredictOptions, PreparedImage
from hcmoco.inference.images import ImageFile
from hcmoco.inference.writer import Output
from hcmoco.tasks.base import Prediction, Task

_ADAPTERS = {
    "parsing-rgb": ("hcmoco.inference.parsing", "ParsingAdapter"),
    "parsing-depth": ("hcmoco.inference.parsing", "ParsingAdapter"),
    "pose": ("hcmoco.inference.pose", "PoseAdapter"),
    "densepose": ("hcmoco.inference.densepose", "DensePoseAdapter"),
}


@dataclass
class Summary:
    """What became of the pictures.

    Attributes:
        predicted: pictures. people: on them.
        rejected: names of pictures that could not be used, and why.
    """

    predicted: int = 0
    people: int = 0
    rejected: list[tuple[str, str]] = field(default_factory=list)


def make_adapter(task: Task, options: PredictOptions) -> Adapter:
    """How this task sees pictures. UserError where it needs to be told more."""
    module, cls = _ADAPTERS[task.name]
    return getattr(importlib.import_module(module), cls)(task, options)


def predict_images(
    adapter: Adapter,
    model: nn.Module,
    device: torch.device,
    files: Sequence[ImageFile],
    out: Output,
    *,
    batch: int,
    threads: int,
    done: Callable[[int], None] = lambda count: None,
) -> Summary:
    """Predicts every picture and writes its files, in order; a picture that cannot be used gets a line with the reason.

    Args:
        model: on `device`, in evaluation mode.
        batch: rows that are predicted together.
        threads: pictures that are read at once.
        done: is told how many more pictures have been dealt with.
    """
    summary = Summary()
    waiting: list[PreparedImage | tuple[str, str]] = []
    rows = 0
    for each in _read_ahead(adapter, files, threads, batch + threads):
        waiting.append(each)
        rows += len(each.batches) if isinstance(each, PreparedImage) else 0
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
    """The pictures in order, or name and reason of those that cannot be used; at most `ahead` are held."""

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
            for each in futures:
                each.cancel()


def _write(
    adapter: Adapter, model: nn.Module, device: torch.device, pictures: list, out: Output, batch: int, summary: Summary
) -> None:
    prepared = [each for each in pictures if isinstance(each, PreparedImage)]
    predictions = iter(_predict(adapter.task, model, device, [row for each in prepared for row in each.batches], batch))
    for each in pictures:
        line = {"image": each.name if isinstance(each, PreparedImage) else each[0], "task": adapter.task.name}
        if not isinstance(each, PreparedImage):
            summary.rejected.append(each)
            out.add_error({**line, "error": each[1], "people": []})
            continue
        result = adapter.to_result(each, [next(predictions) for _ in each.batches])
        out.add(
            {**line, "error": None, "width": each.width, "height": each.height, "people": result.people},
            result.labels,
            result.preview,
        )
        summary.predicted += 1
        summary.people += len(result.people)


def _predict(task: Task, model: nn.Module, device: torch.device, rows: list, batch: int) -> list[Prediction]:
    found: list[Prediction] = []
    try:
        with torch.inference_mode():
            for start in range(0, len(rows), batch):
                some = rows[start : start + batch]
                found += task.predict(model, type(some[0]).concatenate(some), device)
    except torch.OutOfMemoryError:
        raise UserError(
            f"the memory of {device} does not hold {batch} pictures at once; give a smaller --batch, or --device cpu"
        ) from None
    return found
