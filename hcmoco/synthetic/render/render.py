"""Render one image of one person with exact labels.

Shape legend: S image side, P pixels of the person, N points, J joints. Depth is meters along the optical axis.
"""

from dataclasses import dataclass

import numpy as np

from hcmoco.rng import make_rng
from hcmoco.synthetic.body import clothing
from hcmoco.synthetic.body.joints import VISIBILITY_MARGIN, joints31
from hcmoco.synthetic.body.posed_body import make_posed_body
from hcmoco.synthetic.config import PeopleConfig
from hcmoco.synthetic.render import depth_sensor, lighting
from hcmoco.synthetic.render.camera import Camera
from hcmoco.synthetic.render.rasterize import (
    Appearance,
    Pixels,
    apply_camera,
    background,
    box_around,
    cull_foreground,
    rasterize,
    spread,
)
from hcmoco.synthetic.render.raycast import Mesh
from hcmoco.synthetic.scene import environment

_SPAN = (0.65, 0.87)  # longer side of the person / side of the image, before anything hides it
_LEAST_SPAN = 0.61  # the same of the visible person; below it the foreground is dropped
_LEAST_VISIBLE = 0.6  # share of the person's pixels; below it the foreground is dropped


@dataclass(frozen=True)
class Rendered:
    """An image with all its labels, decoded.

    Attributes:
        rgb: uint8 [S, S, 3].
        depth: uint16 [S, S], the sensor's readings in millimeters, 0 = no reading; None outdoors.
        true_depth: float32 [S, S], meters, of person and surroundings, 0 where there is nothing; None outdoors.
        parts: uint8 [S, S], 0..24.
        iuv: uint8 [S, S, 3], I in 0..24, U and V in 0..255 for 0..1.
        mask: bool [S, S], the visible person.
        garment: uint8 [S, S], what covers the person (clothing.BARE ...), 255 outside.
        keypoints: float32 [31, 3], x, y in pixels and visibility, in the order of skeletons.PEOPLE_31.
        joints3d: float32 [31, 3], meters in the camera frame, in the same order.
        camera: float32 [4], as schema.Person has it.
        crop: float32 [5], as schema.Person has it.
        box: float32 [4], around the visible person, as schema.Person has it.
        visible: share of the person's pixels that nothing hides, 0..1.
        mode: what the pose is (pose.Pose.mode).
    """

    rgb: np.ndarray
    depth: np.ndarray | None
    true_depth: np.ndarray | None
    parts: np.ndarray
    iuv: np.ndarray
    mask: np.ndarray
    garment: np.ndarray
    keypoints: np.ndarray
    joints3d: np.ndarray
    camera: np.ndarray
    crop: np.ndarray
    box: np.ndarray
    visible: float
    mode: str


def render_person(config: PeopleConfig, number: int, caster: str | None = None) -> Rendered:
    """Render person `number` of the config's seed and domain.

    Args:
        config: domain, image size S and seed.
        number: which person, 0 or larger.
        caster: key of raycast.RAYCASTERS; None: `raycast.raycaster()`. Another one gives the same to rounding.

    Returns:
        The image and its labels: the same arrays for the same arguments, in any order and process.

    Raises:
        UserError: the ray caster is not there.
    """
    stream, size = f"people/{config.domain}", config.size
    posed = make_posed_body(config.seed, stream, number)
    rng = make_rng(config.seed, f"{stream}/scene", number)
    indoor = config.domain == "indoor"
    source, width, height = (environment.room_camera if indoor else environment.wild_camera)(rng, posed.occupant)
    place = (environment.room if indoor else environment.wild)(rng, posed.occupant, source)
    camera, crop = _framed(source, posed.shown, size, make_rng(config.seed, f"{stream}/crop", number))

    body = Mesh(posed.shown, posed.shown_faces, caster)
    whole = rasterize(posed.shown, body, camera, size)

    def enough(seen: np.ndarray) -> bool:
        rows, columns = np.divmod(whole.flat[seen], size)
        return bool(seen.mean() > _LEAST_VISIBLE and max(np.ptp(rows), np.ptp(columns)) + 1 > _LEAST_SPAN * size)

    room, solids, pixels = cull_foreground(place, camera, whole, enough, caster)
    appearance = Appearance(posed, pixels)
    image, room_depth = background(place, solids, room, body, camera, size, pixels.flat)
    points = camera.position + pixels.rays * pixels.depth[:, None]
    image.reshape(-1, 3)[pixels.flat] = lighting.shade(place, appearance.color, points, appearance.normal, (body, room))

    mask = spread(np.ones(len(pixels.flat), bool), pixels, size)
    garment = spread(appearance.cover, pixels, size, 255)
    depth = true_depth = None
    if indoor:
        if room_depth is None:
            room_depth = room.depth(camera.position, camera.rays(slice(0, size), slice(0, size)))
        true_depth = _depth(room_depth, pixels, size)
        cosine = np.abs(np.einsum("pi,pi->p", appearance.normal, pixels.rays)) / np.linalg.norm(pixels.rays, axis=1)
        noise = make_rng(config.seed, f"{stream}/sensor", number)
        depth = depth_sensor.measure(
            true_depth, spread(cosine, pixels, size, 1), garment == clothing.SCALP, size / crop[2], noise
        )
        if config.masked_depth:
            depth[~mask] = 0
    joints = joints31(posed.asset, posed.skin, posed.heads)
    in_camera = camera.to_camera(joints)
    flat = camera.project(in_camera)
    seen = _visible(camera, joints, body, room) & (flat >= 0).all(1) & (flat < size).all(1)
    return Rendered(
        rgb=apply_camera(image, make_rng(config.seed, f"{stream}/film", number)),
        depth=depth,
        true_depth=true_depth,
        parts=spread(appearance.parts, pixels, size),
        iuv=spread(np.rint(appearance.iuv * (1, 255, 255)).astype(np.uint8), pixels, size),
        mask=mask,
        garment=garment,
        keypoints=np.concatenate([flat, seen[:, None]], axis=1).astype(np.float32),
        joints3d=in_camera.astype(np.float32),
        camera=np.array([camera.fx, camera.fy, camera.cx, camera.cy], np.float32),
        crop=np.array([*crop, width, height], np.float32),
        box=box_around(mask),
        visible=len(pixels.flat) / len(whole.flat),
        mode=posed.occupant.mode,
    )


def _depth(room_depth: np.ndarray, pixels: Pixels, size: int) -> np.ndarray:
    """float32 [S, S]: depth without any noise, 0 where there is nothing."""
    depth = np.where(room_depth > 1e30, 0, room_depth)
    depth[pixels.flat] = pixels.depth
    return depth.reshape(size, size)


def _framed(
    source: Camera, shown_N3: np.ndarray, size: int, rng: np.random.Generator
) -> tuple[Camera, tuple[float, float, float]]:
    """The camera of a square crop that the person fills by _SPAN; the crop's corner and side in source pixels."""
    flat = source.project(source.to_camera(shown_N3))
    low, high = flat.min(0), flat.max(0)
    side = float((high - low).max() / rng.uniform(*_SPAN))
    # Off the middle by up to 0.8 of the margin.
    spare = 0.8 * (side - (high - low)) / 2
    shift = rng.uniform(-1, 1, 2) * np.minimum(spare, 0.15 * side)
    x0, y0 = (low + high) / 2 - side / 2 + shift
    return source.zoomed(float(x0), float(y0), size / side), (float(x0), float(y0), side)


def _visible(camera: Camera, joints_J3: np.ndarray, body: Mesh, room: Mesh) -> np.ndarray:
    """bool [J]: joints that neither the surroundings hide nor a part of the body nearer than the joint's own flesh."""
    rays = (joints_J3 - camera.position).astype(np.float32)
    own = VISIBILITY_MARGIN / np.linalg.norm(rays, axis=1)
    return (body.depth(camera.position, rays) >= 1 - own) & ~room.blocked(camera.position, rays, 0.999)
