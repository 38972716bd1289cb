"""The objective's constants and choices, and which of them the published release made otherwise."""

from typing import Literal

from pydantic import Field, model_validator

from hcmoco.config import Config


class ObjectiveConfig(Config):
    """Weights, temperatures and draws of Eq. 1 to 6.

    The paper gives no weights; the release's trainer adds all terms with weight 1. The fields of the second half are what the release
    does and we do not: each, turned on, gives its behaviour back; `released()` has them all.
    """

    method: Literal["hcmoco", "cmc", "mmv"] = Field(
        "hcmoco",
        description="What is trained: all three levels, or a baseline for every step: the sample level alone (CMC), or MMV's two spaces.",
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
    negatives: int = Field(
        16384,
        ge=0,
        description="Bank rows drawn per step and modality; 0 does without the bank. Source: the release's scripts.",
    )
    bank_momentum: float = Field(
        0.5, ge=0, lt=1, description="Share of the old row in a bank update. Source: the release's scripts."
    )
    in_batch_negatives: bool = Field(
        True,
        description="Whether the batch's other samples are negatives in Eq. 2, as its sum over F_2 has them. The release: no.",
    )
    anchors: int = Field(
        400,
        ge=1,
        description="Most cells per sample in the dense terms, in cells of the stride-4 map. Source: release.",
    )
    dense_target: Literal["soft", "hard"] = Field(
        "soft", description="Eq. 4's weights, or 1 for the same cell and 0 else (InfoNCE)."
    )
    distance_scale: float = Field(
        1.0,
        gt=0,
        allow_inf_nan=False,
        description="Factor on Eq. 4's distance between cells, per stride-4 cell. Source: the release (1).",
    )

    positive: Literal["current", "bank"] = Field(
        "current",
        description="Eq. 2's positive: the paired embedding of this step, or (the release) its row in the bank, stale, no gradient.",
    )
    per_sample_negatives: bool = Field(
        False,
        description="Draw `negatives` of all bank rows for every sample, its own row and rows never seen included (the release).",
    )
    bank_start: Literal["empty", "random"] = Field(
        "empty",
        description="Bank before the first step: no row counts until visited, or (the release) all are random unit vectors that count.",
    )
    encode_absent: bool = Field(
        False,
        description="Encoders, batch norm included, also see rows without their modality, as blank inputs (the release).",
    )
    absent_in_bank: bool = Field(
        False, description="Update the bank with embeddings of blank images where a modality is absent (the release)."
    )
    anchors_with_replacement: bool = Field(
        False,
        description="Draw `anchors` cells with replacement, so that all samples with a valid cell have as many (the release).",
    )
    intra_invisible_in_denominator: bool = Field(
        False,
        description="Skeleton joints that are not visible stay in the softmax of the intra-sample joint terms (the release).",
    )
    inter_invisible_joints: bool = Field(
        False, description="Invisible joints are anchors and positives of the inter-sample joint term (the release)."
    )
    inter_self_in_denominator: bool = Field(
        False, description="A row stays in its own softmax in the inter-sample joint term (the release)."
    )
    inter_unused_in_denominator: bool = Field(
        False,
        description="Joints of absent modalities stay in the softmax of the inter-sample joint term (the release).",
    )
    inter_mean_over_all_rows: bool = Field(
        False,
        description="The inter-sample joint term is divided by all rows, not by those that entered (the release).",
    )

    @model_validator(mode="after")
    def _consistent(self) -> "ObjectiveConfig":
        if self.per_sample_negatives and self.bank_start != "random":
            raise ValueError("per_sample_negatives draws rows never visited, so it needs bank_start: random")
        if self.absent_in_bank and not self.encode_absent:
            raise ValueError("absent_in_bank writes embeddings of blank images, so it needs encode_absent: true")
        if not self.negatives and not self.in_batch_negatives:
            raise ValueError(
                "negatives = 0 leaves the sample level nothing to contrast with; set in_batch_negatives: true or negatives > 0"
            )
        if self.method == "mmv" and (self.positive == "bank" or not self.in_batch_negatives):
            raise ValueError("method mmv has no memory bank: it needs positive: current and in_batch_negatives: true")
        return self

    @property
    def needs_bank(self) -> bool:
        """Whether the sample level reads a memory bank."""
        return self.method != "mmv" and (self.negatives > 0 or self.positive == "bank")

    @classmethod
    def released(cls, **over: object) -> "ObjectiveConfig":
        """The objective as the release computes it, with `over` on top."""
        values: dict = {
            "in_batch_negatives": False,
            "positive": "bank",
            "per_sample_negatives": True,
            "bank_start": "random",
            "encode_absent": True,
            "absent_in_bank": True,
            "anchors_with_replacement": True,
            "intra_invisible_in_denominator": True,
            "inter_invisible_joints": True,
            "inter_self_in_denominator": True,
            "inter_unused_in_denominator": True,
            "inter_mean_over_all_rows": True,
        }
        return cls(**{**values, **over})
