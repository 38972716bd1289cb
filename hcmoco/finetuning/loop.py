"""The fine-tuning loop, and the evaluation of a model."""

from collections.abc import Iterable

import torch
from torch import nn

from hcmoco.finetuning.resolve import ResolvedRun
from hcmoco.finetuning.trainer import Finetuning
from hcmoco.tasks.base import Result, Task, TaskBatch
from hcmoco.training import distributed
from hcmoco.training.context import TrainContext
from hcmoco.training.precision import float32, set_up
from hcmoco.training.run_loop import run_loop, validation_hook


def finetune(run: ResolvedRun, context: TrainContext[TaskBatch], tracking_run: str = "") -> Finetuning:
    """Run or resume a fine-tuning to its last step.

    Args:
        run: with its precision decided, see `training.precision.settle`.
        tracking_run: id of the run in the tracking store; "": that of the train state that is resumed.

    Raises:
        UserError: the loss or the gradient is no longer finite, or the newest state belongs to another config.
        RuntimeError: the workers do not resume from the same step.
    """
    saved = context.restore()
    # Scenes are of all sizes.
    set_up(context.device, run.config.train.precision, same_sizes=run.task.kind == "person")
    trainer = Finetuning(run.config, run.task, run.plan, run.identity, context.device, load_init=saved is None)
    hooks = []
    if run.val_subset is not None:

        def score() -> dict[str, float]:
            return evaluate(run.task, trainer.model, context.evaluation(), context.device).metrics

        hooks.append(validation_hook(trainer, context, run.config.num_evals, score))
    run_loop(trainer, context, hooks, saved=saved, tracking_run=tracking_run)
    return trainer


def evaluate(task: Task, model: nn.Module, batches: Iterable[TaskBatch], device: torch.device) -> Result:
    """Score a model on the batches of all workers; every worker must call it and gets the same result.

    Predictions are in float32, whatever the training's precision, and of batch norm's running statistics: the rows
    beside a row move its prediction by no more than rounding.
    """
    training = model.training
    model.eval()
    metric = task.metric()
    with torch.inference_mode(), float32():
        for batch in batches:
            metric.update(batch, task.predict(model, batch, device))
    model.train(training)
    states = distributed.gather_objects(metric.state())
    if len(states) == 1:
        return metric.compute()
    together = task.metric()
    for state in states:
        together.merge(state)
    return together.compute()
