"""Render scenes of several people with the labels of detection and DensePose.

All people of a scene are rendered in one pass, so occlusions between them are right.
Shape legend: S image side, P pixels that show people, K people.
"""

from dataclasses import dataclass

import numpy as np

from hcmoco.data import codecs, schema
from hcmoco.rng import make_rng
from hcmoco.synthetic.body.surface_points import surface_points
from hcmoco.synthetic.config import ScenesConfig
from hcmoco.synthetic.render import lighting
from hcmoco.synthetic.render.rasterize import (
    Appearance,
    apply_camera,
    background,
    box_around,
    cull_foreground,
    rasterize,
)
from hcmoco.synthetic.render.raycast import Mesh
from hcmoco.synthetic.scene import environment
from hcmoco.synthetic.scene.placement import SEATS, make_group

_LEAST_VISIBLE = 0.6  # share of each person's pixels; below it the foreground is dropped


@dataclass(frozen=True)
class RenderedScene:
    """An image with all its labels, decoded.

    Attributes:
        rgb: uint8 [S, S, 3].
        person: uint8 [S, S], number 1..K of the visible person, 0 where there is none.
        iuv: uint8 [S, S, 3], I in 0..24, U and V in 0..255 for 0..1, of all people.
        points: for each of the K people float32 [N, 5], as schema.Instance.dp_points; empty if no pixel of the person
            is visible.
        modes: for each of the K people what the pose is (pose.Pose.mode).
    """

    rgb: np.ndarray
    person: np.ndarray
    iuv: np.ndarray
    points: tuple[np.ndarray, ...]
    modes: tuple[str, ...]


def render_scene(config: ScenesConfig, number: int, caster: str | None = None) -> RenderedScene:
    """Render scene `number` of the config's seed and domain.

    Args:
        config: domain, image size S, seed, and how many people and points.
        number: which scene, 0 or larger.
        caster: key of raycast.RAYCASTERS; None: `raycast.raycaster()`. Another one gives the same to rounding.

    Returns:
        The image and its labels: the same arrays for the same arguments, in any order and process.

    Raises:
        UserError: the ray caster is not there.
    """
    stream, size = f"scenes/{config.domain}", config.size
    group = make_group(config, stream, number)
    camera, people = group.camera, group.people
    rng = make_rng(config.seed, f"{stream}/scene", number)
    place = (environment.room if group.indoor else environment.wild)(rng, group.around, camera)
    for posed in people:
        environment.add_support(rng, place.solids, posed.occupant, SEATS)

    first_vertex = np.cumsum([0] + [len(posed.shown) for posed in people])
    first_face = np.cumsum([0] + [len(posed.faces) for posed in people])
    shown = np.concatenate([posed.shown for posed in people])
    faces = np.concatenate([posed.shown_faces + first for posed, first in zip(people, first_vertex, strict=False)])
    bodies = Mesh(shown, faces, caster)
    whole = rasterize(shown, bodies, camera, size)
    owner_P = np.searchsorted(first_face, whole.face, side="right") - 1
    all_K = np.bincount(owner_P, minlength=len(people))

    def enough(seen_P: np.ndarray) -> bool:
        return bool((np.bincount(owner_P[seen_P], minlength=len(people)) >= _LEAST_VISIBLE * all_K).all())

    room, solids, pixels = cull_foreground(place, camera, whole, enough, caster)
    image, _ = background(place, solids, room, bodies, camera, size, pixels.flat)
    person = np.zeros((size, size), np.uint8)
    iuv = np.zeros((size, size, 3), np.uint8)
    points = []
    for k, posed in enumerate(people):
        own = pixels[(pixels.face >= first_face[k]) & (pixels.face < first_face[k + 1])]
        if not len(own.flat):
            points.append(np.zeros((0, 5), np.float32))
            continue
        appearance = Appearance(posed, own.of(first_face[k]))
        places = camera.position + own.rays * own.depth[:, None]
        image.reshape(-1, 3)[own.flat] = lighting.shade(
            place, appearance.color, places, appearance.normal, (bodies, room)
        )
        person.reshape(-1)[own.flat] = k + 1
        iuv.reshape(-1, 3)[own.flat] = np.rint(appearance.iuv * (1, 255, 255))
        rng = make_rng(config.seed, f"{stream}/points", number, k)
        points.append(surface_points(own.flat, appearance.iuv, size, config.num_points, rng))
    rgb = apply_camera(image, make_rng(config.seed, f"{stream}/film", number))
    return RenderedScene(rgb, person, iuv, tuple(points), tuple(posed.occupant.mode for posed in people))


def make_scene(
    config: ScenesConfig, number: int, *, dataset: str, split: str, caster: str | None = None
) -> schema.Scene:
    """Return scene `number` as a record.

    The bytes depend only on the config, the number and the ray caster. They are equal in any order and on any worker
    with the same make of processor.

    Args:
        config: domain, image size, seed, and how many people and points.
        number: which scene, 0 or larger.
        dataset: name that is written into the record.
        split: name that is written into the record. Splits that must not share scenes need disjoint numbers or another
            seed.
        caster: as for `render_scene`.

    Returns:
        The record. Each person of whom at least one pixel is visible is an instance.

    Raises:
        UserError: the ray caster is not there.
    """
    seen = render_scene(config, number, caster)
    instances = []
    for k, points in enumerate(seen.points):
        mask = seen.person == k + 1
        if mask.any():
            instances.append(
                schema.Instance(box_around(mask), codecs.encode_labels(mask.astype(np.uint8) * 255), points)
            )
    return schema.Scene(
        id=f"{dataset}/{config.domain}-{config.seed}-{number}",
        dataset=dataset,
        split=split,
        rgb=codecs.encode_rgb(seen.rgb, config.jpeg_quality),
        width=config.size,
        height=config.size,
        instances=instances,
    )
