"""The config of a sweep: which keys vary, how values are chosen, how trials are scored and stopped early."""

import math
import re
from typing import Any, ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from hcmoco.config import Config, build, merge
from hcmoco.errors import UserError
from hcmoco.pretraining.probes.run import ProbeConfig
from hcmoco_ray.config import PretrainRecipe

Value = bool | int | float | str

# Keys that a resumed training may have changed. Any other changes the model, the data order or the length.
CHANGEABLE = (
    *(
        f"objective.{name}"
        for name in ("lambda_g", "lambda_d", "lambda_s", "tau_g", "tau_d", "tau_s", "bank_momentum", "distance_scale")
    ),
    *(f"optim.{name}" for name in ("lr", "momentum", "weight_decay", "clip_norm")),
)
# Keys that trials share, or that the sweep itself decides.
_SHARED = (
    "name",
    "output_dir",
    "data",
    "probe",
    "tracking",
    "ingest",
    "wait_for_nodes",
    "max_restarts",
    "augment.size",
    "model.joint_set",
)
_FREE = (
    "seed, objective.*, optim.*, stages.*, model.* but joint_set, augment.* but size, "
    "train.lanes, batch_size_per_lane and precision"
)
_PLACED = tuple(
    f"train.{name}"
    for name in ("workers", "gpu", "cpus_per_worker", "threads_per_worker", "save_every", "num_checkpoints")
)


class Dimension(Config):
    """The values of one key; exactly one field is given."""

    uniform: tuple[float, float] | None = Field(None, description="lowest and highest value")
    loguniform: tuple[float, float] | None = Field(None, description="the same, uniform in the logarithm; both above 0")
    integers: tuple[int, int] | None = Field(None, description="lowest and highest whole number, both included")
    choice: tuple[Value, ...] | None = Field(None, min_length=1, description="values without an order")

    @model_validator(mode="after")
    def _exactly_one(self) -> "Dimension":
        given = [name for name in type(self).model_fields if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(
                f"give one of uniform, loguniform, integers and choice, not {' and '.join(given) or 'none'}"
            )
        if self.limits is not None:
            low, high = self.limits
            if not (math.isfinite(low) and math.isfinite(high) and low < high):
                raise ValueError(f"{given[0]}: the first value must be below the second, both finite")
            if self.loguniform is not None and low <= 0:
                raise ValueError("loguniform: both values must be above 0")
        return self

    @property
    def limits(self) -> tuple[float, float] | None:
        """Lowest and highest value; None of a choice."""
        return self.uniform or self.loguniform or self.integers

    @property
    def log(self) -> bool:
        """Whether values are uniform in the logarithm."""
        return self.loguniform is not None

    @property
    def ends(self) -> tuple[Value, ...]:
        """Values to check in place of all: the limits, or every choice."""
        return self.limits or self.choice or ()

    def tidy(self, value: float) -> Value:
        """Return `value` within the limits, with 4 significant digits: a sweep of some dozen trials tells no more."""
        assert self.limits is not None
        low, high = self.limits
        value = min(max(value, low), high)
        return round(value) if self.integers else min(max(float(f"{value:.4g}"), low), high)


class FinetuneScore(Config):
    """A fine-tuning with few labels from the trial's encoder.

    The score is the task's primary metric on the test data, in percent.
    """

    task: str = Field(description="name of a task")
    recipe: str = Field("people-cpu", description="recipes/<task>/<recipe>.yaml, or a path")
    labels: dict[str, float | int | str] = Field(
        description="fraction, num_samples or subset, as in a fine-tuning's recipe"
    )
    seed: int = Field(0, ge=0)
    fixed: dict[str, Any] = Field({}, description="dotted keys of the fine-tuning's recipe, for example steps: 100")


class ScoreConfig(Config):
    """Which trial is better: the one with the higher score."""

    probe: str = Field(
        "dense_different_crops/mean",
        description="metric of the probe, in percent, that early stopping and pbt compare; also the score, unless "
        "`finetune` is given",
    )
    finetune: FinetuneScore | None = None


class EarlyStopping(Config):
    """Asynchronous successive halving (Li et al., MLSys 2020)."""

    first: int = Field(ge=1, description="steps that every trial may take")
    factor: float = Field(
        3.0,
        gt=1,
        description="at `first` x factor^k steps a trial continues if it is in the best 1/factor of those that came so "
        "far",
    )


class PopulationConfig(Config):
    """Population based training (Jaderberg et al., 2017)."""

    every: int = Field(ge=1, description="steps between two comparisons")
    quantile: float = Field(
        0.25, gt=0, le=0.5, description="share of the worst trials that resume from the state of one of the best"
    )
    resample: float = Field(
        0.25, ge=0, le=1, description="probability of a fresh value for a key, instead of 0.8 or 1.2 times the other's"
    )


class RegisteredModelConfig(Config):
    """Where the encoders of the best trial are registered in MLflow's model registry."""

    name: str = Field(min_length=1, max_length=250, description="of the registered model; each sweep adds a version")
    alias: str = Field(
        "best",
        pattern=r"^[A-Za-z0-9_-]{1,255}$",
        description="moved to the version of this sweep's best trial: letters, digits, _ and -; neither latest nor v1",
    )

    @field_validator("alias")
    @classmethod
    def _not_reserved(cls, alias: str) -> str:
        if alias.lower() == "latest" or re.fullmatch(r"[vV]\d+", alias):
            raise ValueError(f"{alias} is reserved by MLflow; choose another, such as best")
        return alias

    @field_validator("name")
    @classmethod
    def _known_characters(cls, name: str) -> str:
        if name != name.strip() or any(each in name for each in "/:'\"%\\"):
            raise ValueError("must have neither / : % ' \" \\ nor spaces at its ends")
        return name


class SweepConfig(Config):
    """Many short pre-trainings that differ in some keys."""

    renamed: ClassVar = {"random_first": "num_random_trials", "out": "output_dir", "trials": "num_trials"}

    recipe: str = Field(description="the pre-training's recipe")
    fixed: dict[str, Any] = Field(
        {}, description="dotted keys of it that all trials have otherwise, for example stages.stage2_steps: 200"
    )
    output_dir: str = Field(min_length=1, description="folder or URI of the results")
    seed: int = Field(0, ge=0, description="draws the values; the trials' own seed is the recipe's")
    num_trials: int = Field(ge=1, description="trials in all; may be raised later")
    space: dict[str, Dimension] = Field(min_length=1, description="dotted key of the recipe -> its values")
    score: ScoreConfig = ScoreConfig()
    method: Literal["random", "optuna", "asha", "pbt"] = Field(
        "random",
        description="random; optuna (TPE, Bergstra et al., 2011); asha: random with early stopping; pbt: values change "
        "during the training",
    )
    num_random_trials: int = Field(6, ge=1, description="of optuna: trials that must have ended before it chooses")
    early_stopping: EarlyStopping | None = Field(None, description="of random, asha and optuna")
    population: PopulationConfig | None = Field(None, description="of pbt")
    registered_model: RegisteredModelConfig | None = Field(
        None,
        description="register the encoders of the best trial in MLflow, such as {name: people-encoders}; null: not. An "
        "alias of a shared registry decides what others load, so a sweep moves one only where it is told to",
    )

    @model_validator(mode="after")
    def _consistent(self) -> "SweepConfig":
        if self.method == "asha" and self.early_stopping is None:
            raise ValueError("method = asha needs early_stopping, for example {first: 100}")
        if (self.method == "pbt") != (self.population is not None):
            raise ValueError("method = pbt, and no other, needs population, for example {every: 100}")
        if self.method == "pbt" and self.early_stopping is not None:
            raise ValueError("method = pbt has no early_stopping: its bad trials resume from good ones")
        return self


def nested(flat: dict[str, Any]) -> dict:
    """Return dotted keys as the nested mapping of a recipe."""
    tree: dict = {}
    for key, value in flat.items():
        *parents, leaf = key.split(".")
        inner: dict = {leaf: value}
        for parent in reversed(parents):
            inner = {parent: inner}
        tree = merge(tree, inner)
    return tree


def check_space(config: SweepConfig, base: dict, sweep: str) -> None:
    """Check before any trial starts that the keys can vary, and that the recipe allows their values.

    Args:
        config: of the sweep.
        base: the recipe's keys that all trials have.
        sweep: name or path of the sweep, for messages.

    Raises:
        UserError: a key cannot vary, a value is not allowed, or trials could not be compared.
    """
    recipe = build(PretrainRecipe, base, f"sweep {sweep}")  # first: its mistakes are not those of a key that varies
    for key, dimension in config.space.items():
        if _within(key, _SHARED):
            raise UserError(
                f"sweep {sweep}: space.{key}: all trials of a sweep share {key}; set it in `fixed`, or as {key}=...; "
                f"what can vary: {_FREE}"
            )
        if _within(key, _PLACED):
            raise UserError(
                f"sweep {sweep}: space.{key}: all trials have the same workers: set train.workers in `fixed`, and "
                f"--cpus, --gpus and --threads of each; what can vary: {_FREE}"
            )
        if config.method == "pbt" and key not in CHANGEABLE:
            raise UserError(
                f"sweep {sweep}: space.{key}: pbt changes values during the training, which is possible for "
                f"{', '.join(CHANGEABLE)}"
            )
        if (config.early_stopping or config.population) and _within(key, ("stages",)):
            raise UserError(
                f"sweep {sweep}: space.{key}: trials of different lengths cannot be compared during the training; "
                "take method: random or optuna"
            )
        for value in dimension.ends:
            build(PretrainRecipe, merge(base, nested({key: value})), f"sweep {sweep}, space.{key}")
    if isinstance(recipe.train.workers, tuple):
        raise UserError(
            f"sweep {sweep}: train.workers = {list(recipe.train.workers)}: trials with different numbers of workers "
            "cannot be compared; set one number in `fixed`, or as train.workers=..."
        )
    compared = config.early_stopping or config.population
    if compared and (not recipe.probe.every or recipe.data.held_out is None):
        raise UserError(
            f"sweep {sweep}: trials are compared by a probe during the training; "
            "set probe.every and data.held_out in its recipe or `fixed`"
        )
    interval = (
        config.early_stopping.first
        if config.early_stopping
        else config.population.every
        if config.population
        else recipe.probe.every
    )
    if compared and (interval < recipe.probe.every or interval >= recipe.stages.steps):
        raise UserError(
            f"sweep {sweep}: trials are first compared after {interval} steps, which must be at least "
            f"probe.every = {recipe.probe.every} and less than the {recipe.stages.steps} steps of a trial"
        )
    if config.score.finetune is None and recipe.data.held_out is None:
        raise UserError(
            f"sweep {sweep}: score.probe needs held-out people; set data.held_out in its recipe, or take score.finetune"
        )


def check_probe(name: str, known: list[str]) -> None:
    """Check that the probe has a metric. Raises UserError if `name` is not among `known`."""
    if name not in known:
        raise UserError(f"score.probe = {name!r} is not a metric of the probe; allowed are {', '.join(known)}")


def sweep_identity(config: SweepConfig, recipe: PretrainRecipe, data: dict[str, str], finetune: dict | None) -> dict:
    """Return what must be the same to resume a sweep in its folder. The number of trials may grow.

    Args:
        config: of the sweep.
        recipe: of its trials.
        data: digest of each data set's content by name.
        finetune: identity of the scoring fine-tuning, or None.
    """
    own = config.model_dump(mode="json", exclude={"output_dir", "num_trials", "recipe", "fixed", "registered_model"})
    probe = recipe.probe.model_dump(mode="json", include=set(ProbeConfig.model_fields))
    identity = {"sweep": own, "pretrain": recipe.identity(), "probe": probe, "data": data, "finetune": finetune}
    # Batch statistics and negatives are of one worker's rows. The trials of earlier versions had one worker.
    return identity if recipe.train.max_workers == 1 else {**identity, "workers": recipe.train.max_workers}


def _within(key: str, keys: tuple[str, ...]) -> bool:
    """Return whether `key` is one of `keys`, below one, or above one."""
    return any(key == other or key.startswith(f"{other}.") or other.startswith(f"{key}.") for other in keys)
