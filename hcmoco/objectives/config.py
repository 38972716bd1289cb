"""Configure the objective: weights, temperatures, draws, and what the published code computes in another way."""

from typing import Any, ClassVar, Literal

from pydantic import Field, model_validator

from hcmoco.config import Config


class ReleaseOptions(Config):
    """Deviations of the published code from the paper. All are off by default; each, turned on, gives its behavior
    back.

    Source: the published training code and its scripts. `ReleaseOptions.all_on` has them all, the recipe `as-released`
    too.
    """

    positive: Literal["current", "bank"] = Field(
        "current",
        description="Eq. 2's positive: the paired embedding of this step, or (the release) its row in the bank, which "
        "is stale and has no gradient.",
    )
    per_sample_negatives: bool = Field(
        False,
        description="Draw `num_negatives` of all bank rows for every sample, its own row and rows never seen included.",
    )
    bank_start: Literal["empty", "random"] = Field(
        "empty",
        description="Bank before the first step: no row counts until visited, or (the release) all are random unit "
        "vectors that count.",
    )
    encode_absent: bool = Field(
        False,
        description="Encoders, batch norm included, also see rows without their modality, as blank inputs.",
    )
    absent_in_bank: bool = Field(
        False, description="Update the bank with embeddings of blank images where a modality is absent."
    )
    anchors_with_replacement: bool = Field(
        False,
        description="Draw `num_anchors` positions with replacement, so that all samples with a valid one have as many.",
    )
    intra_invisible_in_denominator: bool = Field(
        False,
        description="Skeleton joints that are not visible stay in the softmax of the intra-sample joint terms.",
    )
    inter_invisible_joints: bool = Field(
        False, description="Invisible joints are anchors and positives of the inter-sample joint term."
    )
    inter_self_in_denominator: bool = Field(
        False, description="A row stays in its own softmax in the inter-sample joint term."
    )
    inter_unused_in_denominator: bool = Field(
        False,
        description="Joints of absent modalities stay in the softmax of the inter-sample joint term.",
    )
    inter_mean_over_all_rows: bool = Field(
        False,
        description="The inter-sample joint term is divided by all rows, not by those that entered.",
    )

    @model_validator(mode="after")
    def _consistent(self) -> "ReleaseOptions":
        if self.per_sample_negatives and self.bank_start != "random":
            raise ValueError("per_sample_negatives draws rows never visited, so it needs bank_start: random")
        if self.absent_in_bank and not self.encode_absent:
            raise ValueError("absent_in_bank writes embeddings of blank images, so it needs encode_absent: true")
        return self

    @classmethod
    def all_on(cls) -> "ReleaseOptions":
        """Return the options with every deviation turned on."""
        literals = {"positive": "bank", "bank_start": "random"}
        return cls(**{name: literals.get(name, True) for name in cls.model_fields})


PAPER = ReleaseOptions()
"""The paper's own way: every deviation is off."""


class ObjectiveConfig(Config):
    """Weights, temperatures and draws of Eq. 1 to 6.

    The paper gives no weights; the release's trainer adds all terms with weight 1.
    """

    renamed: ClassVar = {
        "negatives": "num_negatives",
        "anchors": "num_anchors",
        **{name: f"release.{name}" for name in ReleaseOptions.model_fields},
    }

    method: Literal["hcmoco", "cmc", "mmv"] = Field(
        "hcmoco",
        description="What is trained: all three levels, or a baseline for every step: the sample level alone (CMC), or "
        "MMV's two spaces.",
    )
    lambda_g: float = Field(
        1.0, ge=0, allow_inf_nan=False, description="Eq. 1's weight of the sample level. Source: the release (1)."
    )
    lambda_d: float = Field(
        1.0, ge=0, allow_inf_nan=False, description="Eq. 1's weight of the dense level. Source: the release (1)."
    )
    lambda_s: float = Field(
        1.0, ge=0, allow_inf_nan=False, description="Eq. 1's weight of the sparse level. Source: the release (1)."
    )
    tau_g: float = Field(
        0.07, gt=0, allow_inf_nan=False, description="Eq. 2's temperature. Source: the release's scripts."
    )
    tau_d: float = Field(
        0.07, gt=0, allow_inf_nan=False, description="Eq. 3's temperature. Source: the release's scripts."
    )
    tau_s: float = Field(
        0.07, gt=0, allow_inf_nan=False, description="Eq. 6's temperature. Source: the release's scripts."
    )
    num_negatives: int = Field(
        16384,
        ge=0,
        description="Bank rows drawn per step and modality; 0 does without the bank. Source: the release's scripts.",
    )
    bank_momentum: float = Field(
        0.5, ge=0, lt=1, description="Share of the old row in a bank update. Source: the release's scripts."
    )
    bank_rows: int | None = Field(
        None,
        ge=1,
        description="Most people with a row in the memory banks, a uniform sample of the run's. A row is 3 x (4 x "
        "model.embedding + 9) + 8 bytes on every worker. null: all people, as published.",
    )
    in_batch_negatives: bool = Field(
        True,
        description="Whether the batch's other samples are negatives in Eq. 2, as its sum over F_2 has them. The "
        "release: no.",
    )
    num_anchors: int = Field(
        400,
        ge=1,
        description="Most positions per sample in the dense terms, on the stride-4 map. Source: release.",
    )
    dense_target: Literal["soft", "hard"] = Field(
        "soft", description="Eq. 4's weights, or 1 for the same position and 0 else (InfoNCE)."
    )
    distance_scale: float = Field(
        1.0,
        gt=0,
        allow_inf_nan=False,
        description="Factor on Eq. 4's distance between positions of the stride-4 map. Source: the release (1).",
    )
    release: ReleaseOptions = Field(
        PAPER, description="What the release computes in another way than the paper; all off."
    )

    @model_validator(mode="after")
    def _consistent(self) -> "ObjectiveConfig":
        if not self.num_negatives and not self.in_batch_negatives:
            raise ValueError(
                "num_negatives = 0 leaves the sample level nothing to contrast with; set in_batch_negatives: true or "
                "num_negatives > 0"
            )
        if self.bank_rows is not None and self.release.positive == "bank":
            raise ValueError(
                f"bank_rows = {self.bank_rows}: with release.positive: bank everybody needs a row, as their positive; "
                "set bank_rows: null, or release.positive: current"
            )
        if self.bank_rows is not None and self.needs_bank and self.bank_rows < self.num_negatives:
            raise ValueError(
                f"bank_rows = {self.bank_rows} is less than num_negatives = {self.num_negatives}, so that every step "
                "would take the same rows; raise bank_rows, or lower num_negatives"
            )
        if self.method == "mmv" and (self.release.positive == "bank" or not self.in_batch_negatives):
            raise ValueError(
                "method mmv has no memory bank: it needs release.positive: current and in_batch_negatives: true"
            )
        return self

    def identity(self) -> dict[str, Any]:
        """See `Config.identity`. An objective without `bank_rows` has the identity that it had before there was one."""
        named = super().identity()
        if self.bank_rows is None:
            del named["bank_rows"]
        return named

    @property
    def needs_bank(self) -> bool:
        """Whether the sample level reads a memory bank."""
        return self.method != "mmv" and (self.num_negatives > 0 or self.release.positive == "bank")

    @classmethod
    def released(cls, **over: object) -> "ObjectiveConfig":
        """Return the objective as the release computes it, with `over` on top."""
        return cls(**{"in_batch_negatives": False, "release": ReleaseOptions.all_on(), **over})
