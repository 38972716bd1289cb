"""The training loop, from the first step to the last, and what it needs from where it runs."""

from collections.abc import Iterator
from typing import Protocol

import torch

from hcmoco.data.sampler import Plan
from hcmoco.data.schema import Batch
from hcmoco.pretraining.config import PretrainConfig
from hcmoco.pretraining.probes.run import ProbeResult, ProbeViews, feature_picture, probe
from hcmoco.pretraining.trainer import Pretraining
from hcmoco.training import distributed
from hcmoco.training.checkpoint import TrainState
from hcmoco.training.metrics import MetricsProcessor
from hcmoco.training.precision import native_bfloat16, settle

STAGE_1, STAGE_2 = "after stage 1", "after stage 2"


class Host(Protocol):
    """Where a loop runs: one process, or a worker of a cluster. Rank 0 alone records; all ranks call `save`."""

    rank: int
    world: int
    device: torch.device

    def batches(self, first_step: int) -> Iterator[Batch]:
        """This worker's batch of each step from `first_step` on."""

    def restore(self) -> TrainState | None:
        """The newest train state of this run, if there is one."""

    def save(self, state: TrainState) -> None:
        """Keeps `state` so that a restart finds it."""

    def metrics(self, step: int, values: dict[str, float]) -> None:
        """Records numbers of one step."""

    def picture(self, name: str, step: int, rgb_HW3) -> None:
        """Records a picture, uint8."""

    def progress(self, line: str) -> None:
        """Shows the one line of progress."""


def pretrain(
    config: PretrainConfig, plan: Plan, host: Host, held_out: ProbeViews | None, tracking_run: str = ""
) -> Pretraining:
    """Runs or resumes a pre-training to its last step.

    Raises:
        UserError: a loss term or the gradient is no longer finite, or the newest state belongs to another config.
        RuntimeError: the workers do not go on from the same step.
    """
    saved = host.restore()
    config = settle(config, native_bfloat16(host.device.type), saved.identity if saved else None)
    run = Pretraining(config, plan, host.device, plan.lanes // host.world, load_init=saved is None)
    if saved:
        run.load(saved, where=config.out)
    distributed.check_same_step(run.step)
    run.tracking_run = tracking_run or run.tracking_run
    resumed_at = run.step if saved else None
    steps, boundary = plan.steps, config.stage2_start_step
    meter = MetricsProcessor(host, run.step, steps)
    batches = host.batches(run.step)
    while run.step < steps:
        if run.step == boundary and not run.full:
            # The state between the stages holds the probes of stage 1: who goes on from it has both behind them.
            if run.step and run.step != resumed_at:
                meter.report(run.step, run.described)
                _look(run, host, held_out, STAGE_1)
                host.save(run.state())
            run.start_stage2()
        with meter.waiting():
            batch = next(batches)
        meter.add(run.advance(batch), len(batch))
        last, between = run.step == steps, run.step == boundary and not run.full
        save = run.step % config.train.save_every == 0 and not (last or between)
        # A stretch of numbers ends with every state, so that a run that goes on from it reports the same ones.
        if run.step % config.train.log_every == 0 or last or save:
            meter.report(run.step, run.described)
        if config.probe.every and run.step % config.probe.every == 0 and not last and held_out and host.rank == 0:
            host.metrics(
                run.step, probe(run.model, held_out.first(config.probe.num_people_during_training), config.probe).flat()
            )
        if save:
            host.save(run.state())
    if run.step != resumed_at:
        _look(run, host, held_out, STAGE_2 if run.full else STAGE_1)
        host.save(run.state())
    return run


def _look(run: Pretraining, host: Host, held_out: ProbeViews | None, moment: str) -> None:
    """The full probe at a moment that the closing table names; on rank 0, since the weights are the same everywhere."""
    if held_out is None or host.rank != 0:
        return
    host.progress(f"step {run.step}: probing on {len(held_out)} held-out people")
    result: ProbeResult = probe(run.model, held_out, run.config.probe)
    run.history[moment] = result.to_json()
    host.metrics(run.step, {f"{moment.replace(' ', '-')}/{name}": value for name, value in result.metrics.items()})
    host.picture(f"features-{moment.replace(' ', '-')}", run.step, feature_picture(run.model, held_out))
