"""A pre-training in progress: models, banks, optimiser and where it stands."""

import torch
from torch import Tensor

from hcmoco.data.sampler import Plan
from hcmoco.data.schema import Batch
from hcmoco.models.lane_draws import LaneDraws
from hcmoco.models.mmv import MMV
from hcmoco.models.multimodal import HCMoCo
from hcmoco.objectives import MODALITIES, bank_state, load_bank_state, new_bank, total, update_banks
from hcmoco.pretraining.config import PretrainConfig
from hcmoco.pretraining.losses import compute_terms, draw_negatives, to_device
from hcmoco.rng import make_rng
from hcmoco.training import distributed
from hcmoco.training.checkpoint import TrainState, check_identity
from hcmoco.training.flat_grads import FlatParameters
from hcmoco.training.optim import (
    build_optimizer,
    learning_rate,
    load_optimizer_tensors,
    optimizer_tensors,
    set_learning_rate,
)
from hcmoco.training.precision import autocast
from hcmoco.training.restore import capture, restore


def make_model(config: PretrainConfig, *, load: bool = True) -> HCMoCo:
    """The model of a run as it begins. UserError as `HCMoCo`."""
    kind = MMV if config.objective.method == "mmv" else HCMoCo
    return kind(config.model, seed=config.seed, load=load)


class Pretraining:
    """Holds everything that a step changes. The same object on every worker holds the same values after every step.

    Args:
        plan: which rows each step has; part of the run's identity.
        device: where the models live.
        lanes_here: lanes that this worker serves.
        load_init: whether to read the encoders' `init`; a run that goes on from a state brings its own weights.

    Attributes:
        step: steps done.
        full: whether stage 2 has begun.
        history: probe results by moment, for the closing table.
    """

    def __init__(
        self, config: PretrainConfig, plan: Plan, device: torch.device, lanes_here: int, load_init: bool = True
    ):
        self.config, self.plan, self.device, self.lanes_here = config, plan, device, lanes_here
        self.identity = {**config.identity(), "plan": plan.description}
        self.step, self.full, self.tracking_run = 0, False, ""
        self.history: dict[str, dict] = {}
        self.model = self._place(make_model(config, load=load_init))
        rows = plan.offsets[-1]
        self.banks = {}
        if config.objective.needs_bank:
            for number, name in enumerate(MODALITIES):
                draws = make_rng(config.seed, "bank", number)
                self.banks[name] = new_bank(config.objective, rows, config.model.embedding, draws, device)
        self._begin_optimizer()

    def _place(self, model: HCMoCo) -> HCMoCo:
        model.to(self.device).to(memory_format=torch.channels_last)
        return model.train()

    def _begin_optimizer(self) -> None:
        self.flat = FlatParameters(self.model)
        self.optimizer = build_optimizer(self.config.optim, self.flat)

    def start_stage2(self) -> None:
        """Begins stage 2: dense mappers with fresh weights; banks and encoders go on; the optimiser restarts if the config says so."""
        slots = optimizer_tensors(self.optimizer, self.flat)
        self.model.add_dense_mappers()
        self._place(self.model)
        self._begin_optimizer()
        if not self.config.optim.restart:
            load_optimizer_tensors(self.optimizer, self.flat, slots)
        self.full = True

    def advance(self, batch: Batch) -> dict[str, Tensor]:
        """One step. Returns what it measured, as scalars on the device: `loss`, `level/<g|d|s>`, `loss/<term>`, `entered/<term>`,
        `rows/<term>/<data set>`, `grad_norm`, `lr`."""
        config = self.config
        if batch.step != self.step:
            raise RuntimeError(f"the plan says step {self.step}, the batch is of step {batch.step}")
        views = to_device(batch, self.device, self.model, encode_absent=config.objective.encode_absent)
        lanes = self.plan.lanes_of(distributed.rank(), distributed.world())
        rows = len(batch) // self.lanes_here
        views.layers = LaneDraws(config.seed, self.step, lanes, rows, self.device)
        drawn = draw_negatives(
            config.objective, seed=config.seed, step=self.step, lanes=lanes, batch_size_per_lane=rows
        )
        draws = torch.from_numpy(drawn).to(self.device)
        with autocast(self.device, config.train.precision):
            terms, embeddings = compute_terms(self.model, config.objective, views, self.banks, draws, full=self.full)
        loss = total(terms.values, config.objective, "full" if self.full else "sample")

        rate = self._learning_rate()
        set_learning_rate(self.optimizer, rate)
        self.flat.gradients.zero_()
        if loss.requires_grad:  # not where no row of this worker has any modality
            loss.backward()
        distributed.average(self.flat.gradients, self.model)
        norm = self.flat.clip(config.optim.clip_norm or float("inf"))
        self.optimizer.step()
        self._update_banks(views.index_B, embeddings, views.present)
        self.step += 1

        values = {"loss": loss, "grad_norm": norm, "lr": torch.tensor(rate, device=self.device)}
        for level in ("g", "d", "s"):
            members = [value for name, value in terms.values.items() if name.startswith(f"{level}/")]
            if members:
                values[f"level/{level}"] = torch.stack(members).sum()
        values |= {f"loss/{name}": value for name, value in terms.values.items()}
        values |= {f"entered/{name}": count for name, count in terms.counts.items()}
        used_TB = torch.stack(list(terms.samples.values()))
        for number, source in enumerate(self.plan.sources):
            count_T = (used_TB & (views.source_B == number)).sum(1)
            values |= {
                f"rows/{name}/{source.name}": count for name, count in zip(terms.samples, count_T.unbind(), strict=True)
            }
        return values

    def described(self, means: dict[str, float]) -> tuple[dict[str, float], str]:
        """For a report: passes over each data set and the stage, and the line of progress."""
        passes = {f"passes/{name}": value for name, value in self.plan.drawn(self.step).items()}
        levels = "  ".join(
            f"{level} {means[f'level/{level}']:.3f}" for level in ("g", "d", "s") if f"level/{level}" in means
        )
        return {**passes, "stage": 1.0 + self.full}, f"stage {1 + self.full}  loss {means['loss']:.3f}  {levels}"

    def _learning_rate(self) -> float:
        stages = self.config.stages
        if not self.config.optim.restart or self.config.stage2_start_step is None:
            return learning_rate(self.config.optim, self.step, stages.steps)
        begun = stages.sample if self.full else 0
        return learning_rate(self.config.optim, self.step - begun, stages.full if self.full else stages.sample)

    def _update_banks(self, index_B: Tensor, embeddings: dict[str, Tensor], present: dict[str, Tensor]) -> None:
        if not self.banks:
            return
        here = torch.cat(
            [torch.cat([embeddings[name].detach(), present[name][:, None].float()], 1) for name in MODALITIES], 1
        )
        everyone = distributed.gather_lanes(here, self.lanes_here).unflatten(1, (len(MODALITIES), -1))
        index = distributed.gather_lanes(index_B, self.lanes_here)
        by_name = {name: everyone[:, number] for number, name in enumerate(MODALITIES)}
        update_banks(
            self.config.objective,
            self.banks,
            {name: each[:, :-1] for name, each in by_name.items()},
            {name: each[:, -1] > 0 for name, each in by_name.items()},
            index,
        )

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
            history=self.history,
        )

    def load(self, state: TrainState, where: str) -> None:
        """Goes on from `state`. UserError, naming the difference, if it was trained as something else, or where its tensors are not
        those of this model (another release of timm may name them otherwise)."""
        check_identity(state.identity, self.identity, where)
        if state.full:
            self.start_stage2()
        self.optimizer = build_optimizer(self.config.optim, self.flat)
        restore(state, self.model, self.optimizer, self.flat, where=where, libraries="hcmoco and timm")
        load_bank_state(self.banks, state.bank)
        self.step, self.full, self.tracking_run, self.history = (
            state.step,
            state.full,
            state.tracking_run,
            state.history,
        )
