"""Measure the registration and the camera of each (setup, camera) on all of its clips before any clip is read.

Every clip contributes the joints of a few frames spread over it, so memory is a few megabytes however many clips there
are.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from hcmoco.datasets.base import Rejected, Skipped
from hcmoco.datasets.few import calibrated_few, readable, spread
from hcmoco.datasets.io.files import read_inside
from hcmoco.datasets.ntu import registration, skeleton_file
from hcmoco.datasets.ntu.config import COLOR_HEIGHT, COLOR_WIDTH, HEIGHT, WIDTH, NtuConfig
from hcmoco.datasets.ntu.layout import NtuItem
from hcmoco.errors import UserError

FRAMES = 4
"""Frames of a clip that give pairs."""
NEAR, FAR = 0.3, 12.0
"""Meters from the camera between which a joint is plausible."""
_LEAST_INLIERS = 0.6
_MARGIN = 0.25  # of a picture's side: how far outside it a joint's position is still plausible
_CAMERA_P90 = 4.0  # pixels; lens distortion, which fx, fy, cx, cy do not have, stays below


@dataclass(frozen=True)
class Calibration:
    """What one task measures.

    Attributes:
        pair: setup and camera, e.g. S001C001.
        clips: their clips, as (folder of the skeleton file, tag).
        config: of the reader.
    """

    pair: str
    clips: tuple[tuple[str, str], ...]
    config: NtuConfig


def calibrations(config: NtuConfig, items: Sequence[NtuItem | Rejected | Skipped]) -> dict[str, Calibration]:
    """Return one calibration per setup and camera, over all clips that will be read, by name; none without depth."""
    if config.use == "rgb":
        return {}
    clips: dict[str, list[tuple[str, str]]] = {}
    for item in items:
        if isinstance(item, NtuItem):
            clips.setdefault(item.tag.pair, []).append((item.skeletons, item.tag.text))
    return {pair: Calibration(pair, tuple(tags), config) for pair, tags in sorted(clips.items())}


def calibrate(calibration: Calibration) -> dict:
    """Measure the transform from depth to color picture and the depth camera of one setup and camera.

    Returns:
        JSON values. Residuals are in pixels of the depth picture.

        `refused`: a sentence, "" if the fit is good.
        `clips`, `clips_with_pairs`, `unreadable_skeletons`, `pairs`: counts.
        `model`, `transform.matrix`: the transform, rows of [A | b], see registration.py.
        `camera`: fx, fy, cx, cy. Instead `camera_refused`, a sentence, if the joints do not agree on a camera;
            records then have neither camera nor 3D joints.
        `median_px`: median residual of all pairs; `p90_px`: the 90th percentile of the inliers.
        `clip_median_..._px`: spread of the clips' own medians.
    """
    tables, numbers, unreadable = [], [], 0
    for number, (folder, tag) in enumerate(calibration.clips):
        pairs = _pairs(folder, tag)
        unreadable += pairs is None
        if pairs is not None and len(pairs):
            tables.append(pairs)
            numbers.append(np.full(len(pairs), number))
    table = np.concatenate(tables) if tables else np.empty((0, 7))
    of_clip = np.concatenate(numbers) if numbers else np.empty(0, int)
    result = {
        "clips": len(calibration.clips),
        "clips_with_pairs": len(tables),
        "unreadable_skeletons": unreadable,
        "pairs": len(table),
    }
    try:
        return {**result, "refused": "", **_measured(calibration.config, table, of_clip)}
    except _RefusedError as error:
        return {**result, "refused": str(error), **error.figures}
    except ValueError as error:
        return {**result, "refused": str(error)}


class _RefusedError(ValueError):
    """A fit that is not good enough, with its figures."""

    def __init__(self, reason: str, figures: dict):
        super().__init__(reason)
        self.figures = figures


def _measured(config: NtuConfig, table: np.ndarray, of_clip: np.ndarray) -> dict:
    fit = registration.fit(table[:, 3:5], table[:, 2], table[:, 5:7])
    registration.magnification(fit.matrix, float(np.median(table[:, 2])))
    by_clip = [float(np.median(fit.residuals[of_clip == number])) for number in np.unique(of_clip)]
    median, p90 = float(np.median(fit.residuals)), float(np.percentile(fit.residuals[fit.inliers], 90))
    inliers = float(fit.inliers.mean())
    figures = {
        "model": fit.model,
        "inliers": round(inliers, 4),
        "median_px": round(median, 4),
        "p90_px": round(p90, 4),
        "clip_median_p10_px": round(float(np.percentile(by_clip, 10)), 4),
        "clip_median_p90_px": round(float(np.percentile(by_clip, 90)), 4),
        "clip_median_max_px": round(max(by_clip), 4),
        **_camera(table),
        "transform": {"matrix": fit.matrix.tolist()},
    }
    for value, what, limit in (
        (median, "the median residual of its registration", config.max_residual),
        (p90, "the residual of 9 of 10 joints in its registration", config.max_residual_p90),
    ):
        if value > limit:
            raise _RefusedError(f"{what} is {value:.1f} pixels, at most {limit:g} are allowed", figures)
    if inliers < _LEAST_INLIERS:
        raise _RefusedError(
            f"only {inliers:.0%} of the joints agree on a registration, at least {_LEAST_INLIERS:.0%} must", figures
        )
    return figures


def _camera(table: np.ndarray) -> dict:
    """The depth camera from the joints' positions in space, and its residuals; without `camera` if it is refused."""
    try:
        camera, misses = registration.fit_camera(table[:, :3], table[:, 3:5])
    except ValueError as error:
        return {"camera_refused": str(error)}
    median, p90 = (round(float(np.percentile(misses, at)), 4) for at in (50, 90))
    figures = {"camera_median_px": median, "camera_p90_px": p90}
    if p90 > _CAMERA_P90:
        return {
            "camera_refused": f"the residual of 9 of 10 joints is {p90:.1f} pixels, "
            f"at most {_CAMERA_P90:g} are allowed",
            **figures,
        }
    return {"camera": camera.tolist(), **figures}


def _pairs(folder: str, tag: str) -> np.ndarray | None:
    """`pairs_of` the joints in FRAMES frames of a clip, float64 [N, 7]; None if the clip cannot be read."""
    try:
        clip = skeleton_file.parse(read_inside(folder, f"{tag}.skeleton"))
    except ValueError:
        return None
    seen = [bodies for bodies in clip.frames if bodies]
    found = []
    for at in sorted({round(k) for k in np.linspace(0, len(seen) - 1, FRAMES + 2)[1:-1]}) if seen else ():
        for body in seen[at]:
            try:
                found.append(pairs_of(clip.joints(body)))
            except ValueError:
                continue
    return np.concatenate(found) if found else np.empty((0, 7))


def pairs_of(joints: skeleton_file.Joints) -> np.ndarray:
    """Return the joints of one body whose numbers are all plausible.

    Returns:
        float64 [N, 7]: x y z in meters, depth x y and color x y in pixels.
    """
    table = np.column_stack([joints.xyz, joints.depth_xy, joints.color_xy])
    table = table[np.isfinite(table).all(1)]
    near = (table[:, 2] > NEAR) & (table[:, 2] < FAR) & (np.abs(table[:, :2]) < FAR).all(1)
    for columns, size in ((slice(3, 5), (WIDTH, HEIGHT)), (slice(5, 7), (COLOR_WIDTH, COLOR_HEIGHT))):
        share = table[:, columns] / size
        near &= ((share > -_MARGIN) & (share < 1 + _MARGIN)).all(1)
    return table[near]


def with_calibrations(
    config: NtuConfig, items: Sequence[NtuItem | Rejected | Skipped], results: Mapping[str, dict]
) -> list[NtuItem | Rejected | Skipped]:
    """Add registration and camera to the items; those of a refused setup and camera become Rejected.

    Args:
        config: of the reader.
        items: as `layout.items` returns them.
        results: what `calibrate` returned, by name.

    Raises:
        UserError: every clip would be Rejected.
    """

    def measured(item: NtuItem | Rejected | Skipped) -> NtuItem | Rejected | Skipped:
        if not isinstance(item, NtuItem):
            return item
        result = results[item.tag.pair]
        if result["refused"]:
            return Rejected(item.id, f"setup and camera {item.tag.pair!r} are refused: {result['refused']}")
        return replace(item, matrix=flat[item.tag.pair], camera=tuple(result.get("camera", ())))

    flat = {
        pair: tuple(np.ravel(each["transform"]["matrix"]).tolist())
        for pair, each in results.items()
        if not each["refused"]
    }
    found = [measured(item) for item in items]
    if not any(isinstance(item, NtuItem) for item in found):
        reasons = [f"{pair}: {each['refused']}" for pair, each in results.items() if each["refused"]]
        why = f" ({reasons[0]})" if reasons else ""
        raise UserError(f"{config.source}: no clip is left to read{why}; `--check` lists what is missing")
    return found


def sampled(config: NtuConfig, items: Sequence[NtuItem | Rejected | Skipped]) -> Sequence[NtuItem | Rejected | Skipped]:
    """Return the few clips that `prepare --check` reads: of one setup and camera, registered by some of its clips."""
    if config.use == "rgb":
        return spread(readable(items), 2)

    def measure(config: NtuConfig, clips: Sequence[NtuItem]) -> Sequence[NtuItem | Rejected | Skipped]:
        measured = {name: calibrate(each) for name, each in calibrations(config, clips).items()}
        return with_calibrations(config, clips, measured)

    return calibrated_few(config, items, lambda clip: clip.tag.pair, measure)
