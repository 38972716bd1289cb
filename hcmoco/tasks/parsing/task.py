"""The task of human parsing: rows with RGB or depth to part maps.

Shape suffixes: B batch, K classes, S side of the network's input, L side of a label map.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, Self

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from hcmoco.data.body_parts import decode_parts
from hcmoco.data.codecs import decode_depth, decode_rgb
from hcmoco.data.label_maps import LabelMap, label_map
from hcmoco.data.shards.manifest import About, Manifest
from hcmoco.data.transfer import send
from hcmoco.data.transforms import resize_nearest
from hcmoco.errors import UserError
from hcmoco.models.encoders import EncoderConfig
from hcmoco.tasks.base import Prediction, Task, TaskBatch
from hcmoco.tasks.parsing.augment import cut_with_matrix, whole_image
from hcmoco.tasks.parsing.config import PARSING_4K_WEIGHTS, ParsingConfig
from hcmoco.tasks.parsing.head import ParsingModel, mean_with_mirror, resize_logits
from hcmoco.tasks.parsing.loss import class_counts, cross_entropy, frequency_weights
from hcmoco.tasks.parsing.metric import ParsingMetric
from hcmoco.tasks.parsing.sheet import parts_sheet


@dataclass
class ParsingBatch(TaskBatch):
    """Rows for one step.

    Attributes:
        image: uint8 [B, S, S, 3], RGB, or uint16 [B, S, S], depth in millimeters, 0 = no reading.
        labels: uint8 [L, L] each, part numbers or IGNORE; None for a row without labels.
        sides: L of each row: S in training, else the side at which it is scored.
    """

    image: np.ndarray
    labels: tuple[np.ndarray | None, ...]
    sides: tuple[int, ...]


class ParsingCut(NamedTuple):
    """One row of a batch, and the matrix [2, 3] from pixels of the stored image to pixels of the cut, mirror
    included."""

    image: np.ndarray
    labels: np.ndarray | None
    side: int
    matrix_23: np.ndarray


class ParsingTask(Task[ParsingBatch]):
    """The part that parsing from RGB and from depth share; see `Task`.

    The classes are those of the label map that the data set's manifest names.

    Raises:
        UserError: the config's class weights are of other classes.
    """

    config_class = ParsingConfig
    primary_metric = "mIoU"
    labels = ("parts",)
    config: ParsingConfig

    def __init__(self, config: ParsingConfig, about: About, statistics: Mapping[str, Any] | None = None):
        super().__init__(config, about, statistics)
        self.label_map: LabelMap = label_map(about.label_map)
        self._weights_K: np.ndarray | None = None
        if config.class_weights == "parsing-4k":
            self._weights_K = np.array(PARSING_4K_WEIGHTS, np.float32)
        elif config.class_weights == "frequency":
            if "class_weights" not in self.statistics:
                raise ValueError("class_weights=frequency needs statistics: what fit_statistics returns for the rows")
            self._weights_K = np.array(self.statistics["class_weights"], np.float32)
        elif not isinstance(config.class_weights, str):
            self._weights_K = np.array(config.class_weights, np.float32)
        classes = len(self.label_map)
        if self._weights_K is not None and len(self._weights_K) != classes:
            raise UserError(
                f"task.class_weights are {len(self._weights_K)} numbers, and {about.dataset} has the {classes} classes "
                f"of {self.label_map.name}; take class_weights=frequency, which counts them, or none"
            )

    @classmethod
    def fit_statistics(cls, config: ParsingConfig, rows: Iterable[dict], about: About) -> dict[str, Any]:
        """Return the class weights if they come from the frequencies of the labels, else nothing."""
        if config.class_weights != "frequency":
            return {}
        classes = len(label_map(about.label_map))
        counts_K = class_counts((truth for row in rows if (truth := _truth(row, classes)) is not None), classes)
        return {"class_weights": frequency_weights(counts_K).tolist()}

    def over(self, about: About) -> Self:
        """See `Task.over`."""
        if isinstance(about, Manifest) and not about.modalities.get("parts"):
            raise UserError(f"{about.dataset} has no parts to score on; name data with those of {self.about.label_map}")
        if about.label_map != self.about.label_map:
            raise UserError(
                f"the parts of {about.dataset} are those of {about.label_map}, the model's classes those of "
                f"{self.about.label_map}; name data with the parts of {self.about.label_map}, or fine-tune on "
                f"data with those of {about.label_map}"
            )
        return super().over(about)

    def make_batch(self, rows: Sequence[dict], rngs: Sequence[np.random.Generator] | None) -> ParsingBatch:
        """See `Task.make_batch`. A row without its image, or in training without parts, is a ValueError too."""
        rngs_B = [None] * len(rows) if rngs is None else rngs
        cuts = [self.cut(row, rng) for row, rng in zip(rows, rngs_B, strict=True)]
        return ParsingBatch(
            tuple(row["id"] for row in rows),
            np.stack([each.image for each in cuts]),
            tuple(each.labels for each in cuts),
            tuple(each.side for each in cuts),
        )

    def cut(self, row: dict, rng: np.random.Generator | None) -> ParsingCut:
        """Decode a row and cut it to the network's input; see `make_batch`."""
        size = self.config.size
        image, truth = self._image(row), _truth(row, len(self.label_map))
        if rng is not None:
            if truth is None:
                raise ValueError(f"record {row.get('id')!r} has no parts to train on")
            moved = cut_with_matrix(image, truth, size, self.config.augment, rng, self.label_map.pairs)
            return ParsingCut(moved[0], moved[1], size, moved[2])
        side = row["size"] if self.config.label_size == "record" else self.config.label_size
        truth = truth if truth is None or len(truth) == side else resize_nearest(truth, side)
        image = whole_image(image, size, self.config.augment)
        return ParsingCut(image, truth, side, size / row["size"] * np.eye(2, 3))

    def make_model(self, encoder: Any) -> nn.Module:
        """See `Task.make_model`. Raises UserError for RGB and an encoder that does not have three input channels."""
        if self.modality == "rgb" and encoder.config.in_chans != 3:
            raise UserError(
                f"{self.name}: encoder.in_chans is {encoder.config.in_chans}, RGB has 3; leave it at 3 or take "
                "parsing-depth"
            )
        return ParsingModel(encoder, self.modality, self.config.head_std, len(self.label_map))

    def losses(self, model: nn.Module, batch: ParsingBatch, device: torch.device) -> dict[str, Tensor]:
        """Compute `loss`: the cross entropy at the labels' resolution.

        Raises:
            ValueError: a row has no labels, or the label maps differ in size.
        """
        truths = [truth for truth in batch.labels if truth is not None]
        if len(truths) != len(batch) or len(set(batch.sides)) != 1:
            raise ValueError("a batch to train on needs label maps of one size for all rows")
        logits_BKHW = model(send(batch.image, device))
        labels_BLL = send(np.stack(truths), device).long()
        weights_K = None if self._weights_K is None else send(self._weights_K, device)
        with torch.autocast(device.type, enabled=False):
            return {
                "loss": cross_entropy(
                    resize_logits(logits_BKHW, self.config.size, batch.sides[0]), labels_BLL, weights_K
                )
            }

    @torch.no_grad()
    def predict(self, model: nn.Module, batch: ParsingBatch, device: torch.device) -> list[Prediction]:
        """Return `parts` of each row: uint8 [L, L]."""
        logits_BKHW = model(send(batch.image, device))
        mirrored_BKHW = model(send(batch.image[:, :, ::-1], device)) if self.config.flip_test else None
        flip_K = send(self.label_map.flip.astype(np.int64), device)
        predictions = []
        # One row at a time: rows may differ in size, and logits of 1000 x 1000 pixels are 100 MB each.
        for row, side in enumerate(batch.sides):
            logits_1KLL = resize_logits(logits_BKHW[row : row + 1], self.config.size, side)
            if mirrored_BKHW is not None:
                logits_1KLL = mean_with_mirror(
                    logits_1KLL, resize_logits(mirrored_BKHW[row : row + 1], self.config.size, side), flip_K
                )
            predictions.append({"parts": logits_1KLL[0].argmax(0).to(torch.uint8).cpu().numpy()})
        return predictions

    def metric(self) -> ParsingMetric:
        return ParsingMetric(self.label_map.parts)

    def visualize(self, rows: Sequence[dict], predictions: Sequence[Prediction]) -> np.ndarray:
        """See `Task.visualize`. The parts are in fixed colors, which a legend names."""
        images = [self._image(row) for row in rows]
        truths = [_truth(row, len(self.label_map)) for row in rows]
        return parts_sheet(images, truths, [prediction["parts"] for prediction in predictions], self.label_map)

    def _image(self, row: dict) -> np.ndarray:
        """The decoded image. Raises ValueError, with the id, if it is missing or does not decode."""
        data = row.get(self.inputs[0])
        if data is None:
            raise ValueError(f"record {row.get('id')!r} has no {self.inputs[0]}")
        try:
            return (
                decode_rgb(data, row["size"])
                if self.modality == "rgb"
                else decode_depth(data, self.about.depth_codec, row["size"])
            )
        except (ValueError, cv2.error) as error:
            raise ValueError(f"record {row.get('id')!r}: {self.inputs[0]}: {error}") from error


class RgbParsing(ParsingTask):
    """`parsing-rgb`: the published protocol on Human3.6M."""

    name = "parsing-rgb"
    modality: ClassVar = "rgb"
    inputs = ("rgb",)
    columns = ("id", "size", "rgb", "parts")


class DepthParsing(ParsingTask):
    """`parsing-depth`: the published protocol on NTURGBD-Parsing-4K."""

    name = "parsing-depth"
    modality: ClassVar = "depth"
    inputs = ("depth",)
    columns: ClassVar[tuple[str, ...]] = ("id", "size", "depth", "parts")

    def for_encoder(self, encoder: EncoderConfig) -> "DepthParsing":
        """See `Task.for_encoder`."""
        if not encoder.is_points:
            return self
        from hcmoco.tasks.parsing.points import PointParsing

        return PointParsing(self.config, self.about, self.statistics).for_encoder(encoder)


def _truth(row: dict, classes: int) -> np.ndarray | None:
    """The decoded labels; None if the row has none. Raises ValueError, with the id, for invalid ones."""
    if row.get("parts") is None:
        return None
    try:
        return decode_parts(row["parts"], row["size"], classes)
    except (ValueError, cv2.error) as error:
        raise ValueError(f"record {row.get('id')!r}: parts: {error}") from error
