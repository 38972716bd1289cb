"""A co-training in progress: encoders, mappers and head, banks, optimiser, and where it stands.

Shape suffixes: B rows of a step, K classes.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from hcmoco.cotraining.config import VersatilityConfig
from hcmoco.cotraining.encoder_init import begin
from hcmoco.cotraining.loader import LabelledBatch
from hcmoco.cotraining.model import CoTrained, parsing_loss
from hcmoco.data.sampler import Plan
from hcmoco.models.lane_draws import LaneDraws
from hcmoco.objectives import MODALITIES, Terms, bank_state, load_bank_state, new_bank, total, update_banks
from hcmoco.pretraining.losses import compute_terms, draw_negatives, encode, to_device
from hcmoco.rng import make_rng
from hcmoco.tasks.base import Result, send
from hcmoco.training.checkpoint import TrainState, check_identity
from hcmoco.training.flat_grads import FlatParameters
from hcmoco.training.optim import build_optimizer, learning_rate, set_learning_rate
from hcmoco.training.precision import autocast
from hcmoco.training.restore import capture, restore


class CoTraining:
    """Holds everything that a step changes; one process.

    Args:
        plan: which rows each step has.
        identity: what decides the result; a state of another run is refused.
        bank_rows: rows of the memory banks, if the objective has some.
        class_weights: 25 numbers, None counts all pixels alike.
        load_init: whether to read where the encoders start; a run that goes on from a state brings its own weights.

    Attributes:
        step: steps done.
        validations: (step, figures) of each score during training.
    """

    def __init__(
        self,
        config: VersatilityConfig,
        plan: Plan,
        identity: dict,
        device: torch.device,
        *,
        bank_rows: int,
        class_weights: Sequence[float] | None,
        load_init: bool = True,
    ):
        self.config, self.plan, self.identity, self.device = config, plan, identity, device
        self.objective = config.weights
        self.full = bool(self.objective.lambda_d or self.objective.lambda_s)
        self.contrasts = self.full or bool(self.objective.lambda_g)
        self.step, self.tracking_run = 0, ""
        self.validations: list[tuple[int, dict[str, float]]] = []
        self.weights_K = (
            None if class_weights is None else torch.tensor(class_weights, dtype=torch.float32, device=device)
        )
        self.model = CoTrained(config.model, seed=config.seed)
        if load_init:
            begin(self.model.encoders, config.init)
        self.model.to(device).to(memory_format=torch.channels_last).train()
        self.banks = {}
        if self.contrasts and self.objective.needs_bank:
            for number, name in enumerate(MODALITIES):
                draws = make_rng(config.seed, "bank", number)
                self.banks[name] = new_bank(self.objective, bank_rows, config.model.embedding, draws, device)
        self.flat = FlatParameters(self.model)
        self.optimizer = build_optimizer(config.optim, self.flat)

    def advance(self, batch: LabelledBatch) -> dict[str, Tensor]:
        """One step. Returns what it measured, as scalars on the device: `loss`, `loss/parsing`, `loss/<term>`, `grad_norm`, `lr`.

        All rows pass the encoders whatever the method, so that batch norm sees the same in each.
        """
        config = self.config
        if batch.step != self.step:
            raise RuntimeError(f"the plan says step {self.step}, the batch is of step {batch.step}")
        views = to_device(batch.batch, self.device, self.model.encoders)
        parts_BSS, labeled_B = send(batch.parts_BSS, self.device).long(), send(batch.labeled, self.device)
        lanes, rows = range(self.plan.lanes), self.plan.batch_size_per_lane
        views.layers = LaneDraws(config.seed, self.step, lanes, rows, self.device)
        drawn = draw_negatives(self.objective, seed=config.seed, step=self.step, lanes=lanes, batch_size_per_lane=rows)
        terms: Terms | None = None
        embeddings: dict[str, Tensor] = {}
        with autocast(self.device, config.train.precision):
            encoded = encode(self.model.encoders, views)
            if self.contrasts:
                draws = torch.from_numpy(drawn).to(self.device)
                terms, embeddings = compute_terms(
                    self.model.encoders, self.objective, views, self.banks, draws, full=self.full, encoded=encoded
                )
            parsing = parsing_loss(
                self.model, encoded[0], views, config.supervised, parts_BSS, labeled_B, self.weights_K
            )
        loss = config.task_weight * parsing
        if terms is not None:
            loss = loss + total(terms.values, self.objective, "full" if self.full else "sample")

        rate = learning_rate(config.optim, self.step, self.plan.steps)
        set_learning_rate(self.optimizer, rate)
        self.flat.gradients.zero_()
        loss.backward()
        norm = self.flat.clip(config.optim.clip_norm or float("inf"))
        self.optimizer.step()
        if self.banks:
            update_banks(
                self.objective, self.banks, {k: v.detach() for k, v in embeddings.items()}, views.present, views.index_B
            )
        self.step += 1
        values = {
            "loss": loss,
            "loss/parsing": parsing,
            "grad_norm": norm,
            "lr": torch.tensor(rate, device=self.device),
        }
        return values | {f"loss/{name}": value for name, value in (terms.values if terms else {}).items()}

    def described(self, means: dict[str, float]) -> tuple[dict[str, float], str]:
        """For a report: passes over each data set, and the line of progress."""
        scores = ""
        if self.validations:
            step, figures = self.validations[-1]
            scores = f"  {self.config.main} {figures[self.config.main]:.3f} at step {step}"
        passes = {f"passes/{name}": value for name, value in self.plan.drawn(self.step).items()}
        return passes, f"loss {means['loss']:.3f}  parsing {means['loss/parsing']:.3f}{scores}"

    def note(self, result: Result) -> None:
        """Takes a score of the model as it is."""
        self.validations.append((self.step, dict(result.figures)))

    def state(self) -> TrainState:
        """Everything that a resumed run needs. UserError if a weight is no longer finite: a state is good or it is not kept."""
        return capture(
            self.model,
            self.optimizer,
            self.flat,
            step=self.step,
            full=self.full,
            identity=self.identity,
            bank=bank_state(self.banks),
            tracking_run=self.tracking_run,
            history={"validations": self.validations},
        )

    def load(self, state: TrainState, where: str) -> None:
        """Goes on from `state`. UserError, naming the difference, if it was trained as something else."""
        check_identity(state.identity, self.identity, where)
        restore(state, self.model, self.optimizer, self.flat, where=where, libraries="hcmoco and timm")
        load_bank_state(self.banks, state.bank)
        self.step, self.tracking_run = state.step, state.tracking_run
        self.validations = [(int(step), figures) for step, figures in state.history["validations"]]
