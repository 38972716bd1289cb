"""What a pre-training run is: its data, model, objective, stages and optimiser, as one tree."""

from typing import Literal

from pydantic import Field, model_validator

from hcmoco.config import Config
from hcmoco.datasets.people import PeopleConfig, ScenesConfig
from hcmoco.models.hcmoco import ModelConfig
from hcmoco.objectives.config import ObjectiveConfig
from hcmoco.probes.run import ProbeConfig
from hcmoco.training.optim import OptimConfig
from hcmoco.transforms import AugmentConfig


class MadePeople(PeopleConfig):
    """Synthetic people that are made where the shards are not there yet."""

    count: int = Field(gt=0, description="people")


class MadeScenes(ScenesConfig):
    """Synthetic scenes that are made where the shards are not there yet."""

    count: int = Field(gt=0, description="scenes")


class SourceConfig(Config):
    """One prepared data set."""

    path: str = Field(min_length=1, description="folder or URI of its shards; a relative one lies under the run's home")
    weight: float = Field(1.0, gt=0, allow_inf_nan=False, description="share of the rows of a step, relative to the other data sets")
    people: MadePeople | None = Field(None, description="if set, and `path` does not exist, these people are made there first")
    scenes: MadeScenes | None = Field(None, description="likewise for scenes of several people, which DensePose is trained on")
    prepared_with: dict[str, bool | int | float | str] = Field(
        {}, description="options of prepare.py that the recipe's numbers are for, such as padding: 1.25; other data is used with a warning"
    )

    @property
    def made(self) -> MadePeople | MadeScenes | None:
        """What is made where `path` does not exist."""
        return self.people or self.scenes

    @model_validator(mode="after")
    def _one_kind(self) -> "SourceConfig":
        if self.people and self.scenes:
            raise ValueError("people and scenes are two kinds of records; give one of them")
        return self


class DataConfig(Config):
    """What is read."""

    sources: dict[str, SourceConfig] = Field(min_length=1, description="name -> data set; their order numbers the memory bank")
    held_out: SourceConfig | None = Field(None, description="people for the probes, with RGB, depth and keypoints; none: no probes")


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


class TrainConfig(Config):
    """How a step is made up and carried out."""

    lanes: int = Field(8, ge=1, description="parts that a step's rows are dealt in; the number of workers must divide it")
    rows_per_lane: int = Field(ge=1, description="rows per lane and step; a step has lanes x rows_per_lane rows")
    window_steps: int = Field(
        16,
        ge=1,
        description="steps that one work item covers; with rows_per_lane x this far below 100 rows, row groups are read repeatedly",
    )
    workers: int = Field(1, ge=1, description="training processes. Batch-norm statistics and in-batch negatives are of one worker's rows")
    gpu: bool = Field(False, description="each worker has a GPU of its own (NCCL), else CPUs (gloo)")
    cpus_per_worker: float = Field(0.5, gt=0, description="share of the cluster's CPUs that a worker asks for; the rest reads data")
    threads_per_worker: int = Field(1, ge=1, description="threads of a worker's CPU arithmetic")
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        "auto",
        description="of the encoders' arithmetic; losses are float32 always. auto: bfloat16 if every worker's processor computes in it "
        "(AVX512-BF16, AMX-BF16, ARM's bf16, a GPU that has it) rather than emulating it, else float32; decided once, and kept on resume",
    )
    log_every: int = Field(10, ge=1, description="steps between two lines of metrics")
    save_every: int = Field(500, ge=1, description="steps between two train states; one is also kept at the stage boundary and the end")
    keep: int = Field(2, ge=1, description="train states kept")

    @model_validator(mode="after")
    def _dealt(self) -> "TrainConfig":
        if self.lanes % self.workers:
            allowed = [count for count in range(1, self.lanes + 1) if self.lanes % count == 0]
            raise ValueError(f"train.workers = {self.workers} does not divide train.lanes = {self.lanes}; allowed are {allowed}")
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
        rows = self.train.lanes // self.train.workers * self.train.rows_per_lane
        if self.objective.method == "mmv" and rows < 2:
            raise ValueError("objective.method = mmv: a worker's only row leaves its batch norms one value; raise train.rows_per_lane")
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
    def full_from(self) -> int | None:
        """Step that stage 2 begins with; None for the baselines, which have one stage of as many steps."""
        return self.stages.sample if self.objective.method == "hcmoco" else None

    def identity(self) -> dict:
        """What decides the result of the run: a resumed one must have the same. The number of workers may change, and with it
        batch-norm statistics and in-batch negatives; so may threads, and with them rounding. Samples and draws stay."""
        everything = self.model_dump(mode="json")
        free = {"train": ("workers", "gpu", "cpus_per_worker", "threads_per_worker", "log_every", "save_every", "keep")}
        decided = {key: everything[key] for key in ("seed", "augment", "model", "objective", "stages", "optim", "train")}
        decided["train"] = {key: value for key, value in decided["train"].items() if key not in free["train"]}
        return decided
