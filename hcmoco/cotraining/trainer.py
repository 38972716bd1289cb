"""The co-training: encoders, mappers and head, memory banks, and what a step computes.

Shape suffixes: B rows of a step, K classes.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from hcmoco.cotraining.config import CoTrainingConfig
from hcmoco.cotraining.encoder_init import load_encoders_init
from hcmoco.cotraining.loader import LabeledBatch
from hcmoco.cotraining.model import CoTrained, parsing_loss
from hcmoco.data.sampler import Plan
from hcmoco.data.transfer import send
from hcmoco.models.lane_draws import LaneDraws
from hcmoco.objectives import Terms, bank_state, load_bank_state, total, update_banks
from hcmoco.pretraining.banks import make_banks
from hcmoco.pretraining.losses import compute_terms, draw_negatives, embed, encode
from hcmoco.pretraining.views import to_device
from hcmoco.training.checkpoint import TrainState
from hcmoco.training.precision import autocast
from hcmoco.training.trainer import Losses, Trainer


class CoTraining(Trainer[CoTrainingConfig, LabeledBatch]):
    """See `Trainer`; one process. The stage is 2 where the method has dense and sparse terms, else 1.

    Args:
        samples: people that the data sets hold; the memory banks, if the objective has some, number them.
        class_weights: 25 numbers, None counts all pixels alike.
        load_init: whether to read where the encoders start; a run that resumes from a state brings its own weights.
    """

    model: CoTrained

    def __init__(
        self,
        config: CoTrainingConfig,
        plan: Plan,
        identity: dict,
        device: torch.device,
        *,
        samples: int,
        class_weights: Sequence[float] | None,
        load_init: bool = True,
    ):
        model = CoTrained(config.model, seed=config.seed)
        if load_init:
            load_encoders_init(model.encoders, config.init)
        model.to(device).to(memory_format=torch.channels_last).train()
        super().__init__(config, model, plan, identity, device)
        self.objective = config.weights
        self.stage = 2 if self.objective.lambda_d or self.objective.lambda_s else 1
        self.contrasts = self.stage == 2 or bool(self.objective.lambda_g)
        self.weights_K = (
            None if class_weights is None else torch.tensor(class_weights, dtype=torch.float32, device=device)
        )
        self.banks = (
            make_banks(self.objective, samples=samples, width=config.model.embedding, seed=config.seed, device=device)
            if self.contrasts
            else {}
        )

    def losses(self, batch: LabeledBatch) -> Losses:
        """See `Trainer`. The terms are `loss/parsing` and those of the objective.

        All rows pass the encoders whatever the method, so that batch norm sees the same in each.
        """
        config = self.config
        views = to_device(batch.batch, self.device, self.model.encoders)
        parts_BSS = send(batch.parts_BSS, self.device).long()
        lanes, rows = range(self.plan.lanes), self.plan.batch_size_per_lane
        views.layers = LaneDraws(config.seed, self.step, lanes, rows, self.device)
        drawn = draw_negatives(self.objective, seed=config.seed, step=self.step, lanes=lanes, batch_size_per_lane=rows)
        terms: Terms | None = None
        embeddings: dict[str, Tensor] = {}
        with autocast(self.device, config.train.precision):
            encoded = encode(self.model.encoders, views)
            if self.contrasts:
                draws = send(drawn, self.device)
                found = self.model.with_background(
                    embed(self.model.encoders, views, stage=self.stage, encoded=encoded),
                    config.objective.num_anchors,
                    config.num_background_anchors,
                )
                terms, embeddings = compute_terms(
                    self.model.encoders, self.objective, views, self.banks, draws, stage=self.stage, embedded=found
                )
            parsing = parsing_loss(
                self.model, encoded[0], views, config.supervised, parts_BSS, batch.labeled, self.weights_K
            )
        loss = config.task_weight * parsing
        if terms is not None:
            loss = loss + total(terms.values, self.objective, "full" if self.stage == 2 else "sample")
        values = {f"loss/{name}": value for name, value in (terms.values if terms else {}).items()}

        def update() -> None:
            if self.banks:
                seen = {name: embedding.detach() for name, embedding in embeddings.items()}
                update_banks(self.objective, self.banks, seen, views.present, views.index_B)

        return Losses(loss, {"loss/parsing": parsing, **values}, update)

    def summarize(self, means: dict[str, float]) -> tuple[dict[str, float], str]:
        """See `Trainer`. Adds the parsing loss and the last score to the text."""
        numbers, text = super().summarize(means)
        return numbers, f"{text}  parsing {means['loss/parsing']:.3f}{self.last_score(self.config.primary_metric)}"

    def more_state(self) -> dict[str, Any]:
        return {**super().more_state(), "bank": bank_state(self.banks)}

    def load_more_state(self, state: TrainState) -> None:
        super().load_more_state(state)
        load_bank_state(self.banks, state.bank)
