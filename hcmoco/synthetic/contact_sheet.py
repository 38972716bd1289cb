"""Draw records and their labels as one image, to check them by eye.

Shape legend: T side of a tile in pixels.
"""

from collections.abc import Callable, Sequence

import cv2
import numpy as np

from hcmoco.data import codecs
from hcmoco.data.schema import Instance, Person, Scene
from hcmoco.data.skeletons import COCO_17, MPII_16, PEOPLE_31
from hcmoco.synthetic.person import DEPTH_CODEC

_GAP = 4  # pixels between tiles
_WIDTH = 1600  # pixels; what is wider is shown too small to see anything
_SEEN, _HIDDEN, _BONE = (60, 255, 60), (255, 40, 40), (255, 225, 40)
_COCO_EDGES = (
    ("left_ankle", "left_knee"),
    ("left_knee", "left_hip"),
    ("right_ankle", "right_knee"),
    ("right_knee", "right_hip"),
    ("left_hip", "right_hip"),
    ("left_shoulder", "left_hip"),
    ("right_shoulder", "right_hip"),
    ("left_shoulder", "right_shoulder"),
    ("left_shoulder", "left_elbow"),
    ("right_shoulder", "right_elbow"),
    ("left_elbow", "left_wrist"),
    ("right_elbow", "right_wrist"),
    ("left_eye", "right_eye"),
    ("nose", "left_eye"),
    ("nose", "right_eye"),
    ("left_eye", "left_ear"),
    ("right_eye", "right_ear"),
)
_CROWD = (160, 160, 160)


def _palette() -> np.ndarray:
    """uint8 [256, 3]: black for 0, then hues a golden ratio apart in three brightnesses."""
    number = np.arange(256)
    hsv = np.stack(
        [number * 0.618034 % 1 * 180, np.where(number % 2, 230, 150), np.where(number % 3 == 0, 160, 250)], axis=1
    )
    colors = cv2.cvtColor(hsv.astype(np.uint8)[None], cv2.COLOR_HSV2RGB)[0]
    colors[0] = 0
    return colors


def contact_sheet(persons: list[Person], tile: int = 192) -> np.ndarray:
    """Draw one column of tiles for each person, as many beside each other as a screen shows, the others below.

    The rows of a column are RGB, depth, parts, IUV, the COCO joints and the other joints. Visible joints are green,
    hidden ones red. Near depth is red, far depth blue, and pixels without a reading are black. Joints are drawn on the
    depth of a person without RGB. A tile whose modality is missing is dark; a row that no person has is omitted.

    Args:
        persons: records of the joint set `people-31`, with depth in DEPTH_CODEC.
        tile: T.

    Returns:
        uint8 [bands * rows * (T + gap), columns * (T + gap), 3], RGB.

    Raises:
        ValueError: a person has neither RGB nor depth.
    """
    columns = []
    drawn = [
        [person.rgb, person.depth, person.parts, person.iuv, person.keypoints, person.keypoints] for person in persons
    ]
    shown = [row for row, column in enumerate(zip(*drawn, strict=True)) if any(value is not None for value in column)]
    others = [joint for joint in PEOPLE_31.joints if joint not in COCO_17.joints]
    for person in persons:
        if person.rgb is None and person.depth is None:
            raise ValueError(f"{person.id} has neither RGB nor depth to draw on")
        rgb = _tile(person.rgb, tile, lambda data: codecs.decode_rgb(data), cv2.INTER_CUBIC)
        depth = _tile(person.depth, tile, lambda data: _depth_colors(codecs.decode_depth(data, DEPTH_CODEC)))
        picture = depth if person.rgb is None else rgb
        tiles = [
            rgb,
            depth,
            _tile(person.parts, tile, lambda data: _palette()[codecs.decode_labels(data)]),
            _tile(person.iuv, tile, lambda data: _iuv_colors(codecs.decode_iuv(data))),
            _joints(picture, person, tile, COCO_17.joints, _COCO_EDGES),
            _joints((picture * 0.55).astype(np.uint8), person, tile, others, MPII_16.edges),
        ]
        columns.append(np.concatenate([np.pad(tiles[row], ((0, _GAP), (0, _GAP), (0, 0))) for row in shown]))
    return _in_bands(columns)


def _in_bands(columns: list[np.ndarray]) -> np.ndarray:
    """Join columns of one size in bands of at most _WIDTH pixels, which hold about the same number of columns.

    There are a few black rows between two bands.
    """
    width = columns[0].shape[1]
    bands = -(-len(columns) // max(1, _WIDTH // width))
    across = -(-len(columns) // bands)
    columns = columns + [np.zeros_like(columns[0])] * (-len(columns) % across)
    rows = [np.concatenate(columns[first : first + across], axis=1) for first in range(0, len(columns), across)]
    between = np.zeros((4 * _GAP, across * width, 3), np.uint8)
    return np.concatenate([piece for row in rows for piece in (between, row)][1:])


def scene_sheet(scenes: Sequence[Scene], tile: int = 288) -> np.ndarray:
    """Draw one column of tiles for each scene, as many beside each other as a screen shows, the others below.

    The rows of a column are the image, its instances and their charts. Each instance has a color (crowds are gray) for
    its box, its mask and the rims of its annotated points; a point has the hue of its chart. In the third row a pixel
    of a mask shows chart, U and V of the nearest annotated point of its person. Images are scaled to fit the tile.

    Args:
        scenes: records with an RGB image.
        tile: T.

    Returns:
        uint8 [bands * 3 * (T + gap), columns * (T + gap), 3], RGB.
    """
    columns = []
    for scene in scenes:
        scale = tile / max(scene.width, scene.height)
        picture = codecs.decode_rgb(scene.rgb)
        how = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
        picture = cv2.resize(picture, (round(scene.width * scale), round(scene.height * scale)), interpolation=how)
        marked, charts = picture.copy(), np.zeros_like(picture)
        for number, instance in enumerate(scene.instances):
            _mark(marked, charts, instance, _CROWD if instance.crowd else _palette()[number % 250 + 1].tolist(), scale)
        high, wide = tile + _GAP - picture.shape[0], tile + _GAP - picture.shape[1]
        columns.append(
            np.concatenate([np.pad(image, ((0, high), (0, wide), (0, 0))) for image in (picture, marked, charts)])
        )
    return _in_bands(columns)


def _mark(image: np.ndarray, charts: np.ndarray, instance: Instance, color: Sequence[int], scale: float) -> None:
    """Draw one instance into the image of instances and, if it has points, into the image of charts."""
    mask = None
    if instance.mask is not None:
        mask = cv2.resize(codecs.decode_labels(instance.mask), image.shape[1::-1], interpolation=cv2.INTER_NEAREST) > 0
        image[mask] = (0.55 * image[mask] + 0.45 * np.array(color)).astype(np.uint8)
    points = instance.dp_points if instance.dp_points is not None else np.zeros((0, 5), np.float32)
    shown = _iuv_colors(np.rint(points[None, :, 2:] * (1, 255, 255)).astype(np.uint8))[0]
    if mask is not None and len(points):
        rows, columns = np.nonzero(mask)
        places = np.column_stack([columns, rows]).astype(np.float32) + 0.5
        nearest = np.concatenate(
            [
                ((part[:, None] - points[:, :2] * scale) ** 2).sum(2).argmin(1)
                for part in np.array_split(places, len(places) // 4096 + 1)
            ]
        )
        charts[mask] = shown[nearest]
    for (x, y), hue in zip(points[:, :2] * scale * 8, shown.tolist(), strict=True):
        cv2.circle(image, (round(float(x)), round(float(y))), 13, hue, -1, cv2.LINE_AA, 3)
    x0, y0, x1, y1 = (round(float(value) * scale) for value in instance.box)
    cv2.rectangle(image, (x0, y0), (x1 - 1, y1 - 1), tuple(color), 1)


def _tile(
    data: bytes | None, tile: int, show: Callable[[bytes], np.ndarray], how: int = cv2.INTER_NEAREST
) -> np.ndarray:
    return np.full((tile, tile, 3), 24, np.uint8) if data is None else _scaled(show(data), tile, how)


def _scaled(image: np.ndarray, tile: int, how: int) -> np.ndarray:
    return cv2.resize(
        image, (tile, tile), interpolation=cv2.INTER_AREA if how == cv2.INTER_CUBIC and len(image) > tile else how
    )


def _depth_colors(depth: np.ndarray) -> np.ndarray:
    known = depth > 0
    if not known.any():
        return np.zeros((*depth.shape, 3), np.uint8)
    low, high = np.percentile(depth[known], (1, 99))
    near = np.clip(1 - (depth - low) / max(high - low, 1), 0, 1)
    colors = cv2.cvtColor(cv2.applyColorMap((40 + 215 * near).astype(np.uint8), cv2.COLORMAP_TURBO), cv2.COLOR_BGR2RGB)
    return np.where(known[..., None], colors, 0).astype(np.uint8)


def _iuv_colors(iuv: np.ndarray) -> np.ndarray:
    """Hue for the chart, brightness in a fine grid of U and V."""
    base = _palette()[iuv[..., 0]].astype(np.float32)
    grid = (iuv[..., 1] // 32 + iuv[..., 2] // 32) % 2
    shade = 0.55 + 0.3 * iuv[..., 2:] / 255 + 0.2 * grid[..., None]
    return np.clip(base * shade, 0, 255).astype(np.uint8)


def _joints(image: np.ndarray, person: Person, tile: int, names, edges) -> np.ndarray:
    image = image.copy()
    if person.keypoints is None:
        return image
    scale = tile / person.size
    # A joint that the source lacks is all zero and is not drawn.
    places = {
        joint: (point[:2] * scale, point[2] > 0)
        for joint, point in zip(PEOPLE_31.joints, person.keypoints, strict=True)
        if point.any()
    }

    def pixel(point: np.ndarray) -> tuple[int, int]:
        return int(np.clip(point[0], -999, 9999) * 8), int(np.clip(point[1], -999, 9999) * 8)

    for a, b in edges:
        if a in places and b in places:
            cv2.line(image, pixel(places[a][0]), pixel(places[b][0]), _BONE, 1, cv2.LINE_AA, 3)
    for name in names:
        if name not in places:
            continue
        point, seen = places[name]
        cv2.circle(image, pixel(point), round(8 * max(tile / 90, 1.5)), _SEEN if seen else _HIDDEN, -1, cv2.LINE_AA, 3)
    return image
