"""Images for tasks over one person: find the person, and cut the square around them as in training."""

from abc import abstractmethod

import numpy as np

from hcmoco.data.depth_masking import shows_background
from hcmoco.data.depth_units import check_distance, shortest_m
from hcmoco.data.depth_units import rounded as rounded_depth
from hcmoco.data.schema import Person
from hcmoco.data.transforms import CROP_MARGIN
from hcmoco.datasets.person_crop import PersonImages, crop_person
from hcmoco.datasets.person_files import find_box
from hcmoco.inference.adapter import (
    PICTURE,
    Adapter,
    ImageTransform,
    PreparedImage,
    preview_size,
    resize,
    rounded,
    working_size,
)
from hcmoco.inference.images import ImageFile, read_depth, read_rgb

# A person's box in pixels of the user's image, where it is from, and unrounded depth that shows them.
_Found = tuple[tuple[float, ...] | np.ndarray, str, np.ndarray | None]


class PersonAdapter(Adapter):
    """The part that the adapters of parsing and pose share."""

    def prepare(self, file: ImageFile) -> PreparedImage:
        depth_read = self.task.modality == "depth"
        image, found, unit = self._read_depth(file) if depth_read else self._read_rgb(file)
        height, width = image.shape[:2]
        preview = self.draw_input(resize(image, preview_size(width, height)))
        image = resize(image, working_size(width, height))
        scale_2 = np.array([image.shape[1] / width, image.shape[0] / height])
        prepared = PreparedImage(file.name, width, height, preview)
        for number, (box_4, source, unrounded) in enumerate(found):
            about, box_4 = self.task.about, np.asarray(box_4, np.float64)
            working_4 = box_4 * np.tile(scale_2, 2)
            if unrounded is not None:
                image = resize(rounded_depth(unrounded), working_size(width, height))
                self._check_depth(unrounded, unit, box_4, source)
                prepared.unmasked |= shows_background(unrounded, box_4)
            given = Person(
                id=f"{file.name}#{number}",
                dataset="predict",
                split="predict",
                size=about.size or self.task.config.size,
                camera=None if self.options.camera is None else np.array(self.options.camera) * np.tile(scale_2, 2),
                # If the image is the square itself, the box is what the margin of a stored square surrounds.
                box=_middle(image.shape[1], image.shape[0]) if source == "none" else working_4,
            )
            images = PersonImages(depth=image) if depth_read else PersonImages(rgb=image)
            person = crop_person(given, images, about.depth_codec)
            assert person.crop is not None
            assert person.box is not None
            x0, y0, side = (float(each) for each in person.crop[:3])
            zoom = person.size / side
            transform = ImageTransform((float(scale_2[0]) * zoom, float(scale_2[1]) * zoom), (-x0 * zoom, -y0 * zoom))
            row = {**person.to_row(0), "box": person.box.tolist()}
            prepared.batches.append(self.make_batch(row, transform))
            prepared.transforms.append(transform)
            corners = transform.to_picture(np.array([[0, 0], [person.size, person.size]]))
            prepared.known.append(
                {
                    "box": None if source == "none" else rounded(box_4),
                    "box_from": source,
                    "crop": rounded(corners.ravel()),
                    "row_side": person.size,
                }
            )
        return prepared

    @abstractmethod
    def make_batch(self, row: dict, transform: ImageTransform):
        """Return the batch of one row."""

    @abstractmethod
    def draw_input(self, image: np.ndarray) -> np.ndarray:
        """Return the preview of an image: uint8 [h, w, 3], RGB."""

    def _read_rgb(self, file: ImageFile) -> tuple[np.ndarray, list[_Found], str]:
        image = read_rgb(file.path)
        return image, [(box, source, None) for box, source in self._boxes(file.name, image)], ""

    def _read_depth(self, file: ImageFile) -> tuple[np.ndarray, list[_Found], str]:
        """The picture, each person's box with where it is from and the depth that shows them, and the unit."""
        depth, unit = read_depth(file.path, self.options.depth_unit)
        mask = self.options.mask
        of_boxes = self.options.boxes is not None or isinstance(self.options.box, tuple)
        if mask is None or not of_boxes:
            depth = depth if mask is None else mask.apply(file.name, depth)
            image = rounded_depth(depth)
            return image, [(box, source, depth) for box, source in self._boxes(file.name, image)], unit
        boxes = self._boxes(file.name, rounded_depth(depth))
        depths = [mask.apply(file.name, depth, [float(each) for each in box]) for box, _ in boxes]
        found: list[_Found] = [(box, source, depth) for (box, source), depth in zip(boxes, depths, strict=True)]
        return rounded_depth(np.maximum.reduce(depths)), found, unit

    def _boxes(self, name: str, image: np.ndarray) -> list[tuple[tuple[float, ...] | np.ndarray, str]]:
        """Each person's box in pixels of the user's image, and where it is from."""
        height, width = image.shape[:2]
        if self.options.boxes is not None:
            given = self.options.boxes.get(name)
            if not given:
                raise ValueError("the file of boxes has none for it")
            return [(box, "given") for box in given]
        if self.options.box == PICTURE:
            return [((0.0, 0.0, width, height), PICTURE)]
        if self.options.box is not None:
            return [(self.options.box, "given")]  # type: ignore[list-item]
        if image.ndim == 2:
            if not image.any():
                raise ValueError("no pixel has a depth reading")
            return [(find_box(None, None, image, None), "readings")]
        return [((0.0, 0.0, width, height), "none")]

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
            size_px=float(max(box_4[2] - box_4[0], box_4[3] - box_4[1])) if source == "given" else None,
            focal_px=max(self.options.camera[:2]) if self.options.camera is not None else None,
            picture_px=max(width, height),
            least_m=shortest_m(box_4, width, height),
        )


def _middle(width: int, height: int) -> np.ndarray:
    """The box whose stored square is the whole image, padded to a square."""
    half = max(width, height) / CROP_MARGIN / 2
    return np.array([width / 2 - half, height / 2 - half, width / 2 + half, height / 2 + half])
