"""Run a whole fine-tuning and its test score without Ray, in this process alone or in each of a process group."""

import time
from collections.abc import Callable

import torch

from hcmoco.data.shards.reader import Shards
from hcmoco.finetuning.config import FinetuneConfig
from hcmoco.finetuning.encoder_init import load_encoder_init
from hcmoco.finetuning.loop import evaluate, finetune
from hcmoco.finetuning.resolve import resolve
from hcmoco.tasks.registry import task_class
from hcmoco.training.checkpoint import States
from hcmoco.training.local import LocalContext
from hcmoco.training.precision import native_bfloat16, settle


def finetune_and_score(
    config: FinetuneConfig,
    train: Shards,
    test: Shards,
    *,
    states: str | None = None,
    device: str = "cpu",
    threads: int = 1,
    show: Callable[[str], None] = lambda line: None,
    rank: int = 0,
    world: int = 1,
) -> dict:
    """Train or resume, select the model and score it on the test data.

    Every process of a group calls it and gets the same result. The processes must be in one torch.distributed group.

    Args:
        config: of the run.
        train, test: the data sets.
        states: folder or URI of train states, from which a killed run resumes; None writes none.
        device: as PyTorch names it.
        threads: number of threads that read and decode.
        show: called with each line of progress.
        rank: of this process, 0 to `world` - 1.
        world: number of processes that train together; divides `train.lanes`.

    Returns:
        JSON values: facts of the run, `test` with its metrics, `evals` and `seconds`.
    """
    begun = time.monotonic()
    saved = States(states).newest() if states else None
    config = settle(config, native_bfloat16(device), saved.identity if saved else None)
    del saved  # the training reads it again
    encoder_init = load_encoder_init(
        config.init, config.encoder, task_class(config.task.name).modality, imagenet_weights=config.imagenet_weights
    )
    run = resolve(config, train, test, encoder_init)
    context = LocalContext(
        run.train_loader(),
        states,
        validation=run.eval_loader(world),
        num_checkpoints=config.train.num_checkpoints,
        device=device,
        threads=threads,
        show=show,
        rank=rank,
        world=world,
    )
    trainer = finetune(run, context)
    selected_step = trainer.select()
    loader = run.test_loader(world)
    batches = loader.batches(loader.own_items(rank), threads=threads, ahead=2)
    result = evaluate(run.test_task, trainer.model, batches, torch.device(device))
    return {
        "task": config.task.name,
        "seed": config.seed,
        "steps": trainer.step,
        "selected_step": selected_step,
        "select": config.select,
        **run.facts,
        "primary_metric": run.task.primary_metric,
        "test": {"rows": result.rows, "digest": run.test_subset.digest, "metrics": result.metrics},
        "evals": trainer.evals,
        "seconds": round(time.monotonic() - begun, 1),
    }
