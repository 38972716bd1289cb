"""A fine-tuning in progress: model, optimiser, the chosen weights so far, and where it stands."""

import math

import torch
from torch import Tensor, nn

from hcmoco.data.sampler import Plan
from hcmoco.finetuning.config import FinetuneConfig
from hcmoco.finetuning.encoder_init import start
from hcmoco.models.encoders import Encoder
from hcmoco.models.lane_draws import LaneDraws
from hcmoco.rng import make_rng
from hcmoco.tasks.base import Result, Task, TaskBatch
from hcmoco.training import distributed
from hcmoco.training.checkpoint import TrainState, check_identity
from hcmoco.training.flat_grads import FlatParameters
from hcmoco.training.optim import build_optimizer, learning_rate, set_learning_rate
from hcmoco.training.precision import autocast
from hcmoco.training.restore import capture, restore


def make_model(config: FinetuneConfig, task: Task, *, load: bool) -> nn.Module:
    """Encoder and head; fresh weights are a function of the seed, and the head's do not depend on where the encoder starts.

    Args:
        load: whether to read `config.init`; not for a run that brings its own weights.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(make_rng(config.seed, "weights", 0).integers(2**63)))
        encoder: Encoder = start(
            config.init, config.encoder, task.modality, imagenet_weights=config.imagenet_weights, load=load
        ).encoder
        torch.manual_seed(int(make_rng(config.seed, "weights", 1).integers(2**63)))
        return task.make_model(encoder)


_Weights = tuple[int, dict[str, Tensor]]


def chosen(config: FinetuneConfig, last: _Weights, best: _Weights) -> _Weights:
    """The step that the chosen model is from, and its weights: the best validation's, unless the last is asked for or there was none.

    Args:
        last, best: steps and weights; the best's are empty where there was no validation.
    """
    return last if config.select == "last" or not best[1] else best


class Finetuning:
    """Holds everything that a step changes. The same object on every worker holds the same values after every step.

    Args:
        identity: what decides the result; a state of another run is refused.
        steps: length of the run.
        load_init: whether to read where the encoder starts; a run that goes on from a state brings its own weights.

    Attributes:
        step: steps done.
        validations: (step, figures) of each evaluation during training.
        best: weights of the best validation, empty while there is none; `best_step` is where it was.
    """

    def __init__(
        self,
        config: FinetuneConfig,
        task: Task,
        plan: Plan,
        identity: dict,
        device: torch.device,
        *,
        steps: int,
        load_init: bool = True,
    ):
        self.config, self.task, self.plan, self.device, self.steps = config, task, plan, device, steps
        self.identity = identity
        self.step, self.tracking_run = 0, ""
        self.validations: list[tuple[int, dict[str, float]]] = []
        self.best: dict[str, Tensor] = {}
        self.best_step = 0
        self.model = make_model(config, task, load=load_init).to(device).to(memory_format=torch.channels_last).train()
        self.flat = FlatParameters(self.model)
        self.optimizer = build_optimizer(config.optim, self.flat, {"encoder": config.encoder_lr})

    def advance(self, batch: TaskBatch) -> dict[str, Tensor]:
        """One step. Returns what it measured, as scalars on the device: `loss`, `loss/<term>`, `grad_norm`, `lr`."""
        config = self.config
        lanes = self.plan.lanes_of(distributed.rank(), distributed.world())
        drawing = LaneDraws(config.seed, self.step, lanes, self.plan.batch_size_per_lane, self.device).of("model")
        with drawing, autocast(self.device, config.train.precision):
            terms = self.task.losses(self.model, batch, self.device)
        rate = learning_rate(config.optim, self.step, self.steps)
        set_learning_rate(self.optimizer, rate)
        self.flat.gradients.zero_()
        terms["loss"].backward()
        distributed.average(self.flat.gradients, self.model)
        norm = self.flat.clip(config.optim.clip_norm or float("inf"))
        self.optimizer.step()
        self.step += 1
        values = {name if name == "loss" else f"loss/{name}": value for name, value in terms.items()}
        return {**values, "grad_norm": norm, "lr": torch.tensor(rate, device=self.device)}

    def described(self, means: dict[str, float]) -> tuple[dict[str, float], str]:
        """For a report: passes over the labelled rows, and the line of progress."""
        (passes,) = self.plan.drawn(self.step).values()
        scores = ""
        if self.validations:
            step, figures = self.validations[-1]
            scores = f"  {self.task.main} {figures[self.task.main]:.3f} at step {step}"
        return {"passes": passes}, f"loss {means['loss']:.3f}{scores}"

    def note(self, result: Result) -> None:
        """Takes a validation of the model as it is."""
        score = result.figures[self.task.main]
        best = max(
            (figures[self.task.main] for _, figures in self.validations if figures[self.task.main] > -math.inf),
            default=-math.inf,
        )
        self.validations.append((self.step, dict(result.figures)))
        if not self.best or score > best:  # a score may be undefined (NaN), which is worse than any other
            self.best_step = self.step
            self.best = {name: value.detach().cpu().clone() for name, value in self.model.state_dict().items()}

    def choose(self) -> int:
        """Makes the model the chosen one: that of the best validation, unless the last is asked for. Returns the step that it is from."""
        step, weights = chosen(self.config, (self.step, self.model.state_dict()), (self.best_step, self.best))
        if weights is self.best:
            self.model.load_state_dict(weights)
        return step

    def state(self) -> TrainState:
        """Everything that a resumed run needs. UserError if a weight is no longer finite: a state is good or it is not kept."""
        return capture(
            self.model,
            self.optimizer,
            self.flat,
            step=self.step,
            full=False,
            identity=self.identity,
            best=self.best,
            tracking_run=self.tracking_run,
            history={"validations": self.validations, "best_step": self.best_step},
        )

    def load(self, state: TrainState, where: str) -> None:
        """Goes on from `state`. UserError, naming the difference, if it was trained as something else."""
        check_identity(state.identity, self.identity, where)
        restore(state, self.model, self.optimizer, self.flat, where=where, libraries="hcmoco, timm and torchvision")
        self.step, self.tracking_run, self.best = state.step, state.tracking_run, state.best
        self.validations = [(int(step), figures) for step, figures in state.history["validations"]]
        self.best_step = state.history["best_step"]
