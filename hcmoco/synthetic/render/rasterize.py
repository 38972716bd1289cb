"""Find the pixels of people, compute what they show, draw the surroundings, and apply a camera's film.

Every label is computed at the pixel from its place on the template body, so borders are as crisp as the image.
Shape legend: S image side, P pixels that show people, N points.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import cv2
import numpy as np

from hcmoco.data.transforms import extent
from hcmoco.synthetic.body import clothing
from hcmoco.synthetic.body.posed_body import PosedBody
from hcmoco.synthetic.body.surface_labels import limb_position, surface_labels
from hcmoco.synthetic.render import lighting
from hcmoco.synthetic.render.camera import Camera, Solids
from hcmoco.synthetic.render.raycast import Mesh
from hcmoco.synthetic.scene import environment
from hcmoco.synthetic.vectors import dot, length, rows

_FINE = 200  # pixels: from this image side on, surroundings are shaded at half the resolution


@dataclass(frozen=True)
class Pixels:
    """Pixels that show a person.

    Attributes:
        flat: int [P], numbers of the pixels, row * S + column.
        face: int32 [P], faces of the body.
        weights: float32 [P, 3], barycentric weights of the face's corners.
        depth: float32 [P], meters along the optical axis.
        rays: float32 [P, 3], world directions of the pixels' rays.
    """

    flat: np.ndarray
    face: np.ndarray
    weights: np.ndarray
    depth: np.ndarray
    rays: np.ndarray

    def __getitem__(self, chosen: np.ndarray) -> "Pixels":
        chosen = np.flatnonzero(chosen)
        return Pixels(
            self.flat[chosen],
            self.face[chosen],
            rows(self.weights, chosen),
            self.depth[chosen],
            rows(self.rays, chosen),
        )

    def of(self, first_face: int) -> "Pixels":
        """Return the same pixels with faces counted from `first_face`, as one body in a mesh of several needs them."""
        return replace(self, face=self.face - first_face)


def spread(values: np.ndarray, pixels: Pixels, size: int, fill: float = 0) -> np.ndarray:
    """Return an image [S, S, ...] with `values` [P, ...] at the person's pixels and `fill` elsewhere."""
    image = np.full((size * size, *values.shape[1:]), fill, values.dtype)
    image[pixels.flat] = values
    return image.reshape(size, size, *values.shape[1:])


def rasterize(shown_N3: np.ndarray, body: Mesh, camera: Camera, size: int) -> Pixels:
    """Return the pixels that show `body` if nothing else is in the scene.

    Args:
        shown_N3: float32 [N, 3], vertices of the body, world, meters.
        body: the same body as a mesh.
        camera: the camera.
        size: image side S in pixels.
    """
    flat = camera.project(camera.to_camera(shown_N3))
    first, last = np.floor(flat.min(0)).astype(int).clip(0, size), (np.ceil(flat.max(0)).astype(int) + 1).clip(0, size)
    across, down = (slice(int(a), int(b)) for a, b in zip(first, last, strict=True))
    rays = camera.rays(down, across)
    hits = body.hits(camera.position, rays)
    on = np.flatnonzero(hits.face >= 0)
    wide = across.stop - across.start
    place = (down.start + on // wide) * size + across.start + on % wide
    return Pixels(place, hits.face[on], rows(hits.weights, on), hits.depth[on], rows(rays, on))


def cull_foreground(
    place: environment.Environment,
    camera: Camera,
    pixels: Pixels,
    enough: Callable[[np.ndarray], bool],
    caster: str | None = None,
) -> tuple[Mesh, list[Solids], Pixels]:
    """Return the surroundings and the pixels of people that remain visible in them.

    Args:
        place: the surroundings.
        camera: the camera.
        pixels: the pixels that show people if nothing hides them.
        enough: given the flags bool [P] of the visible pixels, whether enough is visible. If it returns False, the
            foreground is dropped.
        caster: of the mesh of the surroundings.

    Returns:
        The surroundings as a mesh, the solids that they consist of, and the visible pixels.
    """
    for solids in ([place.solids, place.front], [place.solids]) if place.front else ([place.solids],):
        room = Mesh(*_joined(solids)[:2], caster)
        seen = ~room.blocked(camera.position, pixels.rays, pixels.depth)
        if enough(seen):
            break
    return room, solids, pixels[seen]


def _joined(solids: list[Solids]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Vertices, faces and surface numbers of several meshes as one."""
    vertices, faces, owners = zip(*(group.mesh() for group in solids), strict=True)
    before = np.cumsum([0] + [len(points) for points in vertices])
    surfaces = np.cumsum([0] + [len(group.surfaces) for group in solids])
    return (
        np.concatenate(vertices),
        np.concatenate([part + n for part, n in zip(faces, before, strict=False)]).astype(np.int32),
        np.concatenate([part + n for part, n in zip(owners, surfaces, strict=False)]),
    )


class Appearance:
    """What the visible pixels of a person show.

    Attributes:
        parts: uint8 [P], 1..24.
        iuv: float32 [P, 3], chart 1..24, U and V in 0..1.
        cover: uint8 [P], what covers the body (clothing.BARE ...).
        color: float32 [P, 3], RGB in 0..1 without light.
        normal: float32 [P, 3], unit normals towards the camera.
    """

    def __init__(self, posed: PosedBody, pixels: Pixels):
        asset, ids = posed.asset, posed.face_ids[pixels.face]
        corners = posed.faces.take(pixels.face, axis=0).T

        def mixed(values: list[np.ndarray]) -> np.ndarray:
            """What the corners have, mixed by the weights; stored by coordinate."""
            a, b, c = (weight * value.T for weight, value in zip(pixels.weights.T, values, strict=True))
            return (a + b + c).T

        def at_corners(values: np.ndarray) -> np.ndarray:
            return mixed([values.take(corner, axis=0) for corner in corners])

        points, groups = at_corners(asset.template), at_corners(asset.label_groups)
        islands = mixed(list(asset.island_uv.take(ids, axis=0).transpose(1, 0, 2)))
        self.parts, self.iuv = surface_labels(asset, points, groups, islands)
        group, position = limb_position(asset, points, groups)
        self.cover = clothing.cover(asset, posed.outfit, points, group, position, asset.face_kind[ids])
        self.color = clothing.color(asset, posed.outfit, points, group, self.cover, at_corners(asset.lips))
        normal = at_corners(posed.normals) + clothing.folds(posed.outfit, points, self.cover)
        normal *= np.where(dot(normal, pixels.rays) > 0, -1, 1)[:, None]
        self.normal = (normal / (length(normal) + 1e-9)[:, None]).astype(np.float32)


def background(
    place: environment.Environment,
    solids: list[Solids],
    room: Mesh,
    body: Mesh,
    camera: Camera,
    size: int,
    covered: np.ndarray,
) -> tuple[np.ndarray, np.ndarray | None]:
    """Draw the surroundings, with the shadow of the people but not the people.

    Args:
        place: the surroundings, which hold the light.
        solids: the solids of `room`.
        room: the surroundings as a mesh.
        body: the people as a mesh.
        camera: the camera.
        size: image side S in pixels.
        covered: int [P], pixels that people will be drawn over, row * S + column. They may be left black.

    Returns:
        float32 [S, S, 3], before exposure and tone curve, and the depth of `room` at each pixel as Hits.depth, float32
        [S * S], 0 where people cover it; None where fewer rays were cast than there are pixels.
    """
    step = 1 if size < _FINE else 2
    stride = slice(0, size, step)
    side = len(range(size)[stride])
    drawn = np.ones(side * side, bool)
    if step == 1:
        drawn[covered] = False
    pixels = np.flatnonzero(drawn)
    rays = rows(camera.rays(stride, stride), pixels)
    hits = room.hits(camera.position, rays)
    struck = np.flatnonzero(hits.face >= 0)
    owners = _joined(solids)[2].take(hits.face[struck])
    order = np.argsort(owners.astype(np.uint16), kind="stable")  # of 16 bits, so a radix sort
    struck, owners = struck[order], owners[order]
    points = camera.position + rows(rays, struck) * hits.depth[struck, None]
    facing = rows(hits.normal, struck)
    normals = _rounded(np.concatenate([group.rounds() for group in solids]), owners, points, facing)
    color, glow = lighting.surroundings(
        [surface for group in solids for surface in group.surfaces], owners, points, normals
    )
    missed = np.flatnonzero(hits.face < 0)
    sky = lighting.sky(place, rows(rays, missed))
    planes = np.zeros((3, side * side), sky.dtype)
    planes[:, pixels[missed]] = sky.T
    planes[:, pixels[struck]] = lighting.shade(place, color, points, normals, (body, room), glow).T
    image = cv2.merge(list(planes.reshape(3, side, side)))
    if step == 1:
        depth = np.zeros(size * size, np.float32)
        depth[pixels] = hits.depth
        return image, depth
    # Sample i of the small image is pixel step * i of the large one.
    matrix = np.array([[step, 0, 0], [0, step, 0]], np.float32)
    image = cv2.warpAffine(image, matrix, (size, size), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return image, None


def _rounded(rounds_S6: np.ndarray, owner_N: np.ndarray, points_N3: np.ndarray, normals_N3: np.ndarray) -> np.ndarray:
    """The faces' normals, with those on balls and poles replaced by those of the smooth shape."""
    smooth = np.flatnonzero((rounds_S6[:, 3] > 0).take(owner_N))
    of = rows(rounds_S6, owner_N[smooth])
    outward = (rows(points_N3, smooth) - of[:, :3]) * of[:, 3:]
    normals = normals_N3.copy(order="K")
    normals.T[:, smooth] = outward.T / (length(outward) + 1e-12)
    return normals


def _exposed(image_SS3: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The image under automatic exposure, which puts its brighter parts somewhere below white."""
    bright = np.percentile(image_SS3[::4, ::4].mean(-1), 90)
    return image_SS3 * np.float32(np.clip(rng.uniform(0.5, 0.8) / (bright + 1e-3), 0.65, 1.7))


def apply_camera(image_SS3: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Apply exposure, tone curve, the softness of a lens and the noise of a camera.

    Args:
        image_SS3: float32 [S, S, 3], lit colors; 1 is a well lit white.
        rng: source of the draws.

    Returns:
        uint8 [S, S, 3].
    """
    image = cv2.GaussianBlur(lighting.tone(_exposed(image_SS3, rng)), (3, 3), rng.uniform(0.45, 0.7))
    grain = rng.standard_normal(image.shape, dtype=np.float32) * np.float32(255 * rng.uniform(0.003, 0.012))
    return np.clip(np.rint(image + grain), 0, 255).astype(np.uint8)


def box_around(mask: np.ndarray) -> np.ndarray:
    """Return the box x0, y0, x1, y1 around a mask, float32 [4], at the outer edges of its pixels."""
    box = extent(mask)
    assert box is not None, "the mask is empty"
    return box.astype(np.float32)
