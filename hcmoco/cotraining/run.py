"""A whole co-training and its test score in this process."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from hcmoco.cotraining.config import CoTrainingConfig
from hcmoco.cotraining.encoder_init import load_encoders_init, settle_encoders
from hcmoco.cotraining.evaluation import evaluate, predict
from hcmoco.cotraining.loader import LabeledBatch
from hcmoco.cotraining.resolve import ResolvedCoTraining, resolve
from hcmoco.cotraining.sheet import versatility_sheet
from hcmoco.cotraining.trainer import CoTraining
from hcmoco.data.shards.reader import Shards
from hcmoco.models.multimodal import HCMoCo, with_saved_fusions
from hcmoco.training.checkpoint import States
from hcmoco.training.context import TrainContext
from hcmoco.training.local import LocalContext
from hcmoco.training.precision import native_bfloat16, set_up, settle
from hcmoco.training.run_loop import run_loop, validation_hook

SHOWN = 6  # people of a sheet


@dataclass(frozen=True)
class Sources:
    """Opened data sets, as `CoTrainingConfig.data` names them."""

    unlabeled: Shards
    labeled: Shards
    test: Shards
    validation: Shards | None = None


def init_of(config: CoTrainingConfig) -> dict[str, str]:
    """Return where the encoders start: `text` and `digest`, see `load_encoders_init`.

    Raises:
        UserError: weights that do not exist, or are of other encoders.
    """
    return load_encoders_init(HCMoCo(config.model, seed=config.seed, load=False), config.init)


def cotrain(run: ResolvedCoTraining, context: TrainContext[LabeledBatch], init_digest: str) -> CoTraining:
    """Run or resume a co-training to its last step.

    The last model is the result. (The release keeps the best of all epochs by the score that is reported, on the test
    images.)

    Raises:
        UserError: the loss or the gradient is no longer finite, or the newest state belongs to another config.
    """
    config, loader = run.config, run.loader
    saved = context.restore()
    set_up(context.device, config.train.precision)
    trainer = CoTraining(
        config,
        loader.plan,
        run.identity(init_digest),
        context.device,
        samples=loader.bank_offsets[-1],
        class_weights=run.class_weights,
        load_init=saved is None,
    )
    hooks = []
    if (validation := run.validation) is not None:

        def score() -> dict[str, float]:
            return evaluate(trainer.model, run.crops(validation, config.num_val_rows), context.device).metrics

        hooks.append(validation_hook(trainer, context, config.num_evals, score))
    run_loop(trainer, context, hooks, saved=saved)
    return trainer


def cotrain_and_score(
    config: CoTrainingConfig,
    sources: Sources,
    *,
    states: str | None = None,
    device: str = "cpu",
    threads: int = 1,
    show: Callable[[str], None] = lambda line: None,
) -> tuple[dict, np.ndarray]:
    """Train or resume, and score the last model on the test people.

    Args:
        states: folder (URI) of train states, from which a killed run resumes; None keeps none.
        threads: threads that read and decode.
        show: called with each line of progress.
    Returns:
        JSON values: what was run, `test` figures, `validations` and `seconds` (of this process: of what was left, if it
        went on); and the sheet of the first test people, uint8 [H, W, 3].
    """
    begun = time.monotonic()
    saved = States(states).newest() if states else None
    config = settle(config, native_bfloat16(device), saved.identity if saved else None)
    config = config.model_copy(
        update={
            "model": with_saved_fusions(config.model, saved.identity["model"])
            if saved
            else settle_encoders(config.model, config.init)
        }
    )
    del saved  # the training reads it again
    run = resolve(config, sources.unlabeled, sources.labeled, sources.test, sources.validation)
    init = init_of(config)
    context = LocalContext(
        run.loader, states, num_checkpoints=config.train.num_checkpoints, device=device, threads=threads, show=show
    )
    trainer = cotrain(run, context, init["digest"])
    result = evaluate(trainer.model, run.crops(run.test), context.device)
    trainer.model.eval()
    first = next(run.crops(run.test, SHOWN))
    return {
        "experiment": config.experiment,
        "method": config.method,
        "seed": config.seed,
        "steps": trainer.step,
        "precision": config.train.precision,
        "init": init,
        "labels": {"rows": len(run.labeled), "digest": run.labeled.digest},
        "primary_metric": config.primary_metric,
        "test": {"rows": result.rows, "digest": run.test.digest, "metrics": result.metrics},
        "evals": trainer.evals,
        "seconds": round(time.monotonic() - begun, 1),
    }, versatility_sheet(first, predict(trainer.model, first, context.device))
