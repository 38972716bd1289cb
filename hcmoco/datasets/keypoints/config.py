"""The settings of `prepare keypoints`."""

from typing import Annotated, Literal

from pydantic import Field, FiniteFloat, field_validator

from hcmoco.data.codecs import DepthCodec
from hcmoco.data.depth_units import DepthUnitOrDefault
from hcmoco.data.skeletons import joint_set
from hcmoco.datasets.keypoint_convention import KeypointOptions
from hcmoco.errors import UserError


class KeypointsConfig(KeypointOptions):
    """Pictures and a tool's keypoints."""

    images: str = Field(description="folder of the pictures")
    keypoints: str = Field(description="the file or folder that the tool wrote")
    format: Literal["", "openpose", "coco-results", "coco", "mmpose", "mediapipe", "yolo", "azure-kinect"] = Field(
        "", description="default: recognized, where that is certain"
    )
    joints: str = Field("", description="their joint set, such as body-25; default: recognized, where that is certain")
    min_score: Annotated[FiniteFloat, Field(ge=0)] | None = Field(
        None, description="least score of a person, where the file has scores; default: the format's"
    )
    orientation: Literal["", "upright", "stored"] = Field(
        "",
        description="of photographs that are stored turned (EXIF): upright if the tool turned them, as most do, or "
        "stored if it did not; asked for where there is one",
    )
    image_list: str = Field(
        "", description="coco-results: JSON file in COCO's form whose images give the numbers image_id their files"
    )
    calibration: str = Field("", description="azure-kinect: JSON file with the camera of the pictures")
    first_frame: int | None = Field(None, description="azure-kinect: number of the picture of frame 0")
    depth: str = Field("", description="folder of depth, 16-bit PNG of the pictures' names and sizes; default: none")
    depth_unit: DepthUnitOrDefault = Field(
        "",
        description="length of the number 1 in depth pictures, e.g. mm, m, 0.25mm; default: mm",
    )
    mask: str = Field("", description="folder of masks, 8-bit PNG of the pictures' names; depth outside is dropped")
    name: str = Field("keypoints", min_length=1, description="what ids, reports and manifests call the data set")
    split: str = Field("train", min_length=1, description="written into the rows")
    size: int = Field(320, ge=32, le=4096, description="largest side of a stored crop, pixels")
    depth_codec: DepthCodec = Field("png16", description="codec of the stored depth; the manifest names it")

    @field_validator("joints")
    @classmethod
    def _known(cls, name: str) -> str:
        try:
            return joint_set(name).name if name else name
        except UserError as error:
            raise ValueError(str(error)) from None
