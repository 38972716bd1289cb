"""What a training in progress holds and what one step of it does; each training says what its losses are."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, Literal, Protocol, TypeVar

import torch
from torch import Tensor, nn

from hcmoco.data.sampler import Plan
from hcmoco.models.compiled import begin_step
from hcmoco.training.agreement import Agreement
from hcmoco.training.checkpoint import TrainState, capture, check_resumes, restore
from hcmoco.training.compile import compile_encoders
from hcmoco.training.config import TrainConfig
from hcmoco.training.lr_schedule import learning_rate
from hcmoco.training.optim import OptimConfig
from hcmoco.training.optim_step import AfterBackward, OptimStep


class TrainedConfig(Protocol):
    """What the configs of all trainings have."""

    @property
    def output_dir(self) -> str: ...
    @property
    def seed(self) -> int: ...
    @property
    def optim(self) -> OptimConfig: ...
    @property
    def train(self) -> TrainConfig: ...


class StepBatch(Protocol):
    """A worker's rows of one step."""

    def __len__(self) -> int: ...


ConfigT = TypeVar("ConfigT", bound=TrainedConfig)
BatchT_contra = TypeVar("BatchT_contra", bound=StepBatch, contravariant=True)


@dataclass
class Losses:
    """What one batch gives.

    Attributes:
        loss: 0-d, what is minimized.
        values: name -> 0-d; what is reported beside the loss, `loss/<term>` and others, the same names in every step of
            a stage.
        after_step: called once the weights have been updated.
        after_backward: called after the backward pass of `loss`; adds to the gradients what that does not reach, see
            `OptimStep.step`.
        meets_workers: whether the layers meet the other workers in the backward pass. Their gradients are then sent
            after it, so that these exchanges come in the same order on every worker.
    """

    loss: Tensor
    values: dict[str, Tensor]
    after_step: Callable[[], None] | None = None
    after_backward: AfterBackward | None = None
    meets_workers: bool = False


class Trainer(ABC, Generic[ConfigT, BatchT_contra]):
    """Everything that a step changes. The same object on every worker holds the same values after every step.

    Args:
        model: on `device`, in training mode.
        plan: which rows each step has.
        identity: what decides the result; a state of another run is refused.
        scales: name of a module of the model -> its learning rate relative to the others', see `OptimStep`.

    Raises:
        UserError: `train.compile` is set, and the encoders cannot be compiled here.

    Attributes:
        step: steps done.
        stage: 2 in the second stage of a pre-training, and where a co-training has dense and sparse terms; else 1.
        tracking_run: id of the run in the tracking store, or "".
        history: JSON values for the closing report; kept in the train state.
        evals: (step, metrics) of each evaluation during training.
        leaving: says whether this worker has to end soon; asked once a step.
        agreement: whether any worker had to, which all of them know after the same step.
    """

    libraries: ClassVar[str] = "hcmoco and timm"
    """Whose versions decide how weights are named."""

    def __init__(
        self,
        config: ConfigT,
        model: nn.Module,
        plan: Plan,
        identity: dict,
        device: torch.device,
        *,
        scales: Mapping[str, float] | None = None,
    ):
        self.config, self.plan, self.identity, self.device = config, plan, identity, device
        self.step, self.tracking_run = 0, ""
        self.stage: Literal[1, 2] = 1
        self.history: dict[str, Any] = {}
        self.evals: list[tuple[int, dict[str, float]]] = []
        self.model = model
        if config.train.compile:
            compile_encoders(model, device, graphs=config.train.compile == "graphs")
        self.optim_step = OptimStep(model, config.optim, scales)
        self.leaving: Callable[[], bool] = lambda: False
        self.agreement = Agreement()

    @abstractmethod
    def losses(self, batch: BatchT_contra) -> Losses:
        """Compute what the step minimizes and reports; the gradient is the caller's."""

    def learning_rate(self) -> float:
        """Return the learning rate of the next step."""
        return learning_rate(self.config.optim, self.step, self.plan.steps)

    def train_step(self, batch: BatchT_contra) -> dict[str, Tensor]:
        """Do one step.

        Returns:
            What it measured, 0-d on the device: `loss`, `grad_norm`, `lr`, and the values of `losses`.

        Raises:
            RuntimeError: the batch is of another step.
        """
        of_step = getattr(batch, "step", self.step)
        if of_step != self.step:
            raise RuntimeError(f"the plan says step {self.step}, the batch is of step {of_step}")
        if self.config.train.compile == "graphs":
            begin_step()
        losses = self.losses(batch)
        rate = self.learning_rate()
        norm = self.optim_step.step(
            losses.loss,
            rate,
            losses.after_backward,
            flag=float(self.leaving()),
            overlap=not losses.meets_workers,
        )
        self.agreement.take(self.optim_step.mean_flag)
        if losses.after_step:
            losses.after_step()
        self.step += 1
        measured = {"loss": losses.loss, "grad_norm": norm, "lr": torch.full((), rate, device=self.device)}
        return measured | losses.values

    def summarize(self, means: dict[str, float]) -> tuple[dict[str, float], str]:
        """Return what a report adds to the means over its steps: `epochs/<data set>` and others, and the text of the
        progress line."""
        return {
            f"epochs/{name}": value for name, value in self.plan.epochs_at(self.step).items()
        }, f"loss {means['loss']:.3f}"

    def record_validation(self, metrics: Mapping[str, float]) -> None:
        """Take the scores of the model as it is."""
        self.evals.append((self.step, dict(metrics)))

    def last_score(self, name: str) -> str:
        """Return the metric `name` of the last evaluation for the progress line, "" before the first."""
        if not self.evals:
            return ""
        step, metrics = self.evals[-1]
        return f"  {name} {metrics[name]:.3f} at step {step}"

    def state_dict(self) -> TrainState:
        """Return everything that a resumed run needs.

        Raises:
            UserError: a weight is no longer finite.
        """
        return capture(
            self.model,
            self.optim_step,
            step=self.step,
            stage=self.stage,
            identity=self.identity,
            tracking_run=self.tracking_run,
            **self.more_state(),
        )

    def more_state(self) -> dict[str, Any]:
        """Return the fields of the train state that not all trainings have: `bank`, `best`, `history`."""
        return {"history": {"evals": self.evals}}

    def load_state_dict(self, state: TrainState, where: str) -> None:
        """Resume from `state`.

        Args:
            where: the run's folder, for messages.

        Raises:
            UserError: it is of another run, the difference being named, or its tensors are not those of this model.
        """
        check_resumes(self.config, state, self.identity, where)
        self.prepare_stage(state.stage)
        restore(state, self.model, self.optim_step, where=where, libraries=self.libraries)
        self.step, self.stage, self.tracking_run = state.step, state.stage, state.tracking_run
        self.load_more_state(state)

    def prepare_stage(self, stage: Literal[1, 2]) -> None:
        """Give the model the modules of `stage`, before its weights are loaded."""

    def load_more_state(self, state: TrainState) -> None:
        """Take over what `more_state` returned."""
        self.evals = [(int(step), metrics) for step, metrics in state.history["evals"]]
