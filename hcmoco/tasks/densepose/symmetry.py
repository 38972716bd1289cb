"""What a mirror image does to DensePose-COCO's charts, from the table that is published with them.

UV_symmetry_transforms.mat (DensePose's `get_densepose_uv.sh`, folder UV_data) has two cell arrays of 24 matrices,
`U_transforms` and `V_transforms`, one pair for each chart. A place (U, V) of the chart is at row floor(255 V) and
column floor(255 U); there stand its U and V on the mirror image's chart, which is that of the body's other side.

Source: `DensePoseDataRelative` and `DensePoseTransformData` of detectron2's DensePose, which look places up so.
Shape suffixes: N places, C = 24 charts, S = 256 sides of the tables.
"""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from hcmoco.data.body_parts import NUM_CHARTS
from hcmoco.datasets.io.matlab5 import read_cells
from hcmoco.errors import UserError
from hcmoco.tasks.densepose.published_files import read_published

NAME = "UV_symmetry_transforms.mat"
MIRRORED_CHARTS = np.array([0, 1, 2, *(chart + 1 if chart % 2 else chart - 1 for chart in range(3, NUM_CHARTS + 1))])
"""Number of each chart's mirror image. The torso, charts 1 and 2, is its own; the others are in pairs, from 3 and 4 on.
"""

_WHERE = (
    "mirrored pictures need it: fetch it with DensePose's get_densepose_uv.sh and put it there, or set "
    "task.flip_probability=0"
)
_SIDE = 256
_SLACK = 0.01  # by which a table's values may miss 0..1


@dataclass(frozen=True, eq=False)
class ChartSymmetry:
    """The symmetry of the published charts.

    Attributes:
        tables: float32 [C, S, S, 2], U and V of the mirror image of the place at row V, column U; NaN where the file
            has none.
    """

    tables: np.ndarray

    def mirror(self, iuv_N3: np.ndarray) -> np.ndarray:
        """Return the places of the mirror image, float32 [..., 3].

        Args:
            iuv_N3: [..., 3], chart 0..24, U and V 0..1. Of chart 0, the background, U and V become 0, as they are
                wherever the table has no place: then the chart is 0 too.
        """
        chart = iuv_N3[..., 0].astype(np.int64)
        # Truncated, as published, in the type that the labels have there.
        cells = (iuv_N3[..., 1:].astype(np.float32) * 255).astype(np.int64).clip(0, _SIDE - 1)
        uv = self.tables[np.maximum(chart, 1) - 1, cells[..., 1], cells[..., 0]]
        known = (chart > 0) & np.isfinite(uv).all(-1)
        mirrored = np.concatenate([MIRRORED_CHARTS[chart][..., None], uv], -1)
        return np.where(known[..., None], mirrored, 0).astype(np.float32)


@lru_cache(maxsize=2)
def read_symmetry(charts: str) -> ChartSymmetry:
    """Read the symmetry of the published charts, once per process.

    Args:
        charts: folder of DensePose's published files.

    Raises:
        UserError: the file is missing, damaged, or not as published.
    """
    path = Path(charts).expanduser() / NAME
    cells = read_published(path, read_cells, _WHERE)
    axes = []
    for name in ("U_transforms", "V_transforms"):
        matrices = cells.get(name, [])
        if len(matrices) != NUM_CHARTS or {each.shape for each in matrices} != {(_SIDE, _SIDE)}:
            found = f"{len(matrices)} of {sorted({each.shape for each in matrices})}" if matrices else "no"
            raise UserError(
                f"{path} has {found} matrices in {name}; the published file has {NUM_CHARTS} of {_SIDE} x {_SIDE}. "
                "Fetch it again"
            )
        axes.append(np.stack(matrices).astype(np.float32))
    tables = np.stack(axes, -1)
    known = tables[np.isfinite(tables)]
    if not len(known) or known.min() < -_SLACK or known.max() > 1 + _SLACK:
        raise UserError(f"{path} holds coordinates outside of 0..1; the published ones are shares. Fetch it again")
    tables.setflags(write=False)
    return ChartSymmetry(tables)
