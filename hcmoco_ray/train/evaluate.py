"""An evaluation from its arguments to its table."""

import math

import hcmoco
from hcmoco.config import build
from hcmoco.data.codecs import encode_png
from hcmoco.data.shards.reader import Shards
from hcmoco.errors import UserError
from hcmoco.finetuning.label_subset import whole
from hcmoco.finetuning.saved_model import load_model
from hcmoco.storage import Folder
from hcmoco.tasks.registry import task_class
from hcmoco_ray.cluster import preflight, session
from hcmoco_ray.train.run_dir import say
from hcmoco_ray.train.score import ScoreConfig, as_json, markdown, score, sheet


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
    config = build(ScoreConfig, {"out": out, "piece_rows": piece_rows, "train": train}, "evaluate")
    shards = Shards.open(data)
    kind = task_class(saved.config.task).kind
    if shards.manifest.kind != kind:
        raise UserError(
            f"--data {data} holds {shards.manifest.kind} records, {saved.config.task} is scored on {kind} records"
        )
    task = saved.task(shards.manifest)
    rows = whole(shards, (*task.inputs, *task.labels))
    cluster = session.start()
    cluster.refuse_local("weights", saved.folder)
    cluster.refuse_local("--data", data)
    cluster.refuse_local("--out", out)
    preflight.check_resources(config)
    say(f"{task.name} of {saved.folder} on {len(rows)} of {shards.manifest.rows} rows of {data}")
    result = score(config, saved.folder, task, rows)
    png = encode_png(sheet(saved.folder, task, rows))
    folder = Folder(out)
    folder.write("sheet.png", png)
    folder.write("table.md", markdown(result).encode())
    facts = {
        "hcmoco": hcmoco.__version__,
        "task": task.name,
        "main": task.main,
        "weights": {"folder": saved.folder, "sha256": saved.digest, "training": saved.training},
        "data": {"uri": data, "content": shards.manifest.content, "rows": result.rows, "digest": rows.digest},
        "figures": result.figures,
        "breakdown": {"columns": result.columns, "rows": result.breakdown},
    }
    folder.write("results.json", as_json(facts))
    say(markdown(result))
    say(f"results   {out}/results.json\npicture   {out}/sheet.png")
    return 0
