"""Build the recipes of a trial and of the fine-tuning that scores it."""

from collections.abc import Mapping
from typing import Any

from hcmoco.config import merge
from hcmoco.tasks.registry import task_class
from hcmoco.training.precision import with_precision
from hcmoco_ray import cli
from hcmoco_ray import config as run_config
from hcmoco_ray.config import FinetuneRecipe, PretrainRecipe
from hcmoco_ray.experiments.sweep.config import FinetuneScore, Value, nested


def trial_values(base: dict[str, Any], values: Mapping[str, Value]) -> dict[str, Any]:
    """Return the keys of a trial's recipe. What its workers run on is the sweep's to say, not the recipe's.

    Args:
        base: the keys that all trials have.
        values: dotted key -> the trial's own value.
    """
    return merge(merge(base, nested(dict(values))), {"train": {"gpu": False}})


def trial_config(base: dict[str, Any], values: Mapping[str, Value], output_dir: str) -> PretrainRecipe:
    """Build the checked config of a trial, with absolute paths. It saves a train state with every probe.

    Args:
        base: the keys that all trials have.
        values: dotted key -> the trial's own value.
        output_dir: the trial's folder.

    Raises:
        UserError: a value is not allowed.
    """
    given = merge(trial_values(base, values), {"output_dir": output_dir})
    config, _ = run_config.check(PretrainRecipe, given, "of the trial").with_settled_fusions()
    save_every = min(config.probe.every or config.train.save_every, config.train.save_every)
    train = config.train.model_copy(update={"save_every": save_every, "num_checkpoints": 1})
    return config.model_copy(update={"train": train})


def finetune_config(score: FinetuneScore, init: str, output_dir: str, trial: PretrainRecipe) -> FinetuneRecipe:
    """Build the config of the fine-tuning that scores a trial.

    Its encoder is that of the trial. So is its precision, where its own recipe has auto.

    Args:
        init: where the encoder starts, as in a fine-tuning's recipe.
        output_dir: folder of the fine-tuning.
        trial: config of the trial.

    Raises:
        UserError: the recipe does not exist or has a bad key or value.
    """
    encoder = getattr(trial.model, task_class(score.task).modality).model_copy(update={"init": "scratch"})
    own = {
        **score.labels,
        "init": init,
        "seed": score.seed,
        "output_dir": output_dir,
        "encoder": encoder.model_dump(mode="json"),
    }
    values = merge(cli.task_values(score.task, score.recipe, []), nested(score.fixed))
    config = run_config.check(FinetuneRecipe, merge(values, own), f"{score.task}/{score.recipe}")
    return with_precision(config, trial.train.precision) if config.train.precision == "auto" else config


def finetune_workers(config: FinetuneRecipe, workers: int) -> int:
    """Return how many of a trial's workers fine-tune: as many as the fine-tuning's recipe has, at most the trial's.

    Args:
        config: of the fine-tuning.
        workers: of the trial.
    """
    lanes, most = config.train.lanes, min(config.train.max_workers, workers)
    return next(count for count in range(most, 0, -1) if lanes % count == 0)
