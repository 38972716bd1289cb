"""Validate records before anything is trained on them. Every fault is a sentence for people.

Coordinates are x, y in pixels with a pixel's center at +0.5.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from hcmoco.data.body_parts import NUM_CHARTS, decode_parts
from hcmoco.data.codecs import decode_depth, decode_iuv, decode_labels, decode_rgb
from hcmoco.data.containers import MAX_SIDE
from hcmoco.data.schema import Person, Scene

FAR_MM = 20_000
FAR_SHARE = 0.01
NEAR_MM = 100
"""A median below is no person's: depth in meters, or in another unit, was taken for millimeters."""


def check_person(person: Person, joints: int, depth_codec: str = "png16") -> list[str]:
    """Validate one person.

    Args:
        person: any record, however damaged; never raises.
        joints: number of 2D joints of the data set's joint set.
        depth_codec: codec of `person.depth`.

    Returns:
        All that is wrong with it, one sentence each; empty for a valid record.
    """
    reasons = [
        f"the {name} {text!r} is {fault}"
        for name in ("id", "dataset", "split", "subject")
        if (fault := _text_fault(text := getattr(person, name), may_be_empty=name == "subject"))
    ]
    if not isinstance(person.size, int | np.integer) or not 1 <= person.size <= MAX_SIDE:
        return [*reasons, f"the size {person.size!r} is not a whole number from 1 to {MAX_SIDE}"]
    checks: dict[str, tuple[Any, Callable[[Any, int], object]]] = {
        "RGB": (person.rgb, decode_rgb),
        "depth": (person.depth, lambda data, size: _check_depth(data, depth_codec, size)),
        "parts": (person.parts, decode_parts),
        "IUV": (person.iuv, _check_iuv),
        "mask": (person.mask, decode_labels),
        "keypoints": (person.keypoints, lambda values, _: _check_keypoints(np.asarray(values), joints)),
        "3D joints": (person.joints3d, lambda values, _: _check_table(values, 3)),
        "surface points": (person.dp_points, lambda values, _: _check_table(values, 5)),
        "camera": (person.camera, lambda values, _: _check_vector(values, 4, positive=(0, 1))),
        "crop": (person.crop, lambda values, _: _check_vector(values, 5, positive=(2, 3, 4))),
        "box": (person.box, lambda values, size: _check_box(values, size, size)),
    }
    for name, (value, check) in checks.items():
        try:
            if value is not None:
                check(value, person.size)
        except (ValueError, TypeError) as error:
            reasons.append(f"{name}: {error}")
    seen = (
        isinstance(person.keypoints, np.ndarray) and person.keypoints.ndim == 2 and np.any(person.keypoints[:, 2:] == 1)
    )
    if person.rgb is None and person.depth is None and not seen:
        reasons.append("the record has no modality: neither RGB nor depth nor a visible joint")
    return reasons


def check_scene(scene: Scene) -> list[str]:
    """Validate one scene.

    Args:
        scene: any record, however damaged; never raises.

    Returns:
        All that is wrong with it, one sentence each; empty for a valid record.
    """
    reasons = [
        f"the {name} {text!r} is {fault}"
        for name in ("id", "dataset", "split")
        if (fault := _text_fault(text := getattr(scene, name), may_be_empty=False))
    ]
    width, height = scene.width, scene.height
    if not all(isinstance(side, int | np.integer) and 1 <= side <= MAX_SIDE for side in (width, height)):
        return [*reasons, f"the size {width!r} x {height!r} is not of whole numbers from 1 to {MAX_SIDE}"]

    def picture(data: bytes) -> None:
        shape = decode_rgb(data).shape
        if shape[:2] != (height, width):
            raise ValueError(f"the image is {shape[1]} x {shape[0]} pixels, {width} x {height} are declared")

    checks: list[tuple[str, Any, Callable[[Any], None]]] = [("RGB", scene.rgb, picture)]
    for number, instance in enumerate(scene.instances):
        who = f"instance {number}: "
        checks.append((f"{who}box", instance.box, lambda box: _check_box(box, width, height)))
        if instance.mask is not None:
            checks.append((f"{who}mask", instance.mask, lambda mask: _check_instance_mask(mask, width, height)))
        if instance.dp_points is not None:
            checks.append(
                (
                    f"{who}surface points",
                    instance.dp_points,
                    lambda points: _check_surface_points(points, width, height),
                )
            )
    for name, value, check in checks:
        try:
            check(value)
        except (ValueError, TypeError) as error:
            reasons.append(f"{name}: {error}")
    return reasons


def _text_fault(text: object, may_be_empty: bool) -> str | None:
    if not isinstance(text, str):
        return "not a text"
    if not text.strip():
        return None if may_be_empty and not text else "empty"
    try:
        text.encode()
    except UnicodeEncodeError:
        return "not valid Unicode"
    return None


def _check_depth(data: bytes, codec: str, size: int) -> None:
    depth = decode_depth(data, codec, size)
    readings = depth[depth > 0]
    if not len(readings):
        raise ValueError("there is no reading at all")
    far = float(np.mean(readings > FAR_MM))
    if far > FAR_SHARE:
        raise ValueError(f"{far:.0%} of the readings are beyond {FAR_MM // 1000} m; the unit must be millimeters")
    if (median := float(np.median(readings))) < NEAR_MM:
        raise ValueError(f"half of the readings are nearer than {median:g} mm; the unit must be millimeters")


def _check_iuv(data: bytes, size: int) -> None:
    highest = int(decode_iuv(data, size)[..., 0].max())
    if highest > NUM_CHARTS:
        raise ValueError(f"there is a chart {highest}; allowed are 0..{NUM_CHARTS}")


def _check_keypoints(keypoints: np.ndarray, joints: int) -> None:
    if keypoints.shape != (joints, 3):
        raise ValueError(f"the shape is {list(keypoints.shape)}, [{joints}, 3] is needed")
    if not np.isfinite(keypoints).all():
        raise ValueError(f"joint {int(np.flatnonzero(~np.isfinite(keypoints).all(1))[0])} is not finite")
    if not np.isin(keypoints[:, 2], (0, 1)).all():
        raise ValueError(
            f"there is a visibility {keypoints[~np.isin(keypoints[:, 2], (0, 1)), 2][0]:g}; allowed are 0 and 1"
        )


def _check_table(values: np.ndarray, width: int) -> None:
    if np.ndim(values) != 2 or np.shape(values)[1] != width:
        raise ValueError(f"the shape is {list(np.shape(values))}, [N, {width}] is needed")
    if not np.isfinite(values).all():
        raise ValueError("there is a value that is not finite")


def _check_vector(values: np.ndarray, length: int, positive: tuple[int, ...] = ()) -> None:
    if np.shape(values) != (length,) or not np.isfinite(values).all():
        raise ValueError(f"{np.asarray(values).tolist()} is not {length} finite numbers")
    if any(values[at] <= 0 for at in positive):
        raise ValueError(f"{np.asarray(values).tolist()} must be above 0 at {list(positive)}")


def _check_box(box: np.ndarray, width: int, height: int) -> None:
    _check_vector(box, 4)
    x0, y0, x1, y1 = (float(value) for value in box)
    if not (x1 > max(x0, 0) and y1 > max(y0, 0) and x0 < width and y0 < height):
        raise ValueError(f"{[x0, y0, x1, y1]} has no area in the picture")
    if x1 - x0 > 2 * width or y1 - y0 > 2 * height:
        raise ValueError(f"{[x0, y0, x1, y1]} is larger than the {width} x {height} picture")


def _check_instance_mask(data: bytes, width: int, height: int) -> None:
    mask = decode_labels(data)
    if mask.shape != (height, width):
        raise ValueError(f"the image is {mask.shape[1]} x {mask.shape[0]} pixels, {width} x {height} are declared")
    wrong = (mask != 0) & (mask != 255)  # np.isin would be a third of the reading of a scene
    if wrong.any():
        raise ValueError(f"there is a value {mask[wrong][0]}; allowed are 0 and 255")
    if not mask.any():
        raise ValueError("it is empty")


def _check_surface_points(points: np.ndarray, width: int, height: int) -> None:
    _check_table(points, 5)
    xy, chart, uv = points[:, :2], points[:, 2], points[:, 3:]
    if not len(points):
        raise ValueError("there is none; omit the column")
    if (xy < 0).any() or (xy > (width, height)).any():
        raise ValueError("there is a point outside the picture")
    if not np.isin(chart, range(1, NUM_CHARTS + 1)).all():
        raise ValueError(
            f"there is a chart {chart[~np.isin(chart, range(1, NUM_CHARTS + 1))][0]:g}; allowed are 1..{NUM_CHARTS}"
        )
    if (uv < 0).any() or (uv > 1).any():
        raise ValueError("there is a U or V outside 0..1")
