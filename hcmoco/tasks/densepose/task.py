"""The task of DensePose from RGB scenes: resizing and mirroring, losses, and detections with I, U, V.

Shape suffixes: B images, H and W rows and columns of an image.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from hcmoco.data.codecs import decode_rgb
from hcmoco.data.shards.manifest import About
from hcmoco.data.transfer import send
from hcmoco.errors import UserError
from hcmoco.models.encoders import Encoder
from hcmoco.models.normalization import RGB_MEAN, normalize_rgb
from hcmoco.models.weight_files import WeightsReport
from hcmoco.synthetic.body.surface_labels import mirror_iuv
from hcmoco.tasks.base import Metric, Prediction, Task, TaskBatch
from hcmoco.tasks.densepose.config import PEOPLE, DensePoseConfig
from hcmoco.tasks.densepose.decode import decode
from hcmoco.tasks.densepose.model import STRIDE, DensePoseRCNN, to_stored
from hcmoco.tasks.densepose.published_weights import load_published
from hcmoco.tasks.densepose.sheet import draw_sheet
from hcmoco.tasks.densepose.symmetry import read_symmetry
from hcmoco.tasks.densepose.targets import Mirror, SceneTargets, read_instances, scene_targets, to_truth

if TYPE_CHECKING:
    from hcmoco.tasks.densepose.metric.geodesics import Geodesics

# Names in `prepare` of the sources whose labels are on these charts.
_OWN_SOURCES = ("people", "scenes")


@dataclass
class SceneBatch(TaskBatch):
    """B scenes.

    Attributes:
        images: resized for the network, uint8 [h, w, 3], each of its own size.
        sizes: int64 [B, 2], rows and columns of the stored images.
        instances: for evaluation, each image's people, see `read_instances`, in pixels of the stored image; else empty.
        targets: for training, each image's people in pixels of `images`; else without people.
    """

    images: list[np.ndarray]
    sizes: np.ndarray
    instances: list[list[dict]]
    targets: list[SceneTargets]


class DensePose(Task[SceneBatch]):
    """Boxes of people, and part and surface coordinates of every pixel on them; see `Task`.

    A prediction is `boxes` float32 [D, 4] in pixels of the stored image, `scores` float32 [D], descending, and `iuv`,
    for each detection float32 [h, w, 3]: I (0..24), U, V (0..1) of the pixels that its box touches, from column
    floor(x0) and row floor(y0) on. The mask is where I is above 0.
    """

    name = "densepose"
    config_class = DensePoseConfig
    primary_metric = "gps_ap"
    kind = "scene"
    modality = "rgb"
    inputs = ("rgb",)
    labels = ("instances",)
    columns = ("id", "rgb", "width", "height", "instances")

    def __init__(self, config: DensePoseConfig, about: About, statistics: Mapping[str, Any] | None = None):
        super().__init__(config, about, statistics)
        source = about.provenance.arguments.get("source", "scenes")
        if config.charts == PEOPLE and source not in _OWN_SOURCES:
            raise UserError(
                f"task.charts = {PEOPLE}: data set {about.dataset!r} is made from {source!r}, whose labels are on "
                "another surface; give the folder of DensePose's published files"
            )

    @classmethod
    def fit_statistics(cls, config: DensePoseConfig, rows: Iterable[dict], about: About) -> dict[str, Any]:
        """Need no statistics, but say before a training which published file is missing. See `Task`.

        Raises:
            UserError: a file of `config.charts` is missing; or damaged, of the symmetry.
        """
        if config.charts != PEOPLE:
            from hcmoco.tasks.densepose.metric.published import check_files

            check_files(Path(config.charts).expanduser())
            if config.flip_probability:
                read_symmetry(config.charts)
        return super().fit_statistics(config, rows, about)

    def make_batch(self, rows: Sequence[dict], rngs: Sequence[np.random.Generator] | None) -> SceneBatch:
        images, instances, targets = [], [], []
        for number, row in enumerate(rows):
            try:
                rgb_HW3 = decode_rgb(row["rgb"])
                if rgb_HW3.shape[:2] != (row["height"], row["width"]):
                    raise ValueError(
                        f"the image is {rgb_HW3.shape[1]} x {rgb_HW3.shape[0]}, {row['width']} x {row['height']} are "
                        "declared"
                    )
                people = read_instances(row)
                rng = None if rngs is None else rngs[number]
                image_HW3, scale_2, flip = self._cut(rgb_HW3, rng)
                images.append(image_HW3)
                instances.append(people if rng is None else [])
                targets.append(
                    scene_targets(
                        people if rng is not None else [],
                        scale_2,
                        image_HW3.shape[1] if flip else None,
                        self._mirror if flip else mirror_iuv,
                    )
                )
            except (ValueError, IndexError, cv2.error) as error:
                raise ValueError(f"record {row.get('id')!r}: {error}") from error
        sizes = np.array([(row["height"], row["width"]) for row in rows], np.int64).reshape(-1, 2)
        return SceneBatch(tuple(row["id"] for row in rows), images, sizes, instances, targets)

    @property
    def _mirror(self) -> Mirror:
        """What a mirror image does to the charts. Not kept by the task, which is sent to every worker."""
        return mirror_iuv if self.config.charts == PEOPLE else read_symmetry(self.config.charts).mirror

    def _cut(
        self, rgb_HW3: np.ndarray, rng: np.random.Generator | None
    ) -> tuple[np.ndarray, tuple[float, float], bool]:
        """The network's input, its pixels per stored pixel along x and y, and whether it is a mirror image."""
        config: DensePoseConfig = self.config
        height, width = rgb_HW3.shape[:2]
        short, flip = config.test_short_side, False
        if rng is not None:
            short = config.short_sides[rng.integers(len(config.short_sides))]
            flip = bool(rng.random() < config.flip_probability)
        scale = min(short / min(height, width), config.long_side / max(height, width))
        size = max(1, round(width * scale)), max(1, round(height * scale))
        if size != (width, height):
            rgb_HW3 = cv2.resize(rgb_HW3, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
        return np.ascontiguousarray(rgb_HW3[:, ::-1]) if flip else rgb_HW3, (size[0] / width, size[1] / height), flip

    def make_model(self, encoder: Encoder) -> DensePoseRCNN:
        return DensePoseRCNN(encoder, self.config)

    def load_first_weights(self, model: nn.Module) -> WeightsReport:
        """See `Task`. Takes checkpoints of detectron2."""
        assert isinstance(model, DensePoseRCNN)
        if model.encoder.config.fusion != "nearest":
            raise UserError(
                f"encoder.fusion = {model.encoder.config.fusion}: the HRNet of task.weights was trained with nearest; "
                "set encoder.fusion=nearest"
            )
        return load_published(model, str(self.config.weights), model.charts.convolutions())

    def losses(self, model: nn.Module, batch: SceneBatch, device: torch.device) -> dict[str, Tensor]:
        assert isinstance(model, DensePoseRCNN)
        images, sizes = padded_images(batch.images, self.config.least_side)
        terms = model.terms(normalize_rgb(send(images, device)), sizes, to_truth(batch.targets, device))
        config: DensePoseConfig = self.config
        weights = {"coarse": config.coarse_weight, "part": config.part_weight, "uv": config.uv_weight}
        return {**terms, "loss": torch.stack([weights.get(name, 1.0) * term for name, term in terms.items()]).sum()}

    def predict(self, model: nn.Module, batch: SceneBatch, device: torch.device) -> list[Prediction]:
        assert isinstance(model, DensePoseRCNN)
        # Padding changes the features near it. Images of one padded size go together, so that the other images of a
        # batch do not change what is found.
        alike = defaultdict(list)
        for row, image in enumerate(batch.images):
            alike[_padded_size([image], self.config.least_side)].append(row)
        predictions: dict[int, Prediction] = {}
        for rows in alike.values():
            images, sizes = padded_images([batch.images[row] for row in rows], self.config.least_side)
            found = model.detect(normalize_rgb(send(images, device)), sizes)
            for row, seen, each in zip(rows, sizes, found, strict=True):
                height, width = (int(side) for side in batch.sizes[row])
                boxes_D4 = to_stored(each.boxes, seen, (height, width))
                predictions[row] = {
                    "boxes": boxes_D4.cpu().numpy(),
                    "scores": each.scores.cpu().numpy(),
                    "iuv": [iuv.cpu().numpy() for iuv in decode(each.maps, boxes_D4, height, width)],
                }
        return [predictions[row] for row in range(len(batch))]

    def metric(self) -> Metric:
        from hcmoco.tasks.densepose.metric.metric import DensePoseMetric

        return DensePoseMetric(self._geodesics)

    @cached_property
    def _geodesics(self) -> "Geodesics":
        """Distances on the surface that the labels are on; imported here because training needs no evaluation."""
        from hcmoco.tasks.densepose.metric import read_geodesics

        return read_geodesics(self.config.charts)

    def visualize(self, rows: Sequence[dict], predictions: Sequence[Prediction]) -> np.ndarray:
        return draw_sheet(rows, predictions)


def _padded_size(images: Sequence[np.ndarray], least: int) -> tuple[int, int]:
    return tuple(max(-(-max(each.shape[axis] for each in images) // STRIDE) * STRIDE, least) for axis in (0, 1))


def padded_images(images: Sequence[np.ndarray], least: int = 0) -> tuple[np.ndarray, list[tuple[int, int]]]:
    """Pad images to one size, at the right and below, with the mean color, which normalizes to about 0.

    Args:
        images: uint8 [h, w, 3], each of its own size.
        least: smallest side of the result, pixels.

    Returns:
        uint8 [B, H, W, 3], and the rows and columns of each image without padding.
    """
    padded_BHW3 = np.empty((len(images), *_padded_size(images, least), 3), np.uint8)
    padded_BHW3[:] = np.round(255 * np.array(RGB_MEAN))
    for row, image_hw3 in enumerate(images):
        padded_BHW3[row, : image_hw3.shape[0], : image_hw3.shape[1]] = image_hw3
    return padded_BHW3, [image.shape[:2] for image in images]
