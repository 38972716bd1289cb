"""A whole fine-tuning and its test score in this process, without a cluster: a cell of a grid, or a run on one GPU."""

import time
from collections.abc import Callable

import torch

from hcmoco.data.shards.reader import Shards
from hcmoco.finetuning.config import FinetuneConfig
from hcmoco.finetuning.encoder_init import start
from hcmoco.finetuning.local import LocalTaskHost
from hcmoco.finetuning.loop import evaluate, finetune
from hcmoco.finetuning.resolve import set_up
from hcmoco.tasks.registry import task_class
from hcmoco.training.checkpoint import States
from hcmoco.training.precision import native_bfloat16, settle


def run_cell(
    config: FinetuneConfig,
    train: Shards,
    test: Shards,
    *,
    states: str | None = None,
    device: str = "cpu",
    threads: int = 1,
    show: Callable[[str], None] = lambda line: None,
) -> dict:
    """Trains or goes on, chooses the model and scores it on the test data.

    Args:
        states: folder (URI) of train states, from which a cell that was killed goes on; None keeps none.
        threads: threads that read and decode.
        show: called with each line of progress.
    Returns:
        JSON values: what was run, `test` figures, `validations` and `seconds`.
    """
    begun = time.monotonic()
    saved = States(states).newest() if states else None
    config = settle(config, native_bfloat16(device), saved.identity if saved else None)
    first = start(
        config.init, config.encoder, task_class(config.task.task).modality, imagenet_weights=config.imagenet_weights
    )
    setup = set_up(config, train, test, first)
    host = LocalTaskHost(
        setup.train_loader(),
        setup.eval_loader(),
        states,
        keep=config.train.keep,
        device=device,
        threads=threads,
        show=show,
    )
    run = finetune(config, setup.task, setup.plan, host, setup.identity, validated=setup.chosen_on is not None)
    chosen = run.choose()
    feed = setup.test_feed()
    batches = feed.batches(feed.own_items(0), threads=threads, ahead=2)
    result = evaluate(setup.tested, run.model, batches, torch.device(device))
    return {
        "task": config.task.task,
        "seed": config.seed,
        "steps": run.step,
        "chosen_step": chosen,
        "select": config.select,
        **setup.facts,
        "main": setup.task.main,
        "test": {"rows": result.rows, "digest": setup.test.digest, "figures": result.figures},
        "validations": run.validations,
        "seconds": round(time.monotonic() - begun, 1),
    }
