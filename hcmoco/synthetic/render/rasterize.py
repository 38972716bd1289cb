"""From geometry to pixels, whoever is in the picture: what rays meet, how it looks under the light, what a camera makes of it.

Shape legend: S image side, P pixels that show people, N points. Every label is computed at the pixel from its place on the template body,
so borders are as crisp as the image.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import cv2
import numpy as np

from hcmoco.data.transforms import extent
from hcmoco.synthetic.body import clothing
from hcmoco.synthetic.body.figure import Figure
from hcmoco.synthetic.body.surface_labels import limb_position, surface_labels
from hcmoco.synthetic.render import lighting
from hcmoco.synthetic.render.camera import Camera, Solids
from hcmoco.synthetic.render.raycast import Mesh
from hcmoco.synthetic.scene import environment

_FINE = 200  # pixels: from this image side on, surroundings are shaded at half the resolution


@dataclass(frozen=True)
class Pixels:
    """Pixels that show the person: flat numbers in the image, faces of the figure, corner weights, depth, directions of their rays."""

    flat: np.ndarray  # int [P]
    face: np.ndarray  # int32 [P]
    weights: np.ndarray  # float32 [P, 3]
    depth: np.ndarray  # float32 [P]
    rays: np.ndarray  # float32 [P, 3]

    def __getitem__(self, chosen: np.ndarray) -> "Pixels":
        return Pixels(self.flat[chosen], self.face[chosen], self.weights[chosen], self.depth[chosen], self.rays[chosen])

    def of(self, first_face: int) -> "Pixels":
        """The same pixels with faces counted from `first_face`: those of one figure in a mesh of several."""
        return replace(self, face=self.face - first_face)


def spread(values: np.ndarray, pixels: Pixels, size: int, fill: float = 0) -> np.ndarray:
    """[S, S, ...]: `values` [P, ...] at the person's pixels, `fill` elsewhere."""
    image = np.full((size * size, *values.shape[1:]), fill, values.dtype)
    image[pixels.flat] = values
    return image.reshape(size, size, *values.shape[1:])


def see(shown_N3: np.ndarray, body: Mesh, camera: Camera, size: int) -> Pixels:
    """Pixels that show `body` when nothing else is there; `shown_N3` are its vertices."""
    flat = camera.project(camera.to_camera(shown_N3))
    first, last = np.floor(flat.min(0)).astype(int).clip(0, size), (np.ceil(flat.max(0)).astype(int) + 1).clip(0, size)
    columns, rows = (slice(int(a), int(b)) for a, b in zip(first, last, strict=True))
    rays = camera.rays(rows, columns)
    hits = body.hits(camera.position, rays)
    on = np.flatnonzero(hits.face >= 0)
    wide = columns.stop - columns.start
    place = (rows.start + on // wide) * size + columns.start + on % wide
    return Pixels(place, hits.face[on], hits.weights[on], hits.depth[on], rays[on])


def unhidden(
    place: environment.Scene, camera: Camera, pixels: Pixels, enough: Callable[[np.ndarray], bool]
) -> tuple[Mesh, list[Solids], Pixels]:
    """The surroundings and the pixels of people that remain visible.

    The foreground is among the surroundings unless `enough`, asked with the flags bool [P] of what it leaves visible, says no.
    """
    for solids in ([place.solids, place.front], [place.solids]) if place.front else ([place.solids],):
        room = Mesh(*_joined(solids)[:2])
        seen = ~room.blocked(camera.position, pixels.rays, pixels.depth)
        if enough(seen):
            break
    return room, solids, pixels[seen]


def _joined(solids: list[Solids]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Vertices, faces and surface numbers of several meshes as one."""
    vertices, faces, owners = zip(*(each.mesh() for each in solids), strict=True)
    before = np.cumsum([0] + [len(each) for each in vertices])
    surfaces = np.cumsum([0] + [len(each.surfaces) for each in solids])
    return (
        np.concatenate(vertices),
        np.concatenate([each + n for each, n in zip(faces, before, strict=False)]).astype(np.int32),
        np.concatenate([each + n for each, n in zip(owners, surfaces, strict=False)]),
    )


class Look:
    """What the person's visible pixels show: colour without light, normal, cover and labels."""

    def __init__(self, figure: Figure, pixels: Pixels):
        asset, ids = figure.asset, figure.face_ids[pixels.face]
        corners = figure.faces[pixels.face]

        def mixed(values: np.ndarray) -> np.ndarray:
            return np.einsum("pk,pk...->p...", pixels.weights, values)

        points, places, groups = (
            mixed(asset.template[corners]),
            mixed(asset.label_points[corners]),
            mixed(asset.label_groups[corners]),
        )
        self.parts, self.iuv = surface_labels(asset, places, groups, mixed(asset.island_uv[ids]))
        group, position = limb_position(asset, places, groups)
        self.cover = clothing.cover(asset, figure.outfit, points, group, position, asset.face_kind[ids])
        self.color = clothing.color(asset, figure.outfit, points, group, self.cover, mixed(asset.lips[corners]))
        normal = mixed(figure.normals[corners]) + clothing.folds(figure.outfit, points, self.cover)
        normal *= np.where(np.einsum("pi,pi->p", normal, pixels.rays) > 0, -1, 1)[:, None]
        self.normal = (normal / (np.linalg.norm(normal, axis=1, keepdims=True) + 1e-9)).astype(np.float32)


def background(
    place: environment.Scene, solids: list[Solids], room: Mesh, body: Mesh, camera: Camera, size: int
) -> np.ndarray:
    """float32 [S, S, 3]: the surroundings as if the person only threw its shadow on them."""
    step = 1 if size < _FINE else 2
    every = slice(0, size, step)
    rays = camera.rays(every, every)
    hits = room.hits(camera.position, rays)
    there = np.flatnonzero(hits.face >= 0)
    points = camera.position + rays[there] * hits.depth[there, None]
    owners = _joined(solids)[2][hits.face[there]]
    normals = _rounded(np.concatenate([each.rounds() for each in solids]), owners, points, hits.normal[there])
    color, glow = lighting.surroundings(
        [surface for each in solids for surface in each.surfaces], owners, points, normals
    )
    image = lighting.sky(place, rays)
    image[there] = lighting.lit(place, color, points, normals, (body, room), glow)
    side = len(range(size)[every])
    image = image.reshape(side, side, 3)
    if step > 1:
        # Sample i of the small image is pixel step * i of the large one.
        matrix = np.array([[step, 0, 0], [0, step, 0]], np.float32)
        image = cv2.warpAffine(image, matrix, (size, size), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return image


def _rounded(rounds_S6: np.ndarray, owner_N: np.ndarray, points_N3: np.ndarray, normals_N3: np.ndarray) -> np.ndarray:
    """The faces' normals, with those on balls and poles replaced by those of the smooth shape."""
    smooth = np.flatnonzero(rounds_S6[owner_N, 3] > 0)
    of = rounds_S6[owner_N[smooth]]
    outward = (points_N3[smooth] - of[:, :3]) * of[:, 3:]
    normals = normals_N3.copy()
    normals[smooth] = outward / (np.linalg.norm(outward, axis=1, keepdims=True) + 1e-12)
    return normals


def _exposed(image_SS3: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The picture as an automatic exposure would take it: its brighter parts somewhere below white."""
    bright = np.percentile(image_SS3[::4, ::4].mean(-1), 90)
    return image_SS3 * np.float32(np.clip(rng.uniform(0.5, 0.8) / (bright + 1e-3), 0.65, 1.7))


def develop(image_SS3: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """uint8: exposure, tone curve, the softness of a lens, and noise of a camera."""
    image = cv2.GaussianBlur(lighting.tone(_exposed(image_SS3, rng)), (3, 3), rng.uniform(0.45, 0.7))
    grain = rng.standard_normal(image.shape, dtype=np.float32) * np.float32(255 * rng.uniform(0.003, 0.012))
    return np.clip(np.rint(image + grain), 0, 255).astype(np.uint8)


def box_around(mask: np.ndarray) -> np.ndarray:
    """float32 [4]: x0, y0, x1, y1 around the mask, outer edges of its pixels."""
    box = extent(mask)
    assert box is not None, "there is always somebody to be seen"
    return box.astype(np.float32)
