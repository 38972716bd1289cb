"""Choose the values of a trial as a function of its number and of the results of the trials before it.

A searcher keeps no state, so after a restart it chooses as it would have before.
"""

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeGuard

from hcmoco.rng import make_rng
from hcmoco_ray.experiments.sweep.config import Dimension, Value


@dataclass(frozen=True)
class Tried:
    """A trial that was started. `score` is None while it is running, and if it failed."""

    values: Mapping[str, Value]
    score: float | None
    finished: bool = True


def draw(space: Mapping[str, Dimension], seed: int, number: int) -> dict[str, Value]:
    """Draw independent values for trial `number`.

    Args:
        space: the values of each key.
        seed: of the sweep.
        number: of the trial.

    Returns:
        Dotted key -> value.
    """
    values: dict[str, Value] = {}
    for key, dimension in space.items():
        rng = make_rng(seed, f"sweep {key}", number)
        if dimension.choice is not None:
            values[key] = dimension.choice[int(rng.integers(len(dimension.choice)))]
        elif dimension.integers is not None:
            values[key] = int(rng.integers(dimension.integers[0], dimension.integers[1] + 1))
        elif dimension.loguniform is not None:
            low, high = map(math.log, dimension.loguniform)
            values[key] = dimension.tidy(math.exp(rng.uniform(low, high)))
        else:
            assert dimension.uniform is not None
            values[key] = dimension.tidy(rng.uniform(*dimension.uniform))
    return values


def choose(
    space: Mapping[str, Dimension], seed: int, number: int, tried: Sequence[Tried], num_random_trials: int
) -> dict[str, Value]:
    """Choose values for trial `number` by Optuna's tree-structured Parzen estimator (Bergstra et al., 2011).

    A trial that failed or is running counts with the lowest score so far. So several trials at a time do not crowd one
    place.

    Args:
        space: the values of each key.
        seed: of the sweep.
        number: of the trial.
        tried: the trials that were started.
        num_random_trials: values are drawn as by `draw` while fewer trials than this have finished with a score.

    Returns:
        Dotted key -> value.
    """
    scores = [trial.score for trial in tried if trial.finished and _is_known(trial.score)]
    if len(scores) < num_random_trials:
        return draw(space, seed, number)
    import optuna

    logging.getLogger("optuna").setLevel(logging.ERROR)
    distributions = {key: _distribution(dimension) for key, dimension in space.items()}
    # Seeded with the number, so that nothing depends on how often this sampler was used before.
    sampler = optuna.samplers.TPESampler(
        seed=int(make_rng(seed, "sweep tpe", number).integers(2**31)), n_startup_trials=0, multivariate=True
    )
    study = optuna.create_study(direction="maximize", sampler=sampler)
    for trial in tried:
        value = trial.score if trial.finished and _is_known(trial.score) else min(scores)
        study.add_trial(optuna.trial.create_trial(params=dict(trial.values), distributions=distributions, value=value))
    values = study.ask(distributions).params
    return {key: values[key] if space[key].choice is not None else space[key].tidy(values[key]) for key in space}


def _is_known(score: float | None) -> TypeGuard[float]:
    return score is not None and math.isfinite(score)


def _distribution(dimension: Dimension) -> Any:
    import optuna

    if dimension.choice is not None:
        return optuna.distributions.CategoricalDistribution(dimension.choice)
    if dimension.integers is not None:
        return optuna.distributions.IntDistribution(*dimension.integers)
    assert dimension.limits is not None
    return optuna.distributions.FloatDistribution(*dimension.limits, log=dimension.log)
