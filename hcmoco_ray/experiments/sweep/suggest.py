"""The values of a trial, as a function of its number and of what the trials before it have shown.

No state of a searcher is kept: one that is asked after a restart answers as it would have before.
"""

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from hcmoco.rng import make_rng
from hcmoco_ray.experiments.sweep.config import Dimension, Value


@dataclass(frozen=True)
class Tried:
    """A trial that was begun. `score` is None where it has none (yet): it is under way or has failed."""

    values: Mapping[str, Value]
    score: float | None
    over: bool = True


def draw(space: Mapping[str, Dimension], seed: int, number: int) -> dict[str, Value]:
    """Independent values for trial `number`."""
    values: dict[str, Value] = {}
    for key, dimension in space.items():
        draws = make_rng(seed, f"sweep {key}", number)
        if dimension.choice is not None:
            values[key] = dimension.choice[int(draws.integers(len(dimension.choice)))]
        elif dimension.integers is not None:
            values[key] = int(draws.integers(dimension.integers[0], dimension.integers[1] + 1))
        elif dimension.loguniform is not None:
            low, high = map(math.log, dimension.loguniform)
            values[key] = dimension.tidy(math.exp(draws.uniform(low, high)))
        else:
            assert dimension.uniform is not None
            values[key] = dimension.tidy(draws.uniform(*dimension.uniform))
    return values


def choose(
    space: Mapping[str, Dimension], seed: int, number: int, tried: Sequence[Tried], num_random_trials: int
) -> dict[str, Value]:
    """Values for trial `number` by the tree-structured Parzen estimator of Optuna over `tried`, or `draw`'s while fewer than
    `num_random_trials` trials have ended with a score.

    A trial that failed or is under way counts with the lowest score so far: where it is, nothing good is known yet, so that several trials
    at a time do not crowd one place.
    """
    scores = [each.score for each in tried if each.over and each.score is not None and math.isfinite(each.score)]
    if len(scores) < num_random_trials:
        return draw(space, seed, number)
    import optuna

    logging.getLogger("optuna").setLevel(logging.ERROR)
    distributions = {key: _distribution(dimension) for key, dimension in space.items()}
    # Seeded with the number, so that nothing depends on how often this sampler was asked before.
    sampler = optuna.samplers.TPESampler(
        seed=int(make_rng(seed, "sweep tpe", number).integers(2**31)), n_startup_trials=0, multivariate=True
    )
    study = optuna.create_study(direction="maximize", sampler=sampler)
    for each in tried:
        known = each.over and each.score is not None and math.isfinite(each.score)
        value = each.score if known else min(scores)
        study.add_trial(optuna.trial.create_trial(params=dict(each.values), distributions=distributions, value=value))
    asked = study.ask(distributions).params
    return {key: asked[key] if space[key].choice is not None else space[key].tidy(asked[key]) for key in space}


def _distribution(dimension: Dimension):
    import optuna

    if dimension.choice is not None:
        return optuna.distributions.CategoricalDistribution(dimension.choice)
    if dimension.integers is not None:
        return optuna.distributions.IntDistribution(*dimension.integers)
    assert dimension.limits is not None
    return optuna.distributions.FloatDistribution(*dimension.limits, log=dimension.log)
