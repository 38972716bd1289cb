"""Images for tasks over one person: find the person, and cut the square around them as in training."""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from hcmoco.data.depth_masking import shows_background
from hcmoco.data.depth_units import check_distance, shortest_m
from hcmoco.data.depth_units import rounded as rounded_depth
from hcmoco.data.schema import Person
from hcmoco.datasets.person_crop import PersonImages, crop_person, middle_box
from hcmoco.datasets.person_files import find_box
from hcmoco.errors import one_line
from hcmoco.inference.adapter import (
    PICTURE,
    Adapter,
    ImageTransform,
    PreparedImage,
    resize,
    rounded,
    shown_size,
    working_size,
)
from hcmoco.inference.images import read_depth
from hcmoco.inference.inputs import ImageFile
from hcmoco.inference.video.frames import VideoFrame

DETECTOR = "detector"


@dataclass(frozen=True, eq=False)
class _Found:
    """A person before the prediction.

    Attributes:
        box: x0, y0, x1, y1 in pixels of the user's image.
        source: where the box is from, in a word.
        score: of the detector; None without one.
        depth: unrounded depth that shows the person, millimeters; None of RGB.
    """

    box: tuple[float, ...] | np.ndarray
    source: str
    score: float | None = None
    depth: np.ndarray | None = None


class PersonAdapter(Adapter):
    """The part that the adapters of parsing and pose share."""

    def prepare(self, file: ImageFile | VideoFrame) -> PreparedImage:
        depth_read = self.task.modality == "depth"
        of_video = isinstance(file, VideoFrame)
        image, found, unit = self._read_depth(file) if depth_read else self._read_rgb(file)
        height, width = image.shape[:2]
        shown = self.draw_input(resize(image, (width, height) if of_video else shown_size(width, height)))
        image = resize(image, working_size(width, height))
        scale_2 = np.array([image.shape[1] / width, image.shape[0] / height])
        prepared = PreparedImage(file.name, width, height, shown, of_video)
        skipped: list[str] = []
        for number, person in enumerate(found):
            try:
                self._add_row(prepared, f"{file.name}#{number}", image, person, scale_2, unit)
            except ValueError as error:
                # Whom a detector finds may have no depth; the others stay.
                if person.source != DETECTOR:
                    raise
                skipped.append(one_line(error))
        if skipped and not prepared.batches:
            raise ValueError(skipped[0])
        prepared.skipped = skipped
        return prepared

    def _add_row(
        self, prepared: PreparedImage, name: str, image: np.ndarray, found: _Found, scale_2: np.ndarray, unit: str
    ) -> None:
        """Add the row of a person, cut out of the working image."""
        about, box_4 = self.task.about, np.asarray(found.box, np.float64)
        working_4 = box_4 * np.tile(scale_2, 2)
        if found.depth is not None:
            image = resize(rounded_depth(found.depth), working_size(prepared.width, prepared.height))
            self._check_depth(found.depth, unit, box_4, found.source)
        given = Person(
            id=name,
            dataset="predict",
            split="predict",
            size=about.size or self.task.config.size,
            camera=None if self.options.camera is None else np.array(self.options.camera) * np.tile(scale_2, 2),
            # If the image is the square itself, the box is what the margin of a stored square surrounds.
            box=middle_box(image.shape[1], image.shape[0]) if found.source == "none" else working_4,
        )
        images = PersonImages(depth=image) if image.ndim == 2 else PersonImages(rgb=image)
        person = crop_person(given, images, about.depth_codec)
        assert person.crop is not None
        assert person.box is not None
        x0, y0, side = (float(each) for each in person.crop[:3])
        zoom = person.size / side
        transform = ImageTransform((float(scale_2[0]) * zoom, float(scale_2[1]) * zoom), (-x0 * zoom, -y0 * zoom))
        batch = self.make_batch({**person.to_row(0), "box": person.box.tolist()}, transform)
        corners = transform.to_picture(np.array([[0, 0], [person.size, person.size]]))
        prepared.unmasked |= found.depth is not None and shows_background(found.depth, box_4)
        prepared.batches.append(batch)
        prepared.transforms.append(transform)
        prepared.known.append(
            {
                "box": None if found.source == "none" else rounded(box_4),
                "box_from": found.source,
                **({} if found.score is None else {"score": round(found.score, 4)}),
                "crop": rounded(corners.ravel()),
                "row_side": person.size,
            }
        )

    @abstractmethod
    def make_batch(self, row: dict, transform: ImageTransform):
        """Return the batch of one row."""

    @abstractmethod
    def draw_input(self, image: np.ndarray) -> np.ndarray:
        """Return an image as it is shown: uint8 [h, w, 3], RGB."""

    def _read_rgb(self, file: ImageFile | VideoFrame) -> tuple[np.ndarray, list[_Found], str]:
        image = file.rgb()
        return image, self._boxes(file, image), ""

    def _read_depth(self, file: ImageFile | VideoFrame) -> tuple[np.ndarray, list[_Found], str]:
        """The picture, each person with the depth that shows them, and the unit."""
        assert isinstance(file, ImageFile)  # videos are refused before
        depth, unit = read_depth(file.path, self.options.depth_unit)
        mask = self.options.mask
        of_boxes = self.options.boxes is not None or self.options.people or isinstance(self.options.box, tuple)
        if mask is None or not of_boxes:
            depth = depth if mask is None else mask.apply(file.name, depth)
            image = rounded_depth(depth)
            return image, [replace(each, depth=depth) for each in self._boxes(file, image)], unit
        found = [
            replace(each, depth=mask.apply(file.name, depth, [float(value) for value in each.box]))
            for each in self._boxes(file, rounded_depth(depth))
        ]
        depths = [each.depth for each in found if each.depth is not None]
        return rounded_depth(np.maximum.reduce(depths) if depths else depth), found, unit

    def _boxes(self, file: ImageFile | VideoFrame, image: np.ndarray) -> list[_Found]:
        """The people of a picture, without their depth."""
        height, width = image.shape[:2]
        if self.options.boxes is not None:
            given = self._given_boxes(file)
            if not given:
                raise ValueError("the file of boxes has none for it")
            return [_Found(box, "given") for box in given]
        if self.options.people is not None:
            return [_Found(box, DETECTOR, score) for box, score in self.options.people.find(file.name, image)]
        if self.options.box == PICTURE:
            return [_Found((0.0, 0.0, width, height), PICTURE)]
        if self.options.box is not None:
            return [_Found(self.options.box, "given")]  # type: ignore[arg-type]
        if image.ndim == 2:
            if not image.any():
                raise ValueError("no pixel has a depth reading")
            return [_Found(find_box(None, None, image, None), "readings")]
        return [_Found((0.0, 0.0, width, height), "none")]

    def _given_boxes(self, file: ImageFile | VideoFrame) -> Sequence[tuple[float, ...]] | None:
        assert self.options.boxes is not None
        own = self.options.boxes.get(file.name)
        return own or (self.options.boxes.get(file.facts.name) if isinstance(file, VideoFrame) else None)

    def _check_depth(self, depth_HW: np.ndarray, unit: str, box_4: np.ndarray, source: str) -> None:
        x0, y0, x1, y1 = np.clip(np.nan_to_num(box_4), 0, 1 << 15).astype(int)
        inside = depth_HW[y0 : y1 + 1, x0 : x1 + 1]
        if not (inside > 0).any():
            raise ValueError(f"no pixel in the box {rounded(box_4)} has a depth reading")
        height, width = depth_HW.shape
        check_distance(
            inside,
            unit,
            self.options.unit_advice,
            size_px=float(max(box_4[2] - box_4[0], box_4[3] - box_4[1])) if source in ("given", DETECTOR) else None,
            focal_px=max(self.options.camera[:2]) if self.options.camera is not None else None,
            picture_px=max(width, height),
            least_m=shortest_m(box_4, width, height),
        )
