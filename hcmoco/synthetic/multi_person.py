"""Pictures of one to a few people with the labels of detection and DensePose: rendered at once, so that who hides whom is right.

Shape legend: S image side, P pixels that show people, K people.
"""

from dataclasses import dataclass

import numpy as np

from hcmoco.data import codecs, schema
from hcmoco.rng import make_rng
from hcmoco.synthetic.body.surface_points import surface_points
from hcmoco.synthetic.config import ScenesConfig
from hcmoco.synthetic.render import lighting
from hcmoco.synthetic.render.rasterize import Look, background, box_around, develop, see, unhidden
from hcmoco.synthetic.render.raycast import Mesh
from hcmoco.synthetic.scene import environment
from hcmoco.synthetic.scene.placement import SEATS, make_group

_LEAST_VISIBLE = 0.6  # share of each person's pixels; the foreground is left out rather than go below


@dataclass(frozen=True)
class RenderedScene:
    """A picture with all its labels, decoded.

    Attributes:
        rgb: uint8 [S, S, 3].
        person: uint8 [S, S], who is visible: 1..K, 0 where nobody is.
        iuv: uint8 [S, S, 3], I 0..24, U and V 0..255 for 0..1, of everybody.
        points: of each of the K people float32 [N, 5], as schema.Instance.dp_points; empty for those of whom nothing is visible.
        modes: what each of the K people does (pose.Pose.mode).
    """

    rgb: np.ndarray
    person: np.ndarray
    iuv: np.ndarray
    points: tuple[np.ndarray, ...]
    modes: tuple[str, ...]


def render_scene(config: ScenesConfig, number: int) -> RenderedScene:
    """Scene `number` of the config's seed and domain: the same arrays for the same arguments, in any order and process."""
    stream, size = f"scenes/{config.domain}", config.size
    group = make_group(config, stream, number)
    camera, figures = group.camera, group.figures
    rng = make_rng(config.seed, f"{stream}/scene", number)
    place = (environment.room if group.indoor else environment.wild)(rng, group.around, camera)
    for figure in figures:
        environment.support(rng, place.solids, figure.occupant, SEATS)

    first_vertex = np.cumsum([0] + [len(figure.vertices) for figure in figures])
    first_face = np.cumsum([0] + [len(figure.faces) for figure in figures])
    vertices = np.concatenate([figure.vertices for figure in figures])
    faces = np.concatenate([figure.faces + first for figure, first in zip(figures, first_vertex, strict=False)])
    bodies = Mesh(vertices, faces)
    whole = see(np.concatenate([figure.shown for figure in figures]), bodies, camera, size)
    owner_P = np.searchsorted(first_face, whole.face, side="right") - 1
    all_K = np.bincount(owner_P, minlength=len(figures))

    def enough(seen_P: np.ndarray) -> bool:
        return bool((np.bincount(owner_P[seen_P], minlength=len(figures)) >= _LEAST_VISIBLE * all_K).all())

    room, solids, pixels = unhidden(place, camera, whole, enough)
    image = background(place, solids, room, bodies, camera, size)
    person = np.zeros((size, size), np.uint8)
    iuv = np.zeros((size, size, 3), np.uint8)
    points = []
    for k, figure in enumerate(figures):
        own = pixels[(pixels.face >= first_face[k]) & (pixels.face < first_face[k + 1])]
        if not len(own.flat):
            points.append(np.zeros((0, 5), np.float32))
            continue
        look = Look(figure, own.of(first_face[k]))
        places = camera.position + own.rays * own.depth[:, None]
        image.reshape(-1, 3)[own.flat] = lighting.lit(place, look.color, places, look.normal, (bodies, room))
        person.reshape(-1)[own.flat] = k + 1
        iuv.reshape(-1, 3)[own.flat] = np.rint(look.iuv * (1, 255, 255))
        rng = make_rng(config.seed, f"{stream}/points", number, k)
        points.append(surface_points(own.flat, look.iuv, size, config.points, rng))
    rgb = develop(image, make_rng(config.seed, f"{stream}/film", number))
    return RenderedScene(rgb, person, iuv, tuple(points), tuple(figure.occupant.mode for figure in figures))


def make_scene(config: ScenesConfig, number: int, *, dataset: str, split: str) -> schema.Scene:
    """Scene `number` as a record: the same bytes for the same config and number, on any worker of one make of processor and
    in any order.

    Everybody of whom a pixel is visible is an instance. `dataset` and `split` are only written into the record; splits that must not share
    scenes need disjoint numbers or another seed. Raises UserError where the renderer is missing (trace.py).
    """
    seen = render_scene(config, number)
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
