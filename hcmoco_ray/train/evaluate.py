"""Score a fine-tuned model on a data set with any number of workers, which all see whole pieces of it."""

import json
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

import hcmoco
from hcmoco.config import Config, build
from hcmoco.data.codecs import encode_png
from hcmoco.data.shards.reader import Shards
from hcmoco.errors import UserError
from hcmoco.finetuning.label_subset import Subset, all_rows
from hcmoco.finetuning.loader import EvalLoader
from hcmoco.finetuning.loop import evaluate
from hcmoco.finetuning.saved_model import load_model
from hcmoco.storage import Folder
from hcmoco.tasks.base import Result, Task, TaskBatch
from hcmoco.tasks.registry import task_class
from hcmoco.training import distributed
from hcmoco.training.config import TrainConfig
from hcmoco_ray.cluster import interrupts, preflight, session
from hcmoco_ray.ingest import dataset
from hcmoco_ray.tracking.progress import Status, shown
from hcmoco_ray.train.launch import WorkerContext, train
from hcmoco_ray.train.run_dir import log

SHEET_ROWS = 8


class ScoreConfig(Config):
    """How an evaluation is carried out. It changes the result by rounding at most."""

    name: str = "evaluate"
    output_dir: str
    piece_rows: int
    num_threads: int = 1
    max_restarts: int = 3
    train: TrainConfig


@dataclass(frozen=True)
class ScoreJob:
    """See `launch.Job`. `weights` is the folder of the model; `answer` takes the result as plain values, for its process to stay light."""

    config: ScoreConfig
    weights: str
    feed: EvalLoader
    answer: Status
    status: Status

    def datasets(self) -> Mapping[str, Callable[[], Any]]:
        return {"rows": lambda: dataset.evaluation_dataset(self.feed)}

    def work(self, worker: WorkerContext) -> None:
        device = torch.device(worker.device)
        model = load_model(self.weights).model().to(device).to(memory_format=torch.channels_last)
        result = evaluate(self.feed.task, model, self._batches(worker), device)
        if worker.rank == 0:
            self.answer.put(asdict(result), wait=True)
        distributed.barrier()

    def _batches(self, worker: WorkerContext) -> Iterable[TaskBatch]:
        done = 0
        for batch in self.feed.batches(dataset.items(worker.shards["rows"]), threads=self.config.num_threads, ahead=2):
            interrupts.raise_if_interrupted()
            yield batch
            done += len(batch)
            if worker.rank == 0:
                self.status.put(
                    f"scoring: {min(done * worker.world, len(self.feed.rows))} of {len(self.feed.rows)} rows"
                )


def run(
    weights: str, data: str, *, out: str | None, workers: int, gpu: bool, cpus: float, threads: int, piece_rows: int
) -> int:
    """Scores the model of `weights` on the data set `data`; see evaluate.py for the arguments. Returns the exit status."""
    for name, value in (("workers", workers), ("threads", threads), ("piece-rows", piece_rows)):
        if value < 1:
            raise UserError(f"--{name} {value}: must be at least 1")
    if not 0 < cpus < math.inf:
        raise UserError(f"--cpus {cpus:g}: must be more than 0")
    saved = load_model(weights)
    out = out or f"{saved.folder.rstrip('/')}/evaluations/{data.rstrip('/').rpartition('/')[2]}"
    train = {
        "lanes": workers,
        "workers": workers,
        "batch_size_per_lane": 1,
        "gpu": gpu,
        "cpus_per_worker": cpus,
        "threads_per_worker": threads,
    }
    config = build(ScoreConfig, {"output_dir": out, "piece_rows": piece_rows, "train": train}, "evaluate")
    shards = Shards.open(data)
    kind = task_class(saved.config.name).kind
    if shards.manifest.kind != kind:
        raise UserError(
            f"--data {data} holds {shards.manifest.kind} records, {saved.config.name} is scored on {kind} records"
        )
    task = saved.task(shards.manifest)
    rows = all_rows(shards, (*task.inputs, *task.labels))
    cluster = session.connect()
    cluster.require_shared_storage("weights", saved.folder)
    cluster.require_shared_storage("--data", data)
    cluster.require_shared_storage("--out", out)
    preflight.check_resources(config)
    log(f"{task.name} of {saved.folder} on {len(rows)} of {shards.manifest.rows} rows of {data}")
    result = score(config, saved.folder, task, rows)
    png = encode_png(sheet(saved.folder, task, rows))
    folder = Folder(out)
    folder.write("sheet.png", png)
    folder.write("table.md", markdown(result).encode())
    facts = {
        "hcmoco": hcmoco.__version__,
        "task": task.name,
        "primary_metric": task.primary_metric,
        "weights": {"folder": saved.folder, "sha256": saved.digest, "training": saved.training},
        "data": {"uri": data, "content": shards.manifest.content, "rows": result.rows, "digest": rows.digest},
        "metrics": result.metrics,
        "per_class": {"columns": result.columns, "rows": result.per_class},
    }
    folder.write("results.json", as_json(facts))
    log(markdown(result))
    log(f"results   {out}/results.json\npicture   {out}/sheet.png")
    return 0


def score(config: ScoreConfig, weights: str, task: Task, rows: Subset) -> Result:
    """Score a model.

    Args:
        weights: folder of the model.
        task: over the data set of `rows`.
        rows: every one is scored once.
    Raises:
        UserError: workers are lost too often, or a row cannot be read.
    """
    feed = EvalLoader(task, rows, config.piece_rows, config.train.workers)
    answer, status = Status(None), Status(f"scoring {len(rows)} rows")
    with shown(status):
        train(ScoreJob(config, weights, feed, answer, status))
    result = Result(**answer.get())
    if result.rows != len(rows):
        raise UserError(
            f"{result.rows} of {len(rows)} rows of {rows.shards.uri} were scored; this is an error of the program: report it"
        )
    return result


def sheet(weights: str, task: Task, rows: Subset, count: int = SHEET_ROWS) -> np.ndarray:
    """Draw the first `count` rows with their predictions, computed on this machine's CPU; uint8 [H, W, 3]."""
    first = list(rows.rows(task.columns, count))
    with torch.inference_mode():
        predictions = task.predict(load_model(weights).model(), task.make_batch(first, None), torch.device("cpu"))
    return task.visualize(first, predictions)


def markdown(result: Result) -> str:
    """Format the metrics, then those per class, as Markdown tables."""
    lines = [
        "| metric | value |",
        "|---|---:|",
        *(f"| {name} | {text(name, value)} |" for name, value in result.metrics.items()),
    ]
    if result.per_class:
        head = f"| {' | '.join(result.columns)} |"
        rule = "|---|" + "---:|" * (len(result.columns) - 1)
        body = [f"| {' | '.join(map(_cell, row))} |" for row in result.per_class]
        lines += ["", head, rule, *body]
    return "\n".join([*lines, "", f"{result.rows} rows.", ""])


def _cell(value: str | float) -> str:
    if isinstance(value, str):
        return value
    if math.isnan(value):
        return "-"
    return f"{value:.0f}" if value > 1 and value == round(value) else f"{value:.3f}"  # counts are whole


def as_json(facts: dict[str, Any]) -> bytes:
    """Encode results for programs: a number that is undefined or infinite, which JSON does not have, becomes null."""

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: plain(each) for key, each in value.items()}
        if isinstance(value, list | tuple):
            return [plain(each) for each in value]
        return None if isinstance(value, float) and not math.isfinite(value) else value

    return json.dumps(plain(facts), indent=1, allow_nan=False).encode()


def text(name: str, value: float | None) -> str:
    """Format a metric: shares in per cent, others as they are, a dash for None and NaN."""
    if value is None or math.isnan(value):
        return "-"
    return f"{value:.2f}" if name.endswith(("_cm", "_m", "_px")) else f"{100 * value:.2f} %"


def figure_lines(figures: dict[str, float | None], in_a_line: int = 6) -> list[str]:
    """Format metrics for a terminal, `in_a_line` of them in each line."""
    texts = [f"{name} {text(name, value)}" for name, value in figures.items()]
    return ["   ".join(texts[start : start + in_a_line]) for start in range(0, len(texts), in_a_line)]
