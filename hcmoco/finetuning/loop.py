"""The fine-tuning loop, from the first step to the last, and the evaluation that it shares with everybody else."""

from collections.abc import Iterable, Iterator
from typing import Protocol

import torch
from torch import nn

from hcmoco.data.sampler import Plan
from hcmoco.finetuning.config import FinetuneConfig
from hcmoco.finetuning.trainer import Finetuning
from hcmoco.tasks.base import Result, Task, TaskBatch
from hcmoco.training import distributed
from hcmoco.training.checkpoint import TrainState
from hcmoco.training.metrics import MetricsProcessor


class EvalContext(Protocol):
    """Where a loop runs: one process, or a worker of a cluster. Rank 0 alone records; all ranks call `save` and evaluate."""

    rank: int
    world: int
    device: torch.device

    def batches(self, first_step: int) -> Iterator[TaskBatch]:
        """This worker's batch of each step from `first_step` on."""

    def evaluation(self) -> Iterable[TaskBatch]:
        """This worker's share of the rows that choose the model."""

    def restore(self) -> TrainState | None:
        """The newest train state of this run, if there is one."""

    def save(self, state: TrainState) -> None:
        """Keeps `state` so that a restart finds it."""

    def metrics(self, step: int, values: dict[str, float]) -> None:
        """Records numbers of one step."""

    def progress(self, line: str) -> None:
        """Shows the one line of progress."""


def finetune(
    config: FinetuneConfig,
    task: Task,
    plan: Plan,
    host: EvalContext,
    identity: dict,
    *,
    validated: bool,
    tracking_run: str = "",
) -> Finetuning:
    """Runs or resumes a fine-tuning to its last step.

    Args:
        validated: whether there are rows that choose the model.
    Raises:
        UserError: the loss or the gradient is no longer finite, or the newest state belongs to another config.
        RuntimeError: the workers do not go on from the same step.
    """
    saved = host.restore()
    run = Finetuning(config, task, plan, identity, host.device, steps=plan.steps, load_init=saved is None)
    if saved:
        run.load(saved, where=config.out)
    distributed.check_same_step(run.step)
    run.tracking_run = run.tracking_run or tracking_run
    resumed_at = run.step if saved else None
    moments = validation_steps(plan.steps, config.validations) if validated else set()
    meter = MetricsProcessor(host, run.step, plan.steps)
    batches = host.batches(run.step)
    while run.step < plan.steps:
        with meter.waiting():
            batch = next(batches)
        meter.add(run.advance(batch), len(batch))
        last, look = run.step == plan.steps, run.step in moments
        save = run.step % config.train.save_every == 0 or last
        # A stretch of numbers ends with every state, so that a run that goes on from it reports the same ones.
        if run.step % config.train.log_every == 0 or look or save:
            meter.report(run.step, run.described)
        if look:
            with meter.paused():
                result = evaluate(task, run.model, host.evaluation(), host.device)
            run.note(result)
            if host.rank == 0:
                host.metrics(run.step, {f"validation/{name}": value for name, value in result.figures.items()})
        if save and run.step != resumed_at:
            host.save(run.state())
    return run


def validation_steps(steps: int, count: int) -> set[int]:
    """Steps after which the model is scored: `count` of them, evenly spaced, the last at the end."""
    return {round(steps * (number + 1) / count) for number in range(count)} - {0}


def evaluate(task: Task, model: nn.Module, batches: Iterable[TaskBatch], device: torch.device) -> Result:
    """The scores of a model, over the batches of all workers; every worker must call it and gets the same.

    Predictions are in float32, whatever the training's precision, and of batch norm's running statistics: the rows beside a row
    move its prediction by no more than rounding.
    """
    training = model.training
    model.eval()
    metric = task.metric()
    with torch.inference_mode():
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
