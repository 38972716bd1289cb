"""Score a fine-tuned model on a data set with any number of workers."""

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

import hcmoco
from hcmoco import markdown
from hcmoco.config import Config, build
from hcmoco.data.codecs import encode_png
from hcmoco.data.depth_masking import MASKED, masking_of, warning
from hcmoco.data.shards.manifest import Manifest
from hcmoco.data.shards.reader import Shards
from hcmoco.datasets.segmentation import parse
from hcmoco.errors import UserError
from hcmoco.finetuning.label_subset import Subset, all_rows
from hcmoco.finetuning.loader import EvalLoader
from hcmoco.finetuning.loop import evaluate
from hcmoco.finetuning.row_mask import ROWS, RowMask, make_row_mask
from hcmoco.finetuning.row_mask import facts as mask_facts
from hcmoco.finetuning.saved_model import Saved, load_model
from hcmoco.storage import Folder, base_name, join
from hcmoco.tasks.base import Result, Task, TaskBatch
from hcmoco.tasks.registry import task_class
from hcmoco.training import distributed
from hcmoco.training.config import TrainConfig
from hcmoco.training.precision import float32
from hcmoco.weights import list_weights
from hcmoco_ray.cluster import interrupts, preflight, session
from hcmoco_ray.ingest.dataset import EVALUATION, Items, Readers, evaluation_items
from hcmoco_ray.paths import resolve_path
from hcmoco_ray.tracking.progress import Status, shown
from hcmoco_ray.train.launch import Start, WorkerContext, in_this_process, train
from hcmoco_ray.train.pulse import DATA, STEP
from hcmoco_ray.train.run_dir import log
from hcmoco_ray.train.same_data import trained_on

SHEET_ROWS = 8


class ScoreConfig(Config):
    """How an evaluation runs. It changes the result by rounding at most."""

    name: str = "evaluate"
    output_dir: str
    piece_rows: int
    num_threads: int = 1
    max_restarts: int = 3
    spare_workers: bool | None = False  # an evaluation is short
    train: TrainConfig


@dataclass(frozen=True)
class ScoreJob:
    """See `launch.Job`.

    Attributes:
        config: how the evaluation runs.
        weights: folder of the model.
        loader: of the rows.
        result: takes the result as plain values, so that the actor that holds it need not import PyTorch.
        status: the line of progress.
    """

    config: ScoreConfig
    weights: str
    loader: EvalLoader
    result: Status
    status: Status

    def decide_start(self, workers: int, readers: Readers) -> Start:
        return Start(workers, readers=readers)

    def items(self, start: Start) -> Mapping[str, Items]:
        return {EVALUATION: evaluation_items(self.loader)}

    def work(self, worker: WorkerContext) -> None:
        device = torch.device(worker.device)
        model = load_model(self.weights).model().to(device).to(memory_format=torch.channels_last)
        result = evaluate(self.loader.task, model, self._batches(worker), device)
        if worker.rank == 0:
            self.result.put(asdict(result), wait=True)
        distributed.barrier()

    def _batches(self, worker: WorkerContext) -> Iterable[TaskBatch]:
        done, total = 0, len(self.loader.rows)
        items = worker.read(EVALUATION)
        worker.pulse.enter(DATA, 0)
        for number, batch in enumerate(self.loader.batches(items, threads=self.config.num_threads, ahead=2)):
            interrupts.raise_if_interrupted()
            worker.pulse.enter(STEP, number)
            yield batch
            worker.pulse.enter(DATA, number + 1)
            done += len(batch)
            if worker.rank == 0:
                self.status.put(f"scoring: {min(done * worker.world, total)} of {total} rows")


def run(
    weights: str,
    data: str,
    *,
    out: str | None,
    workers: int,
    gpu: bool,
    cpus: float,
    threads: int,
    piece_rows: int,
    mask: str | None = None,
    segment: Mapping[str, Any] | None = None,
) -> int:
    """Score a model on a data set, and write the results.

    Args:
        weights: folder or URI of a fine-tuning, or of its model.
        data: folder or URI of the data set.
        out: folder or URI of the results; None: beside the model, one for each way to remove the background.
        workers: processes that predict.
        gpu: whether each worker has a GPU.
        cpus: that a worker requests of the cluster.
        threads: of a worker's CPU arithmetic.
        piece_rows: rows that are predicted together.
        mask: what removes the background from depth, see evaluate.py; None: nothing does.
        segment: its settings, tolerance_mm, min_score and side.

    Returns:
        The exit status of the program.

    Raises:
        UserError: an argument is out of range, or the data set does not fit the model.
    """
    for name, value in (("workers", workers), ("threads", threads), ("piece-rows", piece_rows)):
        if value < 1:
            raise UserError(f"--{name} {value}: must be at least 1")
    if not 0 < cpus < math.inf:
        raise UserError(f"--cpus {cpus:g}: must be more than 0")
    saved, packaged = load_model(weights), weights in list_weights("models")
    request = None if mask in (None, ROWS) else parse(str(mask), "--mask")
    masked = "" if mask is None else f"-mask-{request.kind.replace(' ', '-') if request else ROWS}"
    # The folder of the package is no place for results.
    beside = join(resolve_path("evaluations"), weights) if packaged else join(saved.folder, "evaluations")
    out = out or join(beside, base_name(data) + masked)
    folder = Folder(out)
    folder.check_writable()
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
    row_mask = None
    if mask is not None:
        if task.modality != "depth":
            raise UserError(f"--mask is for tasks of depth; the weights are of {task.name}: drop it")
        row_mask = make_row_mask(mask, request, shards.manifest, segment or {})
    rows = all_rows(shards, (*task.inputs, *task.labels))
    cluster = session.connect()
    cluster.require_shared_storage(("weights", saved.folder), ("--data", data), ("--out", out))
    preflight.check_resources(config)
    log(f"{task.name} of {saved.folder} on {len(rows)} of {shards.manifest.rows} rows of {data}")
    told = _masking_warning(saved, data, task, row_mask)
    for line in (told, trained_on(saved, data, shards)):
        if line:
            log(line)
    result = score(config, saved.folder, task, rows, row_mask)
    png = encode_png(sheet(saved.folder, task, rows, mask=row_mask))
    folder.write("sheet.png", png)
    folder.write("table.md", result_tables(result).encode())
    facts = {
        "hcmoco": hcmoco.__version__,
        "task": task.name,
        "primary_metric": task.primary_metric,
        "weights": {"folder": saved.folder, "sha256": saved.digest, "training": saved.training},
        "data": {"uri": data, "content": shards.manifest.content, "rows": result.rows, "digest": rows.digest},
        **({"mask": mask_facts(row_mask)} if row_mask else {}),
        **({"warning": told} if told else {}),
        "metrics": result.metrics,
        "per_class": {"columns": result.columns, "rows": result.per_class},
    }
    folder.write("results.json", as_json(facts))
    log(result_tables(result))
    log(f"results   {join(out, 'results.json')}\npicture   {join(out, 'sheet.png')}")
    return 0


def _masking_warning(saved: Saved, data: str, task: Task, mask: RowMask | None) -> str:
    """A line where depth is masked for the model and not in the data, or the other way round."""
    if task.modality != "depth":
        return ""
    given = MASKED if mask else masking_of(task.about)
    has_masks = isinstance(task.about, Manifest) and task.about.modalities.get("mask")
    advice = f"give --mask {ROWS if has_masks else 'WHAT'}, or prepare the data set with --segment (docs/data/masks.md)"
    return warning(f"the model of {saved.folder}", masking_of(saved.about), data, given, advice)


def score(config: ScoreConfig, weights: str, task: Task, rows: Subset, mask: RowMask | None = None) -> Result:
    """Score a model.

    Args:
        weights: folder of the model.
        task: over the data set of `rows`.
        rows: each is scored once.
        mask: removes the background from their depth.

    Raises:
        UserError: workers are lost too often, or a row cannot be read.
    """
    loader = EvalLoader(task, rows, config.piece_rows, config.train.max_workers, mask)
    here = in_this_process(config)
    values, status = Status(None, here=here), Status(f"scoring {len(rows)} rows", here=here)
    with shown(status):
        train(ScoreJob(config, weights, loader, values, status))
    result = Result(**values.get())
    if result.rows != len(rows):
        raise UserError(
            f"{result.rows} of {len(rows)} rows of {rows.shards.uri} were scored; "
            "this is an error of the program: report it"
        )
    return result


def sheet(
    weights: str, task: Task, rows: Subset, count: int = SHEET_ROWS, *, mask: RowMask | None = None
) -> np.ndarray:
    """Draw the first `count` rows with their predictions, computed on this machine's CPU; uint8 [H, W, 3]."""
    first = list(rows.rows(EvalLoader(task, rows, count, mask=mask).columns, count))
    first = [mask.apply(row) for row in first] if mask else first
    with torch.inference_mode(), float32():
        predictions = task.predict(load_model(weights).model(), task.make_batch(first, None), torch.device("cpu"))
    return task.visualize(first, predictions)


def result_tables(result: Result) -> str:
    """Format the metrics, then those per class, as Markdown tables."""
    metrics = [(name, text(name, value)) for name, value in result.metrics.items()]
    parts = [markdown.table(("metric", "value"), metrics, "lr")]
    if result.per_class:
        rows = [[_cell(value) for value in row] for row in result.per_class]
        parts.append(markdown.table(result.columns, rows, "l" + "r" * (len(result.columns) - 1)))
    return "\n\n".join([*parts, f"{result.rows} rows.", *result.notes]) + "\n"


def _cell(value: str | float) -> str:
    if isinstance(value, str):
        return value
    if math.isnan(value):
        return "-"
    return f"{value:.0f}" if value > 1 and value == round(value) else f"{value:.3f}"  # counts are whole


def as_json(facts: dict[str, Any]) -> bytes:
    """Encode results as JSON; a number that is undefined or infinite becomes null."""

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: plain(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [plain(item) for item in value]
        return None if isinstance(value, float) and not math.isfinite(value) else value

    return json.dumps(plain(facts), indent=1, allow_nan=False).encode()


def text(name: str, value: float | None) -> str:
    """Format a metric: shares in percent, lengths as they are, a dash for None and NaN.

    Args:
        name: of the metric; a length ends in its unit.
        value: a share, 0 to 1, or a length.
    """
    if value is None or math.isnan(value):
        return "-"
    return f"{value:.2f}" if name.endswith(("_cm", "_m", "_px")) else f"{100 * value:.2f} %"


def metric_lines(metrics: dict[str, float | None], per_line: int = 6) -> list[str]:
    """Format metrics for a terminal, `per_line` of them in each line."""
    texts = [f"{name} {text(name, value)}" for name, value in metrics.items()]
    return ["   ".join(texts[start : start + per_line]) for start in range(0, len(texts), per_line)]
