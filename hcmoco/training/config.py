"""What every training has: where its rows come from, and how a step is made up and carried out."""

from typing import ClassVar, Literal

from pydantic import Field, model_validator

from hcmoco.config import FREE, Config
from hcmoco.synthetic import PeopleConfig, ScenesConfig


class SyntheticPeople(PeopleConfig):
    """Synthetic people that are made where the shards are not there yet."""

    count: int = Field(gt=0, description="people")


class SyntheticScenes(ScenesConfig):
    """Synthetic scenes that are made where the shards are not there yet."""

    count: int = Field(gt=0, description="scenes")


class SourceConfig(Config):
    """One prepared data set."""

    path: str = Field(min_length=1, description="folder or URI of its shards; a relative one lies under the run's home")
    weight: float = Field(
        1.0, gt=0, allow_inf_nan=False, description="share of the rows of a step, relative to the other data sets"
    )
    people: SyntheticPeople | None = Field(
        None, description="if set, and `path` does not exist, these people are made there first"
    )
    scenes: SyntheticScenes | None = Field(
        None, description="likewise for scenes of several people, which DensePose is trained on"
    )
    prepared_with: dict[str, bool | int | float | str] = Field(
        {},
        description="options of prepare.py that the recipe's numbers are for, such as padding: 1.25; other data is "
        "used with a warning",
    )

    @property
    def made(self) -> SyntheticPeople | SyntheticScenes | None:
        """What is made where `path` does not exist."""
        return self.people or self.scenes

    @model_validator(mode="after")
    def _one_kind(self) -> "SourceConfig":
        if self.people and self.scenes:
            raise ValueError("people and scenes are two kinds of records; give one of them")
        return self


class TrainConfig(Config):
    """How a step is made up and carried out."""

    renamed: ClassVar = {"rows_per_lane": "batch_size_per_lane", "keep": "num_checkpoints"}

    lanes: int = Field(
        8,
        ge=1,
        le=65_536,
        description="parts that a step's rows are dealt in; the number of workers must divide it",
    )
    batch_size_per_lane: int = Field(
        ge=1, description="rows per lane and step; a step has lanes x batch_size_per_lane rows"
    )
    window_steps: int = Field(
        16,
        ge=1,
        description="steps that one work item covers; with batch_size_per_lane x this far below 100 rows, row groups "
        "are read repeatedly",
    )
    workers: int | tuple[int, int] = Field(
        1,
        description="training processes; [least, most] takes as many as there is room for, fewer when a node is lost "
        "and more when one comes. Batch-norm statistics and in-batch negatives are of one worker's rows",
        json_schema_extra=FREE,
    )
    gpu: bool = Field(
        False, description="each worker has a GPU of its own (NCCL), else CPUs (gloo)", json_schema_extra=FREE
    )
    cpus_per_worker: float = Field(
        0.5,
        gt=0,
        description="share of the cluster's CPUs that a worker asks for; the rest reads data",
        json_schema_extra=FREE,
    )
    placement: Literal["pack", "spread"] = Field(
        "pack",
        description="whether the workers go to few nodes or to many, as far as there is room",
        json_schema_extra=FREE,
    )
    wait_minutes: float = Field(
        30.0,
        ge=0,
        allow_inf_nan=False,
        description="minutes to wait for room for the workers, where some were lost or other programs hold their "
        "place, before the run ends with its newest train state",
        json_schema_extra=FREE,
    )
    threads_per_worker: int = Field(1, ge=1, description="threads of a worker's CPU arithmetic", json_schema_extra=FREE)
    precision: Literal["auto", "float32", "tf32", "bfloat16"] = Field(
        "auto",
        description="of the encoders' arithmetic; losses are float32 always. tf32: float32, but convolutions on a GPU "
        "round what they multiply to 10 bits (PyTorch's own default, which float32 turns off). auto: bfloat16 if every "
        "worker's processor computes in it "
        "(AVX512-BF16, AMX-BF16, ARM's bf16, a GPU that has it) rather than emulating it, else float32; decided once, "
        "and kept on resume",
    )
    compile: bool | Literal["graphs"] = Field(
        False,
        description="compile the encoders in the first steps (torch.compile), which takes minutes; changes the result "
        "by rounding. Encoders that draw (drop_path_rate, drop_rate) cannot be compiled. graphs: on a GPU each encoder "
        "is replayed as CUDA graphs too, one for each number of rows, which saves the launches of its kernels and "
        "takes memory of its own",
        json_schema_extra=FREE,
    )
    log_every: int = Field(10, ge=1, description="steps between two lines of metrics", json_schema_extra=FREE)
    save_every: int = Field(
        500,
        ge=1,
        description="steps between two train states; one is also saved at the stage boundary and the end",
        json_schema_extra=FREE,
    )
    num_checkpoints: int = Field(2, ge=1, description="train states kept", json_schema_extra=FREE)

    @property
    def allowed_workers(self) -> list[int]:
        """Numbers of workers that this run may have, the largest first: divisors of the lanes."""
        least, most = self.workers if isinstance(self.workers, tuple) else (self.workers, self.workers)
        return [count for count in range(most, least - 1, -1) if self.lanes % count == 0]

    @property
    def max_workers(self) -> int:
        """The largest number of workers that this run may have."""
        return self.allowed_workers[0]

    @model_validator(mode="after")
    def _has_tf32(self) -> "TrainConfig":
        if self.precision == "tf32" and not self.gpu:
            raise ValueError(
                "train.precision = tf32 is an arithmetic of GPUs, and train.gpu is false; set train.gpu=true, or "
                "train.precision=float32"
            )
        return self

    @model_validator(mode="after")
    def _has_graphs(self) -> "TrainConfig":
        if self.compile == "graphs" and not self.gpu:
            raise ValueError(
                "train.compile = graphs replays CUDA graphs, and train.gpu is false; set train.gpu=true, or "
                "train.compile=true"
            )
        return self

    @model_validator(mode="after")
    def _dealt(self) -> "TrainConfig":
        divisors = [count for count in range(1, self.lanes + 1) if self.lanes % count == 0]
        if isinstance(self.workers, tuple):
            least, most = self.workers
            if not 1 <= least <= most:
                raise ValueError(f"train.workers = [{least}, {most}] must be [least, most], both at least 1")
        elif self.workers < 1:
            raise ValueError(f"train.workers = {self.workers}: must be at least 1")
        if isinstance(self.workers, int) and self.workers not in divisors:
            raise ValueError(
                f"train.workers = {self.workers} does not divide train.lanes = {self.lanes}; allowed are {divisors}"
            )
        if isinstance(self.workers, tuple) and not set(divisors) & set(range(least, most + 1)):
            raise ValueError(
                f"train.workers = [{least}, {most}] has no divisor of train.lanes = {self.lanes}: {divisors}"
            )
        return self
