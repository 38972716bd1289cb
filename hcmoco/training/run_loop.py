"""The loop of all trainings, from the first step, or the newest train state, to the last."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from hcmoco.training import distributed
from hcmoco.training.checkpoint import TrainState
from hcmoco.training.context import TrainContext, WorkersLeave
from hcmoco.training.metrics import MetricsProcessor
from hcmoco.training.trainer import Trainer


class Hook(NamedTuple):
    """Something to do between two steps.

    Attributes:
        when: called with the number of steps done; must say the same on every worker.
        what: called after the report of these steps, before their train state is saved. Its time counts neither as
            training nor as waiting.
        saves: whether a train state is saved after it.
    """

    when: Callable[[int], bool]
    what: Callable[[], None]
    saves: bool = False


def run_loop(
    trainer: Trainer[Any, Any],
    context: TrainContext[Any],
    hooks: Sequence[Hook] = (),
    *,
    after_step: Callable[[], None] = lambda: None,
    before_save: Callable[[], None] = lambda: None,
    saved: TrainState | None,
    tracking_run: str = "",
) -> None:
    """Run or resume a training to its last step.

    A train state is saved every `train.save_every` steps, after a hook that saves, and at the end. A report ends with
    every state, so that a run that is resumed from it reports the same numbers.

    Args:
        after_step: called after each step.
        before_save: called before each train state.
        saved: the state to resume from; it is without its tensors then.
        tracking_run: id of the run in the tracking store, which goes before that of `saved`; "": that of `saved`.

    Raises:
        WorkersLeave: a worker has to end; the state of the step is complete.
        UserError: a loss term, the gradient or a weight is no longer finite, or `saved` belongs to another config.
        RuntimeError: the workers do not resume from the same step.
    """
    train, steps = trainer.config.train, trainer.plan.steps
    if saved:
        trainer.load_state_dict(saved, where=trainer.config.output_dir)
        saved.let_go()
    distributed.check_same_step(trainer.step)
    trainer.tracking_run = tracking_run or trainer.tracking_run
    trainer.leaving = context.leaving
    metrics = MetricsProcessor(context, trainer.step, steps)
    batches = context.batches(trainer.step)
    while trainer.step < steps:
        with metrics.waiting():
            batch = next(batches)
        metrics.add(trainer.train_step(batch), len(batch))
        step = trainer.step
        after_step()
        due = [hook for hook in hooks if hook.when(step)]
        leave = trainer.agreement.reached() and step < steps
        save = leave or step % train.save_every == 0 or step == steps or any(hook.saves for hook in due)
        if step % train.log_every == 0 or save or due:
            metrics.report(step, trainer.summarize)
        with metrics.paused():
            if due:
                context.pause()
            for hook in due:
                hook.what()
        if save:
            before_save()
            context.save(trainer.state_dict())
        if leave:
            context.wait_until_saved()
            raise WorkersLeave(f"a worker had to end; the train state of step {step} is complete")
    context.wait_until_saved()


def validation_hook(
    trainer: Trainer[Any, Any], context: TrainContext[Any], num_evals: int, score: Callable[[], Mapping[str, float]]
) -> Hook:
    """Return the hook that scores the model `num_evals` times and records it as `val/<metric>`.

    Args:
        score: returns the metrics of the model as it is; called on every worker.
    """
    moments = validation_steps(trainer.plan.steps, num_evals)

    def validate() -> None:
        scores = score()
        trainer.record_validation(scores)
        if context.rank == 0:
            context.metrics(trainer.step, {f"val/{name}": value for name, value in scores.items()})

    return Hook(moments.__contains__, validate)


def validation_steps(steps: int, count: int) -> set[int]:
    """Return the steps after which the model is scored: `count` of them, evenly spaced, the last at the end."""
    return {round(steps * (number + 1) / count) for number in range(count)} - {0} if count else set()
