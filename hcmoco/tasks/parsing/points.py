"""Human parsing from depth that is read as points: classes of points, brought back to pixels.

A point learns the label of its pixel. A pixel with a reading is given the logits of the three points that are nearest
to it in space; one without a reading is background, since nothing says what is there.

Shape suffixes: B batch, K classes, S side of the network's input, N points, L side of a label map.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from hcmoco.data.body_parts import IGNORE
from hcmoco.data.points import require_camera
from hcmoco.data.transfer import send
from hcmoco.data.transforms import resize_nearest
from hcmoco.models.points.encoder import PointCloud, PointEncoder, make_cloud, values_on_cells
from hcmoco.tasks.base import Prediction
from hcmoco.tasks.parsing.head import ParsingHead
from hcmoco.tasks.parsing.loss import cross_entropy
from hcmoco.tasks.parsing.task import DepthParsing, ParsingBatch
from hcmoco.tasks.points import ReadsPoints

BACKGROUND = 0


@dataclass
class PointParsingBatch(ParsingBatch):
    """Rows for one step; see `ParsingBatch`.

    Attributes:
        points: int64 [B, N], pixels of `image` that are read as points, row * S + column; -1 where it has no reading.
        rays: float32 [B, 2, 3], of the pixels of `image`, see hcmoco.data.points.
    """

    points: np.ndarray
    rays: np.ndarray


class PointParsingModel(nn.Module):
    """Encoder and head: a cloud to logits [B, K, N, 1] of its points."""

    def __init__(self, encoder: PointEncoder, std: float | None, classes: int):
        super().__init__()
        self.encoder = encoder
        self.head = ParsingHead(encoder.channels, classes, std)

    def forward(self, cloud: PointCloud) -> Tensor:
        return self.head(self.encoder(cloud)[:1])


class PointParsing(ReadsPoints, DepthParsing):
    """`parsing-depth` for an encoder that reads points; `DepthParsing.for_encoder` makes it.

    Attributes:
        num_points: N.
    """

    # Manifests do not count cameras, so they are no input by name.
    columns = ("id", "size", "depth", "camera", "parts")

    def make_batch(self, rows: Sequence[dict], rngs: Sequence[np.random.Generator] | None) -> PointParsingBatch:
        """See `Task.make_batch`. Points of an evaluation are drawn too, for every row alike.

        Raises:
            UserError: a row has no camera.
        """
        cameras = [require_camera(row) for row in rows]
        cuts = [self.cut(row, None if rngs is None else rngs[number]) for number, row in enumerate(rows)]
        points, rays = self.points_and_rays(
            [each.image for each in cuts], cameras, [each.matrix_23 for each in cuts], rngs
        )
        return PointParsingBatch(
            ids=tuple(row["id"] for row in rows),
            image=np.stack([each.image for each in cuts]),
            labels=tuple(each.labels for each in cuts),
            sides=tuple(each.side for each in cuts),
            points=points,
            rays=rays,
        )

    def make_model(self, encoder: Any) -> PointParsingModel:
        """See `Task.make_model`."""
        assert isinstance(encoder, PointEncoder)
        encoder.check_size(self.config.size, self.config.size)
        return PointParsingModel(encoder, self.config.head_std, len(self.label_map))

    def losses(self, model: nn.Module, batch: ParsingBatch, device: torch.device) -> dict[str, Tensor]:
        """Compute `loss`: the cross entropy at the points. A row without a reading has none.

        Raises:
            ValueError: a row has no labels.
        """
        assert isinstance(batch, PointParsingBatch)
        truths = [truth for truth in batch.labels if truth is not None]
        if len(truths) != len(batch):
            raise ValueError("a batch to train on needs label maps for all rows")
        labels_BP, points_BN = send(np.stack(truths), device).flatten(1).long(), send(batch.points, device)
        labels_BN = labels_BP.gather(1, points_BN.clamp(min=0)).masked_fill(points_BN < 0, IGNORE)
        logits_BKN1 = model(_cloud(batch, device))
        weights_K = None if self._weights_K is None else send(self._weights_K, device)
        with torch.autocast(device.type, enabled=False):
            return {"loss": cross_entropy(logits_BKN1, labels_BN[..., None], weights_K)}

    @torch.no_grad()
    def predict(self, model: nn.Module, batch: ParsingBatch, device: torch.device) -> list[Prediction]:
        """Return `parts` of each row: uint8 [L, L]; background where depth has no reading."""
        assert isinstance(batch, PointParsingBatch)
        cloud = _cloud(batch, device, stride=1)
        logits_BNK = model(cloud)[..., 0].mT.float()
        if self.config.flip_test:
            mirror_3 = cloud.points_BN3.new_ones(3)
            mirror_3[0] = -1
            mirrored_BNK = model(cloud._replace(points_BN3=cloud.points_BN3 * mirror_3))[..., 0].mT.float()
            flip_K = send(self.label_map.flip.astype(np.int64), device)
            logits_BNK = (logits_BNK + mirrored_BNK.index_select(2, flip_K)) / 2
        predictions: list[Prediction] = []
        # One row at a time: logits of 1000 x 1000 pixels are 100 MB each.
        for row, side in enumerate(batch.sides):
            one = PointCloud(*(each[row : row + 1] for each in cloud))
            classes_1SS = values_on_cells(logits_BNK[row : row + 1], one).argmax(3)
            parts_SS = classes_1SS.masked_fill(~one.read, BACKGROUND)[0].to(torch.uint8).cpu().numpy()
            predictions.append({"parts": parts_SS if len(parts_SS) == side else resize_nearest(parts_SS, side)})
        return predictions


def _cloud(batch: PointParsingBatch, device: torch.device, *, stride: int = 4) -> PointCloud:
    return make_cloud(*(send(each, device) for each in (batch.image, batch.points, batch.rays)), stride=stride)
