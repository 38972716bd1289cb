"""A whole co-training and its test score in this process."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from hcmoco.cotraining.config import VersatilityConfig
from hcmoco.cotraining.encoder_init import begin
from hcmoco.cotraining.evaluation import evaluate, predict
from hcmoco.cotraining.loader import LabelledBatch
from hcmoco.cotraining.resolve import CoTrainingSetup, set_up
from hcmoco.cotraining.sheet import versatility_sheet
from hcmoco.cotraining.trainer import CoTraining
from hcmoco.data.shards.reader import Shards
from hcmoco.finetuning.loop import validation_steps
from hcmoco.models.multimodal import HCMoCo
from hcmoco.training.checkpoint import States
from hcmoco.training.local import LocalHost
from hcmoco.training.metrics import MetricsProcessor
from hcmoco.training.precision import native_bfloat16, settle

SHOWN = 6  # people of a sheet


@dataclass(frozen=True)
class Sources:
    """The opened data sets of `VersatilityConfig.data`."""

    unlabeled: Shards
    labeled: Shards
    test: Shards
    validation: Shards | None = None


def start_of(config: VersatilityConfig) -> dict[str, str]:
    """Where the encoders start: `text` and `digest` of `start.begin`. UserError for weights that are not there or are of others."""
    return begin(HCMoCo(config.model, seed=config.seed, load=False), config.init)


def cotrain(setup: CoTrainingSetup, host: LocalHost[LabelledBatch], start_digest: str) -> CoTraining:
    """Runs or resumes a co-training to its last step.

    The last model is the result. (The release keeps the best of all epochs by the score that is reported, on the test images.)
    UserError: the loss or the gradient is no longer finite, or the newest state belongs to another config.
    """
    config, feed = setup.config, setup.feed
    saved = host.restore()
    run = CoTraining(
        config, feed.plan, setup.identity(start_digest), host.device,
        bank_rows=feed.bank_offsets[-1], class_weights=setup.class_weights, load_init=saved is None,
    )  # fmt: skip
    if saved:
        run.load(saved, where=config.out)
    resumed_at, steps = (run.step if saved else None), feed.plan.steps
    moments = validation_steps(steps, config.validations) if setup.validation else set()
    meter = MetricsProcessor(host, run.step, steps)
    batches = host.batches(run.step)
    while run.step < steps:
        with meter.waiting():
            batch = next(batches)
        meter.add(run.advance(batch), len(batch))
        look, save = run.step in moments, run.step % config.train.save_every == 0 or run.step == steps
        if run.step % config.train.log_every == 0 or look or save:
            meter.report(run.step, run.described)
        if look and setup.validation:
            with meter.paused():
                run.note(evaluate(run.model, setup.crops(setup.validation, config.validation), host.device))
        if save and run.step != resumed_at:
            host.save(run.state())
    return run


def run_cell(
    config: VersatilityConfig,
    sources: Sources,
    *,
    states: str | None = None,
    device: str = "cpu",
    threads: int = 1,
    show: Callable[[str], None] = lambda line: None,
) -> tuple[dict, np.ndarray]:
    """Trains or goes on, and scores the last model on the test people.

    Args:
        states: folder (URI) of train states, from which a killed one goes on; None keeps none.
        threads: threads that read and decode.
        show: called with each line of progress.
    Returns:
        JSON values: what was run, `test` figures, `validations` and `seconds` (of this process: of what was left, if it went on); and the
        sheet of the first test people, uint8 [H, W, 3].
    """
    begun = time.monotonic()
    saved = States(states).newest() if states else None
    config = settle(config, native_bfloat16(device), saved.identity if saved else None)
    setup = set_up(config, sources.unlabeled, sources.labeled, sources.test, sources.validation)
    start = start_of(config)
    host = LocalHost(setup.feed, states, keep=config.train.keep, device=device, threads=threads, show=show)
    run = cotrain(setup, host, start["digest"])
    result = evaluate(run.model, setup.crops(setup.test), host.device)
    run.model.eval()
    first = next(setup.crops(setup.test, SHOWN))
    return {
        "experiment": config.experiment,
        "method": config.method,
        "seed": config.seed,
        "steps": run.step,
        "precision": config.train.precision,
        "start": start,
        "labels": {"rows": len(setup.labeled), "digest": setup.labeled.digest},
        "main": config.main,
        "test": {"rows": result.rows, "digest": setup.test.digest, "figures": result.figures},
        "validations": run.validations,
        "seconds": round(time.monotonic() - begun, 1),
    }, versatility_sheet(first, predict(run.model, first, host.device))
