"""What the tasks on depth that is read as points share: which pixels are points, and the rays of their crops.

Shapes: B batch, S side of a crop, N points.
"""

from collections.abc import Sequence
from typing import Any, Self

import numpy as np

from hcmoco.data.points import crop_rays, draw_points
from hcmoco.data.shards.manifest import About
from hcmoco.models.encoders import EncoderConfig
from hcmoco.rng import make_rng


class ReadsPoints:
    """Goes before the task whose batches get points.

    Attributes:
        num_points: N.
    """

    config: Any
    num_points: int

    def for_encoder(self, encoder: EncoderConfig) -> Self:
        """See `Task.for_encoder`."""
        self.num_points = encoder.points_at(self.config.size)
        return self

    def over(self, about: About) -> Self:
        """See `Task.over`."""
        task = super().over(about)  # type: ignore[misc]
        task.num_points = self.num_points
        return task

    def points_and_rays(
        self,
        depth: Sequence[np.ndarray] | np.ndarray,
        cameras: Sequence[np.ndarray] | np.ndarray,
        matrices: Sequence[np.ndarray] | np.ndarray,
        rngs: Sequence[np.random.Generator] | None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Draw the points of crops, of an evaluation too, where every row draws alike.

        Args:
            depth: uint16 [S, S] of each row.
            cameras: fx, fy, cx, cy of each stored picture.
            matrices: [2, 3], stored picture to crop.
            rngs: of the rows; None in an evaluation.

        Returns:
            int64 [B, N], pixels; float32 [B, 2, 3], see `crop_rays`.
        """
        points = []
        for number, depth_SS in enumerate(depth):
            rng = make_rng(0, "points of an evaluation") if rngs is None else rngs[number]
            points.append(draw_points(depth_SS, self.num_points, 0, rng)[0])
        rays = [crop_rays(camera, matrix).astype(np.float32) for camera, matrix in zip(cameras, matrices, strict=True)]
        return np.stack(points), np.stack(rays)
