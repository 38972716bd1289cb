"""Where the people of a user's pictures are: boxes in a file, or those that a detector finds."""

import math
import threading
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from hcmoco import unique_keys
from hcmoco.datasets.io.files import text_lines
from hcmoco.detection.detector import Detector, Model
from hcmoco.detection.opened import open_detector
from hcmoco.detection.options import DetectOptions
from hcmoco.errors import UserError, one_line
from hcmoco.inference.boxes import check_box
from hcmoco.inference.inputs import ImageFile, VideoFile
from hcmoco.inference.masks import rgb_beside
from hcmoco.inference.video.frames import frame_name

FLAG = "--person-detector"


@dataclass(frozen=True)
class PeopleFinder:
    """A detector of people, which threads may share.

    Attributes:
        detector: it finds people by itself.
        model: what its file says.
        path: of that file.
        min_score: people below are left out.
        rgb: of depth pictures, the folder of the RGB pictures beside them, or the one such picture; None: the pictures
            are RGB themselves.
    """

    detector: Detector
    model: Model
    path: str
    min_score: float
    rgb: str | None = None
    # A detector keeps what its network said until it has made people of it.
    _one_at_a_time: Any = field(default_factory=threading.Lock)

    def find(self, name: str, image: np.ndarray) -> list[tuple[tuple[float, ...], float]]:
        """Return box and score of each person, the surest first.

        Args:
            name: of the picture.
            image: uint8 [H, W, 3], RGB; or depth [H, W], to which the RGB picture beside it is taken.

        Returns:
            (x0, y0, x1, y1) in pixels of the picture, cut to it, and the score, 0 to 1.

        Raises:
            ValueError: the detector fails, or there is no RGB picture of the same size.
        """
        height, width = image.shape[:2]
        rgb = image if self.rgb is None else rgb_beside(self.rgb, name)
        if rgb.shape[:2] != (height, width):
            raise ValueError(
                f"the depth picture is {width} x {height}, the RGB picture beside it {rgb.shape[1]} x {rgb.shape[0]} "
                "pixels; boxes are found for pictures of one size that show the same"
            )
        with self._one_at_a_time:
            found = self.detector.detect(rgb)
        people: list[tuple[tuple[float, ...], float]] = []
        for each in found:
            x0, y0, x1, y1 = np.clip(each.box, 0, (width, height, width, height)).tolist()
            if each.score >= self.min_score and x1 - x0 >= 1 and y1 - y0 >= 1:
                people.append(((x0, y0, x1, y1), each.score))
        return people

    def facts(self) -> dict[str, Any]:
        """Return what about.json has to say of it, as JSON values."""
        return {
            "path": self.path, "kind": self.model.kind, "sha256": self.model.sha256, "min_score": self.min_score,
            **({"rgb": self.rgb} if self.rgb else {}),
        }  # fmt: skip


def make_finder(options: DetectOptions, *, threads: int, cuda: bool, rgb: str | None = None) -> PeopleFinder:
    """Open the detector of `options.detect`.

    Args:
        options: with `detect`; `min_score` None takes the detector's own.
        threads: of its arithmetic.
        cuda: compute on the GPU.
        rgb: as of `PeopleFinder`.

    Raises:
        UserError: its file cannot be used, or it finds nobody by itself.
    """
    path = options.detect or ""
    try:
        opened = open_detector(options, threads=threads, cuda=cuda)
    except UserError as error:
        raise UserError(str(error).replace("--detect ", f"{FLAG} ", 1)) from None
    model = opened.model
    if not model.finds_people:
        raise UserError(
            f"{FLAG} {path} finds the joints of one person ({model.kind}), and nobody by itself; give a Keypoint R-CNN "
            "or YOLO pose model, or a file of --boxes"
        )
    return PeopleFinder(
        opened.detector, model, path, model.min_score if options.min_score is None else options.min_score, rgb
    )


def read_boxes(
    path: Path, files: Sequence[ImageFile | VideoFile]
) -> dict[str, list[tuple[float, float, float, float]]]:
    """Read the boxes of a JSON Lines file.

    Args:
        files: the images and videos that the boxes may be of.
    Returns:
        (x0, y0, x1, y1) in pixels, by name of the image, of the video or of its frame (`frame_name`).
    Raises:
        UserError: a line is not of the form that predict.py describes, or of no image.
    """
    if not path.is_file():
        raise UserError(f"--boxes {path} does not exist; write one JSON object per person into it, as --help shows")
    names = {each.name for each in files}
    videos = {each.name for each in files if isinstance(each, VideoFile)}
    found = defaultdict(list)
    for number, text in text_lines(path, f"--boxes {path}"):
        where = f"--boxes {path} line {number}"
        try:
            values = unique_keys.loads(text)
        except (ValueError, RecursionError) as error:
            raise UserError(f"{where} is not valid JSON: {one_line(error)}") from None
        try:
            name, box = values["image"], tuple(float(each) for each in values["box"])
            frame = values.get("frame")
        except (ValueError, KeyError, TypeError):
            raise UserError(f'{where} is not of the form {{"image": "a.jpg", "box": [x0, y0, x1, y1]}}') from None
        if len(box) != 4 or not all(map(math.isfinite, box)):
            raise UserError(f"{where}: the box must be four numbers, x0, y0, x1, y1; it is {list(box)}")
        check_box(where, box)
        if name not in names:
            raise UserError(f"{where}: {name!r} is none of the {len(names)} files, for example {min(names)!r}")
        if frame is not None and (name not in videos or not isinstance(frame, int) or frame < 0):
            raise UserError(f"{where}: frame {frame!r} must be the number of a frame, from 0, of a video")
        found[name if frame is None else frame_name(name, frame)].append(box)
    if not found:
        raise UserError(f"--boxes {path} has no line; write one JSON object per person into it, as --help shows")
    return dict(found)
