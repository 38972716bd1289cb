"""What can be chosen about a recording, and what is known of one of its frames."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import Field, FiniteFloat, PrivateAttr

from hcmoco.datasets.cameras.camera_file import RecordedBy
from hcmoco.datasets.keypoint_convention import Convention
from hcmoco.datasets.keypoints.formats import FORMATS
from hcmoco.datasets.person_lines import FolderConfig, PersonLine


class RecordingConfig(FolderConfig):
    """A recording of a depth camera or a video."""

    path: str = Field(description="the folder of the recording, or of several videos")
    file: str = Field(
        "people.jsonl", description="the JSON Lines file in it that tells who is where; it may be missing"
    )
    name: str = Field("recording", min_length=1, description="what ids, reports and manifests call the data set")
    use: Literal["both", "rgb", "depth"] = Field("both", description="the modalities that are read: both, rgb or depth")
    keypoints: str = Field(
        "",
        description="file or folder with the keypoints that a pose estimator found in the recording's pictures or "
        "videos, in a format of `prepare.py keypoints`; instead of people.jsonl",
    )
    format: Literal["", "openpose", "coco-results", "coco", "mmpose", "mediapipe", "yolo", "azure-kinect"] = Field(
        "", description="of keypoints; default: recognized, where that is certain"
    )
    min_score: Annotated[FiniteFloat, Field(ge=0)] | None = Field(
        None,
        description="least score of a person in keypoints, or whom --detect finds; default: the format's or detector's",
    )
    first_frame: int | None = Field(
        None, description="number that keypoints have for a video's first frame; default: the tool's, 0 or 1"
    )
    color_topic: str = Field("", description="topic of color in ROS bags that have several")
    depth_topic: str = Field("", description="topic of depth in ROS bags that have several")
    video_key: str = Field("", description="the camera of a LeRobot data set that is read; default: all of color")
    lens: Literal["", "distorted", "rectified"] = Field(
        "",
        description="of pictures beside iai_kinect2's calib_color.yaml: distorted (topics image_color and image_depth) "
        "or rectified (image_color_rect and image_depth_rect)",
    )
    stride: int = Field(1, ge=1, description="every so many frames one is read; neighbors of 30 a second look alike")

    _seen: "Seen | None" = PrivateAttr(None)

    @property
    def seen(self) -> "Seen | None":
        """Return what was seen in the folder already; None: nothing."""
        return self._seen

    def having_seen(self, seen: "Seen | None") -> "RecordingConfig":
        """Return the same config that also has what was seen in the folder, so that it is read once."""
        copied = self.model_copy()
        copied._seen = seen
        return copied

    def __getstate__(self) -> dict[Any, Any]:
        # Every task is sent a config, and none lists the folder: what was seen stays in this process.
        return {**super().__getstate__(), "__pydantic_private__": {"_seen": None}}

    @property
    def convention(self) -> Convention:
        """Return how the keypoints are written: those of a tool as its format has them."""
        if not self.format:
            return super().convention
        form = FORMATS[self.format]
        return Convention.of(self, form.normalized, form.offset)


class FrameLine(PersonLine):
    """One line of people.jsonl: a line of `folder` (folder.py) with `frame` instead of `rgb` and `depth`."""

    frame: str


@dataclass(frozen=True)
class FrameFiles:
    """One frame of a recording in pictures.

    Attributes:
        stem: its name.
        rgb, depth, mask: files below the recording's folder; None if there is none.
    """

    stem: str
    rgb: str | None = None
    depth: str | None = None
    mask: str | None = None


@dataclass(frozen=True)
class Layout:
    """What was recognized in a folder.

    Attributes:
        kind: what the layout is called.
        recorded_by: the cameras.
        frames: in order; empty for videos and bags.
        videos: names of the files.
        bags: names of ROS bags, files or folders.
        notes: sentences on what was passed over and why.
        unpaired: pictures of color without depth, and the other way round.
    """

    kind: str
    recorded_by: RecordedBy | None
    frames: tuple[FrameFiles, ...] = ()
    videos: tuple[str, ...] = ()
    bags: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    unpaired: tuple[str, ...] = ()


@dataclass(frozen=True)
class Seen:
    """What was seen in a recording's folder before its items are listed.

    Attributes:
        layout: what was recognized.
        lines: who is where, by frame; None: nobody says. Only if `lines_read`.
        lines_read: people.jsonl or a tool's files were read.
    """

    layout: Layout
    lines: Mapping[str, Sequence[FrameLine]] | None = None
    lines_read: bool = False
