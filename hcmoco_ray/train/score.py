"""A fine-tuned model scored on a data set by any number of workers, which all see whole pieces of it."""

import json
import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

from hcmoco.config import Config
from hcmoco.errors import UserError
from hcmoco.finetuning.label_subset import Subset
from hcmoco.finetuning.loader import EvalLoader
from hcmoco.finetuning.loop import evaluate
from hcmoco.finetuning.saved_model import load_model
from hcmoco.tasks.base import Result, Task, TaskBatch
from hcmoco.training import distributed
from hcmoco.training.config import TrainConfig
from hcmoco_ray.cluster import interrupts
from hcmoco_ray.ingest import dataset
from hcmoco_ray.tracking.status import open_status, shown
from hcmoco_ray.train.launch import Place, train

SHEET_ROWS = 8


class ScoreConfig(Config):
    """How an evaluation is carried out; it moves the result by no more than rounding."""

    name: str = "evaluate"
    out: str
    piece_rows: int
    threads: int = 1
    restarts: int = 3
    train: TrainConfig


@dataclass(frozen=True)
class ScoreJob:
    """See `_train.Job`. `weights` is the folder of the model; `answer` takes the result as plain values, for its process to stay light."""

    config: ScoreConfig
    weights: str
    feed: EvalLoader
    answer: Any
    status: Any

    def datasets(self) -> dict:
        return {"rows": lambda: dataset.evaluation_dataset(self.feed)}

    def work(self, place: Place) -> None:
        import ray

        device = torch.device(place.device)
        model = load_model(self.weights).model().to(device).to(memory_format=torch.channels_last)
        result = evaluate(self.feed.task, model, self._batches(place), device)
        if place.rank == 0:
            ray.get(self.answer.put.remote(asdict(result)))
        distributed.barrier()

    def _batches(self, place: Place) -> Iterable[TaskBatch]:
        done = 0
        for batch in self.feed.batches(dataset.items(place.shards["rows"]), threads=self.config.threads, ahead=2):
            interrupts.check()
            yield batch
            done += len(batch)
            if place.rank == 0:
                self.status.put.remote(
                    f"scoring: {min(done * place.world, len(self.feed.rows))} of {len(self.feed.rows)} rows"
                )


def score(config: ScoreConfig, weights: str, task: Task, rows: Subset) -> Result:
    """The scores of the model in the folder `weights` over all `rows`; `task` is over their data set."""
    import ray

    feed = EvalLoader(task, rows, config.piece_rows, config.train.workers)
    answer, status = open_status(None), open_status(f"scoring {len(rows)} rows")
    with shown(status):
        train(ScoreJob(config, weights, feed, answer, status))
    result = Result(**ray.get(answer.get.remote()))
    if result.rows != len(rows):
        raise UserError(
            f"{result.rows} of {len(rows)} rows of {rows.shards.uri} were scored; this is an error of the program: report it"
        )
    return result


def sheet(weights: str, task: Task, rows: Subset, count: int = SHEET_ROWS) -> np.ndarray:
    """The picture of the first rows, on this machine's CPU."""
    first = list(rows.rows(task.columns, count))
    with torch.inference_mode():
        predictions = task.predict(load_model(weights).model(), task.make_batch(first, None), torch.device("cpu"))
    return task.sheet(first, predictions)


def markdown(result: Result) -> str:
    """The figures, then their breakdown, as Markdown tables."""
    lines = [
        "| figure | value |",
        "|---|---:|",
        *(f"| {name} | {text(name, value)} |" for name, value in result.figures.items()),
    ]
    if result.breakdown:
        head = f"| {' | '.join(result.columns)} |"
        rule = "|---|" + "---:|" * (len(result.columns) - 1)
        body = [f"| {' | '.join(map(_cell, row))} |" for row in result.breakdown]
        lines += ["", head, rule, *body]
    return "\n".join([*lines, "", f"{result.rows} rows.", ""])


def _cell(value: str | float) -> str:
    if isinstance(value, str):
        return value
    if math.isnan(value):
        return "-"
    return f"{value:.0f}" if value > 1 and value == round(value) else f"{value:.3f}"  # counts are whole


def as_json(facts: dict[str, Any]) -> bytes:
    """Results for programs: a number that is undefined or infinite, which JSON does not have, becomes null."""

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: plain(each) for key, each in value.items()}
        if isinstance(value, list | tuple):
            return [plain(each) for each in value]
        return None if isinstance(value, float) and not math.isfinite(value) else value

    return json.dumps(plain(facts), indent=1, allow_nan=False).encode()


def text(name: str, value: float | None) -> str:
    """A figure as people read it: shares in per cent, others as they are, a dash where there is none."""
    if value is None or math.isnan(value):
        return "-"
    return f"{value:.2f}" if name.endswith(("_cm", "_m", "_px")) else f"{100 * value:.2f} %"


def figure_lines(figures: dict[str, float | None], in_a_line: int = 6) -> list[str]:
    """The figures for a terminal, some in a line."""
    texts = [f"{name} {text(name, value)}" for name, value in figures.items()]
    return ["   ".join(texts[start : start + in_a_line]) for start in range(0, len(texts), in_a_line)]
