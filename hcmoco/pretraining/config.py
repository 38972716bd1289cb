"""What a pre-training run is: its data, model, objective, stages and optimizer, as one tree."""

from pydantic import Field, model_validator

from hcmoco.config import Config
from hcmoco.data.transforms import AugmentConfig
from hcmoco.models.multimodal import ModelConfig
from hcmoco.objectives.config import ObjectiveConfig
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
    """The two stages of the paper, in steps: 100 epochs each there. A baseline (`objective.method`) has one stage of `steps`."""

    sample: int = Field(ge=0, description="steps of stage 1: the sample level alone")
    full: int = Field(ge=0, description="steps of stage 2: all three levels; its dense mappers start fresh")

    @property
    def steps(self) -> int:
        return self.sample + self.full

    @model_validator(mode="after")
    def _some(self) -> "StagesConfig":
        if self.steps == 0:
            raise ValueError("stages.sample + stages.full must be at least 1 step")
        return self


class PretrainConfig(Config):
    """A pre-training run."""

    name: str = Field("pretrain", pattern=r"^[\w.-]+$", description="what the run is called")
    out: str = Field(min_length=1, description="folder or URI of the run; a relative one lies under the run's home")
    seed: int = Field(0, ge=0, description="of everything that is drawn")
    data: DataConfig
    augment: AugmentConfig = AugmentConfig()
    model: ModelConfig = ModelConfig()
    objective: ObjectiveConfig = ObjectiveConfig()
    stages: StagesConfig
    optim: OptimConfig = OptimConfig()
    train: TrainConfig
    probe: ProbeConfig = ProbeConfig()

    @model_validator(mode="after")
    def _more_than_one_value(self) -> "PretrainConfig":
        if self.augment.size < 64:
            raise ValueError(
                f"augment.size = {self.augment.size}: must be at least 64, else a worker's only row with depth in a step leaves batch norm "
                "one value at stride 32"
            )
        return self

    @model_validator(mode="after")
    def _more_than_one_row(self) -> "PretrainConfig":
        rows = self.train.lanes // self.train.workers * self.train.batch_size_per_lane
        if self.objective.method == "mmv" and rows < 2:
            raise ValueError(
                "objective.method = mmv: a worker's only row leaves its batch norms one value; raise train.batch_size_per_lane"
            )
        return self

    @model_validator(mode="after")
    def _unturned(self) -> "PretrainConfig":
        if self.model.polluted_keypoints and self.augment.flip_probability:
            raise ValueError(
                "model.polluted_keypoints takes the skeleton as it was before the augmentation, which no mirrored image fits; "
                "set augment.flip_probability: 0"
            )
        return self

    @property
    def stage2_start_step(self) -> int | None:
        """Step that stage 2 begins with; None for the baselines, which have one stage of as many steps."""
        return self.stages.sample if self.objective.method == "hcmoco" else None

    def identity(self) -> dict:
        """What decides the result of the run: a resumed one must have the same. The number of workers may change, and with it
        batch-norm statistics and in-batch negatives; so may threads, and with them rounding. Samples and draws stay."""
        everything = self.model_dump(mode="json")
        free = {"train": ("workers", "gpu", "cpus_per_worker", "threads_per_worker", "log_every", "save_every", "keep")}
        decided = {
            key: everything[key] for key in ("seed", "augment", "model", "objective", "stages", "optim", "train")
        }
        decided["train"] = {key: value for key, value in decided["train"].items() if key not in free["train"]}
        return decided
