"""The pre-training loop: its probes, and the boundary between the stages."""

import torch

from hcmoco.data.sampler import Plan
from hcmoco.data.schema import Batch
from hcmoco.models.multimodal import settle_model, with_saved_fusions
from hcmoco.pretraining.config import PretrainConfig
from hcmoco.pretraining.probes.beside import ProbesBeside
from hcmoco.pretraining.probes.run import ProbeResult, ProbeViews, feature_picture, probe
from hcmoco.pretraining.trainer import Pretraining
from hcmoco.training.context import TrainContext
from hcmoco.training.precision import native_bfloat16, set_up, settle
from hcmoco.training.run_loop import Hook, run_loop

STAGE_1, STAGE_2 = "after stage 1", "after stage 2"


def pretrain(
    config: PretrainConfig,
    plan: Plan,
    context: TrainContext[Batch],
    held_out: ProbeViews | None,
    tracking_run: str = "",
) -> Pretraining:
    """Run or resume a pre-training to its last step.

    Args:
        held_out: people for the probes; rank 0 alone needs them. None: no probes.
        tracking_run: id of the run in the tracking store; "": that of the train state that is resumed.

    Raises:
        UserError: a loss term or the gradient is no longer finite, or the newest state belongs to another config.
        RuntimeError: the workers do not resume from the same step.
    """
    saved = context.restore()
    config = settle(config, native_bfloat16(context.device.type), saved.identity if saved else None)
    if saved is None:
        config = config.model_copy(update={"model": settle_model(config.model)[0]})
    else:
        config = config.model_copy(update={"model": with_saved_fusions(config.model, saved.identity["model"])})
    set_up(context.device, config.train.precision)
    trainer = Pretraining(config, plan, context.device, plan.lanes // context.world, load_init=saved is None)
    steps = plan.steps
    # The checkpoint saved at the stage boundary already contains the probe results of stage 1, so a resumed run does
    # not repeat them.
    ends = {config.stage2_start_step, steps}
    beside = _probes_beside(config, context, held_out)
    hooks = [
        Hook(
            lambda step: config.probe.due(step, steps),
            lambda: _probe_during_training(trainer, context, held_out, beside),
        ),
        Hook(lambda step: step in ends, lambda: probe_and_log(trainer, context, held_out), saves=True),
    ]
    try:
        run_loop(
            trainer,
            context,
            hooks,
            after_step=beside.log_if_done if beside else lambda: None,
            before_save=beside.finish if beside else lambda: None,
            saved=saved,
            tracking_run=tracking_run,
        )
    finally:
        if beside:
            beside.close()
    return trainer


def prefix_of(moment: str) -> str:
    """Return what the names of the metrics of a full probe begin with: STAGE_1 gives `after-stage-1/`."""
    return f"{moment.replace(' ', '-')}/"


def _probes_beside(
    config: PretrainConfig, context: TrainContext[Batch], held_out: ProbeViews | None
) -> ProbesBeside | None:
    """What probes beside the steps, on the worker that probes; None: probes come between two steps."""
    wanted = config.probe.beside
    if wanted is None:
        wanted = context.device.type == "cuda" and config.train.precision != "tf32"
    if not wanted or held_out is None or context.rank != 0:
        return None
    return ProbesBeside(held_out.first(config.probe.num_people_during_training), config.probe, context.metrics)


def _probe_during_training(
    trainer: Pretraining, context: TrainContext[Batch], held_out: ProbeViews | None, beside: ProbesBeside | None
) -> None:
    """Log the probes on a few of the held-out people, if there are any, and how hard each term of the step before
    pulled."""
    if context.rank != 0:
        return
    norms = trainer.gradient_norms
    numbers = dict(zip(norms, torch.stack(list(norms.values())).tolist(), strict=True))
    values = {f"probe/grad_norm/{name}": value for name, value in numbers.items()}
    if beside:
        beside.begin(trainer.model, trainer.step)
    elif held_out is not None:
        config = trainer.config.probe
        values |= probe(trainer.model, held_out.first(config.num_people_during_training), config).flat()
    context.metrics(trainer.step, values)


def probe_and_log(trainer: Pretraining, context: TrainContext[Batch], held_out: ProbeViews | None) -> None:
    """Log the full probe at the end of a stage, for the closing table; on rank 0, since the weights are the same
    everywhere."""
    if held_out is None or context.rank != 0:
        return
    context.progress(f"step {trainer.step}: probing on {len(held_out)} held-out people")
    result: ProbeResult = probe(trainer.model, held_out, trainer.config.probe)
    moment = STAGE_2 if trainer.stage == 2 else STAGE_1
    trainer.history[moment] = result.to_json()
    context.metrics(trainer.step, result.flat(prefix_of(moment)))
    context.picture(f"features-{prefix_of(moment).rstrip('/')}", trainer.step, feature_picture(trainer.model, held_out))
