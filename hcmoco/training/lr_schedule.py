"""The learning rate as a pure function of the step."""

import math

from hcmoco.training.optim import OptimConfig


def learning_rate(config: OptimConfig, step: int, steps: int) -> float:
    """Return the learning rate of a step: linear warm-up, then from the peak down.

    cosine falls to `final_lr` of the peak. poly is (1 - progress)^power (Chen et al., DeepLab). multistep multiplies by
    `gamma` at each of `milestones`, which are shares of the whole schedule, warm-up included.

    Args:
        step: 0-based.
        steps: length of the schedule.
    """
    if step < config.warmup_steps:
        return config.lr * (step + 1) / config.warmup_steps
    if config.schedule == "multistep":
        return config.lr * config.gamma ** sum(step >= share * steps for share in config.milestones)
    progress = (step - config.warmup_steps) / max(1, steps - config.warmup_steps)
    if config.schedule == "poly":
        return config.lr * (1 - progress) ** config.power
    return config.lr * (config.final_lr + (1 - config.final_lr) * 0.5 * (1 + math.cos(math.pi * progress)))
