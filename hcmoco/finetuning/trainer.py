"""Train encoder and head, and keep the weights of the best validation so far."""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from hcmoco.data.sampler import Plan
from hcmoco.finetuning.config import FinetuneConfig
from hcmoco.finetuning.encoder_init import load_encoder_init
from hcmoco.models.lane_draws import LaneDraws
from hcmoco.models.vit.layer_rates import layer_rates
from hcmoco.models.weight_files import WeightsReport
from hcmoco.rng import make_rng
from hcmoco.tasks.base import Task, TaskBatch
from hcmoco.training import distributed
from hcmoco.training.checkpoint import TrainState
from hcmoco.training.precision import autocast
from hcmoco.training.trainer import Losses, Trainer


def make_model(config: FinetuneConfig, task: Task, *, load: bool) -> nn.Module:
    """Build encoder and head. Fresh weights are a function of the seed; the head's do not depend on `config.init`.

    Args:
        config: of the run.
        task: over the training data.
        load: whether to load `config.init`; False for a run that loads its own weights.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(make_rng(config.seed, "weights", 0).integers(2**63)))
        encoder = load_encoder_init(
            config.init, config.encoder, task.modality, imagenet_weights=config.imagenet_weights, load=load
        ).encoder
        torch.manual_seed(int(make_rng(config.seed, "weights", 1).integers(2**63)))
        model = task.make_model(encoder)
    if load and config.task.first_weights():
        task.load_first_weights(model)
    return model


def first_weights(config: FinetuneConfig, task: Task) -> WeightsReport:
    """Return what `config.task.first_weights` gives a fresh model.

    Raises:
        UserError: see `Task.load_first_weights`.
    """
    return task.load_first_weights(make_model(config, task, load=False))


def learning_rates(config: FinetuneConfig, model: nn.Module) -> dict[str, float]:
    """Return the learning rates of the encoder and of its layers relative to the head's, by name in the model."""
    layers = (
        layer_rates(model.get_submodule("encoder.trunk"), config.encoder_layer_decay)
        if config.encoder_layer_decay != 1
        else {}
    )
    return {
        "encoder": config.encoder_lr,
        **{f"encoder.trunk.{name}": config.encoder_lr * rate for name, rate in layers.items()},
    }


_Weights = tuple[int, dict[str, Tensor]]


def select_weights(config: FinetuneConfig, last: _Weights, best: _Weights) -> _Weights:
    """Return step and weights of the selected model: the best validation's, or the last if select=last or none was
    best.

    Args:
        last, best: steps and weights; the best's are empty where there was no validation.
    """
    return last if config.select == "last" or not best[1] else best


class Finetuning(Trainer[FinetuneConfig, TaskBatch]):
    """See `Trainer`.

    Args:
        load_init: whether to load `config.init`; False for a run that resumes from a state.

    Attributes:
        best: weights of the best validation; empty before the first.
        best_step: step of the best validation.
    """

    libraries = "hcmoco, timm and torchvision"

    def __init__(
        self,
        config: FinetuneConfig,
        task: Task,
        plan: Plan,
        identity: dict,
        device: torch.device,
        *,
        load_init: bool = True,
    ):
        model = make_model(config, task, load=load_init).to(device).to(memory_format=torch.channels_last).train()
        super().__init__(config, model, plan, identity, device, scales=learning_rates(config, model))
        self.task = task
        self.best: dict[str, Tensor] = {}
        self.best_step = 0

    def losses(self, batch: TaskBatch) -> Losses:
        """See `Trainer`. The terms are the task's."""
        config = self.config
        lanes = self.plan.lanes_of(distributed.rank(), distributed.world())
        drawing = LaneDraws(config.seed, self.step, lanes, self.plan.batch_size_per_lane, self.device).of("model")
        with drawing, autocast(self.device, config.train.precision):
            terms = self.task.losses(self.model, batch, self.device)
        return Losses(terms["loss"], {f"loss/{name}": term for name, term in terms.items() if name != "loss"})

    def summarize(self, means: dict[str, float]) -> tuple[dict[str, float], str]:
        """See `Trainer`. Adds the last score to the text."""
        numbers, text = super().summarize(means)
        return numbers, text + self.last_score(self.task.primary_metric)

    def record_validation(self, metrics: Mapping[str, float]) -> None:
        """See `Trainer`. Keeps the weights if the score is the best so far."""
        score = metrics[self.task.primary_metric]
        before = [scores[self.task.primary_metric] for _, scores in self.evals]
        best = max((value for value in before if value > -math.inf), default=-math.inf)
        super().record_validation(metrics)
        if not self.best or score > best:  # a score may be undefined (NaN), which is worse than any other
            self.best_step = self.step
            self.best = {name: value.detach().cpu().clone() for name, value in self.model.state_dict().items()}

    def select(self) -> int:
        """Give the model the selected weights, see `select_weights`. Returns the step that they are from."""
        step, weights = select_weights(self.config, (self.step, self.model.state_dict()), (self.best_step, self.best))
        if weights is self.best:
            self.model.load_state_dict(weights)
        return step

    def more_state(self) -> dict[str, Any]:
        return {"best": self.best, "history": {"evals": self.evals, "best_step": self.best_step}}

    def load_more_state(self, state: TrainState) -> None:
        super().load_more_state(state)
        self.best, self.best_step = state.best, state.history["best_step"]
