"""The pre-training: models, memory banks, and what a step computes."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor

from hcmoco.data.sampler import Plan
from hcmoco.data.schema import Batch
from hcmoco.data.transfer import send
from hcmoco.models.lane_draws import LaneDraws
from hcmoco.models.mmv import MMV
from hcmoco.models.multimodal import HCMoCo, MultiModalEncoders
from hcmoco.models.sync_batch_norm import synchronize_batch_norm
from hcmoco.objectives import LOCAL, MODALITIES, bank_state, load_bank_state, total, update_banks
from hcmoco.pretraining.banks import make_banks
from hcmoco.pretraining.concurrent_encoders import ConcurrentEncoders
from hcmoco.pretraining.config import PretrainConfig
from hcmoco.pretraining.global_batch import AllWorkers
from hcmoco.pretraining.losses import compute_terms, draw_negatives, embed
from hcmoco.pretraining.micro_batches import CachedEmbeddings, micro_batches
from hcmoco.pretraining.term_gradients import ask_for_gradients, gradient_norms
from hcmoco.pretraining.views import Views, to_device
from hcmoco.training import distributed
from hcmoco.training.checkpoint import TrainState
from hcmoco.training.lr_schedule import learning_rate
from hcmoco.training.optim_step import OptimStep
from hcmoco.training.precision import autocast
from hcmoco.training.trainer import Losses, Trainer


def make_model(config: PretrainConfig, *, load: bool = True) -> MultiModalEncoders:
    """Build the model that a run starts with.

    Args:
        load: whether to read the encoders' `init`.

    Raises:
        UserError: see `MultiModalEncoders`.
    """
    kind = MMV if config.objective.method == "mmv" else HCMoCo
    return kind(config.model, seed=config.seed, load=load)


class Pretraining(Trainer[PretrainConfig, Batch]):
    """See `Trainer`.

    Args:
        plan: which rows each step has; part of the run's identity.
        device: where the models live.
        lanes_here: lanes that this worker serves.
        load_init: whether to read the encoders' `init`; a run that resumes from a state brings its own weights.

    Attributes:
        history: probe results by moment, for the closing table.
        banks: modality -> its memory bank; empty where the objective has none.
        gradient_norms: of the terms of the last step before a small probe, see `term_gradients`.
    """

    model: MultiModalEncoders

    def __init__(
        self, config: PretrainConfig, plan: Plan, device: torch.device, lanes_here: int, load_init: bool = True
    ):
        model = _on_device(make_model(config, load=load_init), device)
        super().__init__(config, model, plan, {**config.identity(), "plan": plan.description}, device)
        self.lanes_here = lanes_here
        train = config.train
        # Micro-batches of a lane are the same on any number of workers, so their batch norms need no one else's rows.
        self.synchronized = train.global_batch and train.micro_rows is None
        if self.synchronized:
            synchronize_batch_norm(model)
        self._pool = ThreadPoolExecutor(1, "encoder") if train.side_by_side else None
        self.gradient_norms: dict[str, Tensor] = {}
        self.scope = AllWorkers(lanes_here) if train.global_batch else LOCAL
        self.banks = make_banks(
            config.objective,
            samples=plan.offsets[-1],
            width=config.model.embedding,
            seed=config.seed,
            device=device,
        )

    def start_stage2(self) -> None:
        """Begin stage 2: dense mappers with fresh weights; banks and encoders stay; the optimizer restarts if the
        config says so."""
        assert isinstance(self.model, HCMoCo), "a baseline has one stage"
        slots = self.optim_step.state_dict()
        self.model.add_dense_mappers()
        self.optim_step = OptimStep(_on_device(self.model, self.device), self.config.optim)
        if not self.config.optim.restart:
            self.optim_step.load_state_dict(slots)
        self.stage = 2

    def train_step(self, batch: Batch) -> dict[str, Tensor]:
        """See `Trainer`. The first step of stage 2 begins with `start_stage2`."""
        if self.step == self.config.stage2_start_step and self.stage == 1:
            self.start_stage2()
        return super().train_step(batch)

    def losses(self, batch: Batch) -> Losses:
        """See `Trainer`. Beside `loss/<term>` the values are `level/<g|d|s>`, `num_anchors/<term>` and
        `rows/<term>/<data set>`."""
        config = self.config
        rows = len(batch) // self.lanes_here
        parts = micro_batches(self.lanes_here, rows, config.train.micro_rows)
        cached = self._cached(batch, parts) if len(parts) > 1 else None
        views = self._views(batch, inputs=cached is None)
        lanes = self.plan.lanes_of(distributed.rank(), distributed.world())
        drawn = draw_negatives(
            config.objective, seed=config.seed, step=self.step, lanes=lanes, batch_size_per_lane=rows
        )
        draws = send(drawn, self.device)
        probed = config.probe.due(self.step + 1, self.plan.steps)
        embedded = cached.compute() if cached else None
        beside = ConcurrentEncoders(self._pool, self.model, views, self._autocast) if self._pool else None
        encoded = beside.encode() if beside else None
        with self._autocast():
            embedded = embedded or embed(self.model, views, stage=self.stage, encoded=encoded)
            if probed:
                ask_for_gradients(embedded)
            terms, embeddings = compute_terms(
                self.model,
                config.objective,
                views,
                self.banks,
                draws,
                stage=self.stage,
                embedded=embedded,
                scope=self.scope,
            )
        loss = total(terms.values, config.objective, "full" if self.stage == 2 else "sample")
        if probed:
            self.gradient_norms = gradient_norms(terms.values, config.objective, embedded)

        values = {}
        for level in ("g", "d", "s"):
            members = [value for name, value in terms.values.items() if name.startswith(f"{level}/")]
            if members:
                values[f"level/{level}"] = torch.stack(members).sum()
        values |= {f"loss/{name}": value for name, value in terms.values.items()}
        values |= {f"num_anchors/{name}": count for name, count in terms.counts.items()}
        used_TB = torch.stack(list(terms.samples.values()))
        for number, source in enumerate(self.plan.sources):
            count_T = (used_TB & (views.source_B == number)).sum(1)
            values |= {
                f"rows/{name}/{source.name}": count for name, count in zip(terms.samples, count_T.unbind(), strict=True)
            }
        return Losses(
            loss,
            values,
            after_step=lambda: self._update_banks(views.index_B, embeddings, views.present),
            after_backward=two_passes.backward if (two_passes := cached or beside) else None,
            meets_workers=views.collective,
        )

    def _autocast(self) -> AbstractContextManager:
        return autocast(self.device, self.config.train.precision)

    def _views(self, batch: Batch, rows: slice | None = None, *, inputs: bool = True) -> Views:
        """Return the batch, or some of its rows, on the device, with what the encoders' layers draw for these rows."""
        part = batch if rows is None else batch.part(rows)
        encode_absent = self.config.objective.release.encode_absent
        views = to_device(part, self.device, self.model, encode_absent=encode_absent, inputs=inputs)
        lanes = self.plan.lanes_of(distributed.rank(), distributed.world())
        draws = LaneDraws(self.config.seed, self.step, lanes, len(batch) // self.lanes_here, self.device)
        views.layers = draws if rows is None else draws.part(rows)
        views.collective = self.synchronized and distributed.world() > 1
        return views

    def _cached(self, batch: Batch, parts: list[slice]) -> CachedEmbeddings:
        return CachedEmbeddings(
            self.model,
            [partial(self._views, batch, rows) for rows in parts],
            stage=self.stage,
            context=self._autocast,
        )

    def learning_rate(self) -> float:
        """See `Trainer`. Each stage has a schedule of its own if `optim.restart`, else the run has one."""
        stages = self.config.stages
        if not self.config.optim.restart or self.config.stage2_start_step is None:
            return super().learning_rate()
        if self.stage == 2:
            return learning_rate(self.config.optim, self.step - stages.stage1_steps, stages.stage2_steps)
        return learning_rate(self.config.optim, self.step, stages.stage1_steps)

    def summarize(self, means: dict[str, float]) -> tuple[dict[str, float], str]:
        """See `Trainer`. Adds the stage, and the levels to the text."""
        numbers, text = super().summarize(means)
        levels = "  ".join(
            f"{level} {means[f'level/{level}']:.3f}" for level in ("g", "d", "s") if f"level/{level}" in means
        )
        return {**numbers, "stage": float(self.stage)}, f"stage {self.stage}  {text}  {levels}"

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
            {name: rows[:, :-1] for name, rows in by_name.items()},
            {name: rows[:, -1] > 0 for name, rows in by_name.items()},
            index,
        )

    def more_state(self) -> dict[str, Any]:
        return {"bank": bank_state(self.banks), "history": self.history}

    def prepare_stage(self, stage: Literal[1, 2]) -> None:
        if stage == 2 and self.stage == 1:
            self.start_stage2()

    def load_more_state(self, state: TrainState) -> None:
        load_bank_state(self.banks, state.bank)
        self.history = state.history


def _on_device(model: MultiModalEncoders, device: torch.device) -> MultiModalEncoders:
    model.to(device).to(memory_format=torch.channels_last)
    return model.train()
