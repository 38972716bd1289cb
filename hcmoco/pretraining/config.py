"""What a pre-training run is: its data, model, objective, stages and optimizer, as one tree."""

from typing import Any, ClassVar

from pydantic import Field, model_validator

from hcmoco.config import FREE, Config
from hcmoco.data.transforms import AugmentConfig
from hcmoco.models.multimodal import ModelConfig
from hcmoco.objectives.config import ObjectiveConfig
from hcmoco.pretraining.micro_batches import micro_batches
from hcmoco.pretraining.probes.run import ProbeConfig
from hcmoco.training.config import SourceConfig, TrainConfig
from hcmoco.training.optim import OptimConfig


class DataConfig(Config):
    """What is read."""

    sources: dict[str, SourceConfig] = Field(
        min_length=1, description="name -> data set; their order numbers the memory bank"
    )
    held_out: SourceConfig | None = Field(
        None, description="people for the probes, with RGB, depth and keypoints; none: no probes"
    )


class StagesConfig(Config):
    """The two stages of the paper, in steps: 100 epochs each there. A baseline (`objective.method`) has one stage of
    `steps`."""

    renamed: ClassVar = {"sample": "stage1_steps", "full": "stage2_steps"}

    stage1_steps: int = Field(ge=0, description="steps of stage 1: the sample level alone")
    stage2_steps: int = Field(ge=0, description="steps of stage 2: all three levels; its dense mappers start fresh")

    @property
    def steps(self) -> int:
        return self.stage1_steps + self.stage2_steps

    @model_validator(mode="after")
    def _at_least_one_step(self) -> "StagesConfig":
        if self.steps == 0:
            raise ValueError("stages.stage1_steps + stages.stage2_steps must be at least 1 step")
        return self


class PretrainTrainConfig(TrainConfig):
    """How a step of a pre-training is made up and carried out.

    Without `global_batch`, batch-norm statistics, in-batch negatives and the divisors of means are of one worker's
    rows: another number of workers is another function. With it, a step is the same function on any number of workers
    that divides the lanes.

    With `micro_rows`, batch-norm statistics are of a micro-batch, never of more rows; with `global_batch` too, so that
    layers then exchange nothing. Negatives, means and the gradient with respect to the embeddings are of all rows
    nevertheless.
    """

    global_batch: bool = Field(
        False,
        description="batch-norm statistics, in-batch negatives and means are of the rows of all workers, not of one "
        "worker's",
    )
    micro_rows: int | None = Field(
        None,
        ge=1,
        description="most rows that are encoded at once on a device; each is encoded twice then. Batch-norm statistics "
        "are of as many rows; contrast and means are of all. null: no limit",
    )

    concurrent_encoders: bool = Field(
        False,
        description="on a CPU the RGB encoder runs in a thread beside the other two, so that a worker uses two cores; "
        "changes the result by rounding at most. With gpu, compile, global_batch or micro_rows they run one after the "
        "other whatever this says",
        json_schema_extra=FREE,
    )

    @model_validator(mode="after")
    def _within_a_lane(self) -> "PretrainTrainConfig":
        if self.global_batch and self.micro_rows is not None and self.micro_rows > self.batch_size_per_lane:
            raise ValueError(
                f"train.micro_rows = {self.micro_rows} is more than train.batch_size_per_lane = "
                f"{self.batch_size_per_lane}: with train.global_batch a micro-batch lies within a lane, so that it is "
                "the same on any number of workers; take as many at most"
            )
        return self

    @model_validator(mode="after")
    def _compiles(self) -> "PretrainTrainConfig":
        if self.compile and self.global_batch and self.micro_rows is None:
            raise ValueError(
                "train.compile: the batch norms of train.global_batch exchange their statistics, which PyTorch cannot "
                "compile; set train.micro_rows too, so that they exchange nothing, or train.compile=false"
            )
        if self.compile == "graphs" and self.micro_rows is not None:
            raise ValueError(
                "train.compile = graphs keeps a graph for each micro-batch of train.micro_rows, and its memory with "
                "it; set train.compile=true, or leave train.micro_rows out"
            )
        return self

    def identity(self) -> dict[str, Any]:
        """See `Config.identity`. Like the number of workers, `micro_rows` decides nothing unless `global_batch`
        promises that a step is always the same function; a run without the two has the identity that it always had."""
        named = super().identity()
        if not self.global_batch:
            del named["global_batch"], named["micro_rows"]
        return named

    @property
    def side_by_side(self) -> bool:
        """Whether encoders run in two threads. A GPU has work enough from one, and what is compiled, exchanged in batch
        norms or run twice has an order."""
        ordered = self.gpu or self.compile or self.global_batch or self.micro_rows is not None
        return self.concurrent_encoders and not ordered

    @property
    def smallest_batch(self) -> int:
        """Fewest rows that a batch norm sees together, if each of them has its modality."""
        lanes = self.lanes if self.global_batch else self.lanes // self.max_workers
        cut = micro_batches(lanes, self.batch_size_per_lane, self.micro_rows)
        return min(part.stop - part.start for part in cut)


def check_anchors(
    model: ModelConfig, objective: ObjectiveConfig, augment: AugmentConfig, num_background_anchors: int = 0
) -> None:
    """Check that the anchors of the dense terms can be had of the points of a crop, where depth is read as points.

    Args:
        model, objective, augment: of a run.
        num_background_anchors: further anchors of a row, where depth has no reading.

    Raises:
        ValueError: they cannot.
    """
    count = model.depth.points_at(augment.size)
    if not count:
        return
    if objective.release.anchors_with_replacement:
        raise ValueError(
            "objective.release.anchors_with_replacement is of encoders of pictures; with "
            f"model.depth.name = {model.depth.name} anchors are distinct points: set it to false"
        )
    if objective.num_anchors + num_background_anchors > count:
        more = f" and num_background_anchors = {num_background_anchors}" if num_background_anchors else ""
        raise ValueError(
            f"objective.num_anchors = {objective.num_anchors}{more}: a crop of augment.size = {augment.size} "
            f"pixels has {count} points, and anchors are among them; lower it, or raise model.depth.args.num_points"
        )


class PretrainConfig(Config):
    """A pre-training run.

    The number of workers is not part of its identity: samples and draws stay. `train.global_batch` decides whether
    batch-norm statistics and in-batch negatives change with it.
    """

    renamed: ClassVar = {"out": "output_dir"}

    name: str = Field("pretrain", pattern=r"^[\w.-]+$", description="what the run is called", json_schema_extra=FREE)
    output_dir: str = Field(
        min_length=1,
        description="folder or URI of the run; a relative one lies under the run's home",
        json_schema_extra=FREE,
    )
    seed: int = Field(0, ge=0, description="of everything that is drawn")
    data: DataConfig = Field(json_schema_extra=FREE)  # the plan tells what of it decides
    augment: AugmentConfig = AugmentConfig()
    model: ModelConfig = ModelConfig()
    objective: ObjectiveConfig = ObjectiveConfig()
    stages: StagesConfig
    optim: OptimConfig = OptimConfig()
    train: PretrainTrainConfig
    probe: ProbeConfig = Field(ProbeConfig(), json_schema_extra=FREE)

    @model_validator(mode="after")
    def _more_than_one_value(self) -> "PretrainConfig":
        if self.augment.size < 64:
            raise ValueError(
                f"augment.size = {self.augment.size}: must be at least 64, else a worker's only row with depth in a "
                f"step leaves batch norm "
                "one value at stride 32"
            )
        return self

    @model_validator(mode="after")
    def _more_than_one_row(self) -> "PretrainConfig":
        if self.objective.method == "mmv" and self.train.smallest_batch < 2:
            raise ValueError(
                "objective.method = mmv: a worker's or a micro-batch's only row leaves its batch norms one value; "
                "raise train.batch_size_per_lane or train.micro_rows"
            )
        return self

    @model_validator(mode="after")
    def _probed_in_float32(self) -> "PretrainConfig":
        if self.probe.beside and self.train.precision == "tf32":
            raise ValueError(
                "probe.beside: probes are float32, and PyTorch turns TF32 off for a whole process, steps included; "
                "set probe.beside=false, or train.precision=float32"
            )
        return self

    @model_validator(mode="after")
    def _anchors_among_points(self) -> "PretrainConfig":
        check_anchors(self.model, self.objective, self.augment)
        return self

    @model_validator(mode="after")
    def _unturned(self) -> "PretrainConfig":
        if self.model.polluted_keypoints and self.augment.flip_probability:
            raise ValueError(
                "model.polluted_keypoints takes the skeleton as it was before the augmentation, which no mirrored "
                "image fits; "
                "set augment.flip_probability: 0"
            )
        return self

    @property
    def stage2_start_step(self) -> int | None:
        """The step that stage 2 begins with; None for the baselines, which have one stage of as many steps."""
        return self.stages.stage1_steps if self.objective.method == "hcmoco" else None
