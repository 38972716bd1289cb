"""The config of a co-training: experiment, method, data, and how long it trains."""

from typing import Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from hcmoco.config import FREE, Config
from hcmoco.data.transforms import AugmentConfig
from hcmoco.models.multimodal import ModelConfig
from hcmoco.objectives.config import ObjectiveConfig
from hcmoco.pretraining.config import check_anchors
from hcmoco.tasks.parsing.config import PARSING_4K_WEIGHTS, ClassWeights
from hcmoco.training.config import SourceConfig, TrainConfig
from hcmoco.training.optim import OptimConfig

Experiment = Literal["rgb-to-depth", "depth-to-rgb", "missing-modality"]
Method = Literal["none", "cmc", "hcmoco"]
EXPERIMENTS: tuple[Experiment, ...] = ("rgb-to-depth", "depth-to-rgb", "missing-modality")
METHODS: tuple[Method, ...] = ("none", "cmc", "hcmoco")
MAIN: dict[Experiment, str] = {"rgb-to-depth": "depth/mIoU", "depth-to-rgb": "rgb/mIoU", "missing-modality": "rgb/mIoU"}
"""The figure of an experiment: of the modality that the head was not trained on, or of RGB alone."""
_SUPERVISED = {"rgb-to-depth": "rgb", "depth-to-rgb": "depth", "missing-modality": "fused"}
_LOST = {"rgb-to-depth": "depth", "depth-to-rgb": "rgb", "missing-modality": None}


class CoTrainingData(Config):
    """What is read. `weight` of the first two says how a step's rows are shared: the paper's release takes half of
    each."""

    renamed: ClassVar = {"labelled": "labeled", "unlabelled": "unlabeled"}

    unlabeled: SourceConfig = Field(description="RGB, depth and keypoints; its labels, if it has any, are not read")
    labeled: SourceConfig = Field(
        description="the same with parts; in cross-modality supervision it loses the modality that is tested"
    )
    test: SourceConfig = Field(description="RGB, depth and parts, for the closing score")
    validation: SourceConfig | None = Field(
        None, description="likewise for scores during training; they choose nothing"
    )

    @model_validator(mode="after")
    def _persons(self) -> "CoTrainingData":
        for name in CoTrainingData.model_fields:
            source = getattr(self, name)
            if source and source.scenes:
                raise ValueError(
                    f"{name}.scenes: crops of single people are needed; give {name}.people or a prepared data set"
                )
        return self


class CoTrainingSettings(Config):
    """What all co-trainings of a recipe share: data, model, objective and how long they train."""

    renamed: ClassVar = {
        "evaluation_rows": "eval_batch_size",
        "background_anchors": "num_background_anchors",
        "validations": "num_evals",
        "validation": "num_val_rows",
        "out": "output_dir",
    }

    name: str = Field("versatility", pattern=r"^[\w.-]+$", description="what the run is called", json_schema_extra=FREE)
    output_dir: str = Field(
        min_length=1,
        description="folder or URI of the run; a relative one lies under the run's home",
        json_schema_extra=FREE,
    )
    data: CoTrainingData = Field(json_schema_extra=FREE)  # its weights and the plan decide, see `identity`
    augment: AugmentConfig = AugmentConfig()
    model: ModelConfig = ModelConfig()
    objective: ObjectiveConfig = ObjectiveConfig()
    num_background_anchors: int = Field(
        0,
        ge=0,
        description="positions without a depth reading that join each row's anchors in the dense terms. Where depth is "
        "masked to the person, anchors of the body alone leave the two modalities' backgrounds unrelated, and the head "
        "takes the other's for body. Where depth is read as points, the depth of all of them is one learned embedding. "
        "Source: not the paper's; the release ties the backgrounds by accident, as its invisible joints all lie on "
        "position (0, 0)",
    )
    task_weight: float = Field(
        10.0, gt=0, allow_inf_nan=False, description="weight of the parsing loss. Source: the release"
    )
    class_weights: Literal["none", "frequency", "parsing-4k"] | ClassWeights = Field(
        "frequency",
        description="none, frequency (1 / ln(1.02 + share of the labeled pixels)), parsing-4k (published), or 25 "
        "numbers",
    )
    steps: int = Field(ge=1, description="length of the training; 100 epochs in the release")
    optim: OptimConfig = OptimConfig()
    train: TrainConfig
    num_evals: int = Field(
        0, ge=0, description="scores on data.validation during training, evenly spaced, the last at the end"
    )
    num_val_rows: int = Field(128, ge=1, description="rows of data.validation that are scored")
    eval_batch_size: int = Field(
        32, ge=1, description="rows that are predicted together in an evaluation", json_schema_extra=FREE
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        for name in ("rgb", "depth"):
            init = getattr(self.model, name).init
            if init != "scratch":
                raise ValueError(f"model.{name}.init = {init!r}: say where the encoders start with the key init")
        if self.objective.method != "hcmoco":
            raise ValueError(
                f"objective.method = {self.objective.method!r}: a co-training's method is the key method; "
                "leave it at hcmoco"
            )
        if not self.objective.lambda_d + self.objective.lambda_s or not self.objective.lambda_g:
            raise ValueError(
                "objective: lambda_g, and lambda_d or lambda_s, must be above 0; "
                "the key method decides what a method goes without"
            )
        if self.objective.release.encode_absent or self.model.polluted_keypoints:
            raise ValueError(
                "objective.release.encode_absent and model.polluted_keypoints are of the release's pre-training; "
                "set both to false"
            )
        if isinstance(self.class_weights, tuple) and len(self.class_weights) != len(PARSING_4K_WEIGHTS):
            raise ValueError(
                f"class_weights are {len(self.class_weights)} numbers; give {len(PARSING_4K_WEIGHTS)}, one a class"
            )
        if self.train.max_workers != 1:
            raise ValueError(
                f"train.workers = {self.train.workers}: a co-training is one process; set train.workers: 1"
            )
        if self.augment.independent:
            raise ValueError(
                "augment.independent: a co-training's labels, and the maximum of its two maps, are of one crop of RGB "
                "and depth; set it to false"
            )
        if self.augment.size < 64:
            raise ValueError(
                f"augment.size = {self.augment.size}: must be at least 64, "
                "else batch norm may see one value at stride 32"
            )
        check_anchors(self.model, self.objective, self.augment, self.num_background_anchors)
        if self.num_evals and self.data.validation is None:
            raise ValueError(
                f"num_evals = {self.num_evals} needs data.validation; name such a data set, or set num_evals: 0"
            )
        return self


class CoTrainingConfig(CoTrainingSettings):
    """A co-training: L = w_cmc L_g + w_other (L_d + L_s) + task_weight L_parsing.

    The method decides which of the objective's weights count: none of them (none), lambda_g alone (cmc), or all three
    (hcmoco). With lambdas of 1 these are the release's weights. Those of the two baselines are inferred from its
    options, as it has no scripts for them.
    """

    seed: int = Field(
        0, ge=0, description="of everything that is drawn: fresh weights, order, augmentation, anchors, negatives"
    )
    experiment: Experiment = Field("rgb-to-depth", description="what the head is trained on, and what it is tested on")
    method: Method = Field(
        "hcmoco", description="what is trained beside the head: nothing, the sample level, or all three levels"
    )
    init: str = Field(
        min_length=1,
        description="where the encoders start, the same for all methods: a sample-level pre-training of pretrain.py "
        "(a run or its export), or scratch",
        json_schema_extra=FREE,
    )

    @property
    def weights(self) -> ObjectiveConfig:
        """The objective with the weights that the method has."""
        keeps = {"none": (), "cmc": ("lambda_g",), "hcmoco": ("lambda_g", "lambda_d", "lambda_s")}[self.method]
        return self.objective.model_copy(
            update={key: 0.0 for key in ("lambda_g", "lambda_d", "lambda_s") if key not in keeps}
        )

    @property
    def supervised(self) -> str:
        """What the head is trained on: "rgb", "depth" or "fused"."""
        return _SUPERVISED[self.experiment]

    @property
    def lost(self) -> str | None:
        """The modality that labeled rows lose in training."""
        return _LOST[self.experiment]

    @property
    def primary_metric(self) -> str:
        """The figure of the experiment."""
        return MAIN[self.experiment]

    def identity(self) -> dict[str, Any]:
        """See `Config.identity`. Of the data, the weights decide too."""
        weights = {name: getattr(self.data, name).weight for name in ("unlabeled", "labeled")}
        return {**super().identity(), "weights": weights}
