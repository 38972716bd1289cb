"""What can be chosen about the removal of the background from depth."""

from typing import Literal

from pydantic import Field, ValidationInfo, field_validator

from hcmoco.config import Config

TOLERANCE_MM, MIN_SCORE, SHORT_SIDE = 50.0, 0.5, 800
# Least and most of each.
TOLERANCES_MM, SCORES, SHORT_SIDES = (1.0, 1000.0), (0.0, 1.0), (64, 4096)
FORMS = (
    "a folder of masks named like the pictures; background (static camera: what stays behind in the recording itself "
    "is removed); a depth picture of the empty scene, or a folder of them; or the weight file of a Mask R-CNN "
    "(.pth, .pt, .safetensors)"
)


class SegmentOptions(Config):
    """How the person is told from the background in depth."""

    segment: str = Field("", description=f"remove the background from depth, by {FORMS}")
    background_tolerance: float = Field(
        TOLERANCE_MM,
        ge=TOLERANCES_MM[0],
        le=TOLERANCES_MM[1],
        description="with a background: what is nearer than it by more than this is the person, millimeters",
    )
    min_person_score: float = Field(
        MIN_SCORE,
        ge=SCORES[0],
        le=SCORES[1],
        description="with a Mask R-CNN: people that it is less sure of do not count, 0 to 1",
    )
    segment_side: int = Field(
        SHORT_SIDE,
        ge=SHORT_SIDES[0],
        le=SHORT_SIDES[1],
        description="with a Mask R-CNN: shorter side at which it sees pictures, pixels; smaller is faster and coarser",
    )
    depth_masking: Literal["", "masked", "unmasked"] = Field(
        "",
        description="whether depth shows the person alone (masked) or the background, too (unmasked); default: the "
        "pictures are looked at",
    )

    @field_validator("depth_masking")
    @classmethod
    def _not_against_segment(cls, value: str, info: ValidationInfo) -> str:
        if value == "unmasked" and info.data.get("segment"):
            raise ValueError(
                "after --segment depth shows the person alone, which is masked; leave out --depth-masking, or --segment"
            )
        return value

    @property
    def masking(self) -> str:
        """Return what is known of the records' depth before they are read: masked, unmasked or ""."""
        return "masked" if self.segment else self.depth_masking
