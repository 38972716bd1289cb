"""Settings of a fine-tuning: the task, the labels, the encoder's first weights, and the length of the training."""

import math
from typing import Any, ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from hcmoco.config import FREE, Config
from hcmoco.finetuning.label_subset import LabelsConfig
from hcmoco.models.encoders import EncoderConfig
from hcmoco.tasks.base import AnyTaskConfig
from hcmoco.training.config import SourceConfig, TrainConfig
from hcmoco.training.optim import OptimConfig


class TaskDataConfig(Config):
    """The data sets. Validation rows are taken from `train`; `test` is for testing."""

    train: SourceConfig
    test: SourceConfig


class FinetuneConfig(LabelsConfig):
    """A fine-tuning run.

    `init` is not part of the config's identity; the digest of the weights is part of the run's, see
    `ResolvedRun.identity`. Workers, threads and `eval_batch_size` change the result by rounding, several workers also
    by batch norm's statistics.
    """

    renamed: ClassVar = {"evaluation_rows": "eval_batch_size", "validations": "num_evals", "out": "output_dir"}

    name: str = Field("finetune", pattern=r"^[\w.-]+$", description="what the run is called", json_schema_extra=FREE)
    output_dir: str = Field(
        min_length=1,
        description="folder or URI of the run; a relative one lies under the run's home",
        json_schema_extra=FREE,
    )
    seed: int = Field(
        0, ge=0, description="of everything that is drawn: labeled rows, the head's weights, order, augmentation"
    )
    task: AnyTaskConfig
    init: str = Field(
        min_length=1,
        description="where the encoder starts: scratch, imagenet, a folder of pretrain.py (a run or its export), or a "
        "weights file",
        json_schema_extra=FREE,
    )
    imagenet_weights: str | None = Field(
        None, description="file for init=imagenet; null: timm's, over the network", json_schema_extra=FREE
    )
    encoder: EncoderConfig = EncoderConfig()
    data: TaskDataConfig = Field(json_schema_extra=FREE)  # the digests of its rows decide
    steps: int | None = Field(None, ge=1, description="length of the training; the same for every share of the labels")
    epochs: float | None = Field(
        None, gt=0, allow_inf_nan=False, description="length in passes over the labeled rows, instead of steps"
    )
    min_steps: int = Field(1, ge=1, description="with `epochs`: at least this many steps, for few labels")
    num_evals: int = Field(
        10, ge=1, description="times that the model is scored during training, evenly spaced, the last at the end"
    )
    select: Literal["last", "validation", "test"] = Field(
        "validation",
        description="which model is kept: the last, the best on the validation rows, or (the paper's habit) the best "
        "on test",
    )
    eval_batch_size: int = Field(
        32, ge=1, description="rows that are predicted together in an evaluation", json_schema_extra=FREE
    )
    optim: OptimConfig = OptimConfig()
    encoder_lr: float = Field(
        1.0, ge=0, allow_inf_nan=False, description="the encoder's learning rate relative to the head's"
    )
    encoder_layer_decay: float = Field(
        1.0,
        gt=0,
        le=1,
        allow_inf_nan=False,
        description="of a plain ViT: each block's learning rate relative to the next one's; the last block and the "
        "pyramid have the encoder's. 1: all alike. Source: Bao et al., 2022, BEiT, and ViTDet, which has 0.7 to 0.9",
    )
    train: TrainConfig

    def identity(self) -> dict[str, Any]:
        """See `Config.identity`. A run without layer-wise rates has the identity that it had before there were any."""
        named = super().identity()
        if self.encoder_layer_decay == 1:
            del named["encoder_layer_decay"]
        return named

    @field_validator("encoder")
    @classmethod
    def _one_init(cls, encoder: EncoderConfig) -> EncoderConfig:
        if encoder.init != "scratch":
            raise ValueError(f"encoder.init = {encoder.init!r}: say where the encoder starts with the key init")
        return encoder

    @model_validator(mode="after")
    def _consistent(self) -> "FinetuneConfig":
        if (self.steps is None) == (self.epochs is None):
            raise ValueError(
                f"steps = {self.steps} and epochs = {self.epochs}: give one of them, and set the other to null"
            )
        rows = self.train.lanes // self.train.max_workers * self.train.batch_size_per_lane
        size = getattr(self.task, "size", 64)
        if rows == 1 and size < 64:
            raise ValueError(
                f"task.size = {size} with one row of a step on a worker leaves batch norm one value at stride 32; "
                "raise train.batch_size_per_lane, or set task.size=64"
            )
        if self.task.first_weights() and self.init != "scratch":
            raise ValueError(f"init = {self.init!r}: task.weights has the encoder's weights too; set init=scratch")
        if self.encoder_layer_decay != 1 and not self.encoder.is_plain_vit:
            raise ValueError(
                f"encoder_layer_decay = {self.encoder_layer_decay} is for plain ViTs, {self.encoder.name} has "
                "no blocks of one kind; leave it at 1, or set encoder_lr"
            )
        if self.select == "validation" and not self.num_val_rows:
            raise ValueError("select = validation needs validation rows; set num_val_rows=64, or select=last")
        return self

    def total_steps(self, rows: int) -> int:
        """Return the number of steps of a run over `rows` labeled rows."""
        if self.steps is not None:
            return self.steps
        assert self.epochs is not None
        return max(self.min_steps, math.ceil(self.epochs * rows / (self.train.lanes * self.train.batch_size_per_lane)))
