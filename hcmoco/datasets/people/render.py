"""One picture of one person: geometry, camera, light and exact labels.

Shape legend: S image side, P pixels of the person, N points, J joints. Depth is metres along the optical axis. Every label is computed at
the pixel from its place on the template body, so borders are as crisp as the image.
"""

from dataclasses import dataclass

import cv2
import numpy as np

from hcmoco import draws
from hcmoco.datasets.people import clothes, scene, sensor, shade
from hcmoco.datasets.people.figure import Figure, make_figure
from hcmoco.datasets.people.geometry import Camera, Solids
from hcmoco.datasets.people.joints import VISIBILITY_MARGIN, joints31
from hcmoco.datasets.people.settings import PeopleConfig
from hcmoco.datasets.people.surface import limb_position, surface_labels
from hcmoco.datasets.people.trace import Mesh

_SPAN = (0.65, 0.87)  # longer side of the person / side of the image, before anything hides it
_LEAST_SPAN = 0.61  # of what is visible; a scene's foreground is left out rather than go below
_LEAST_VISIBLE = 0.6  # share of the person's pixels, likewise
_FINE = 200  # pixels: from this image side on, surroundings are shaded at half the resolution


@dataclass(frozen=True)
class Rendered:
    """A picture with all its labels, decoded.

    Attributes:
        rgb: uint8 [S, S, 3].
        depth: uint16 [S, S], millimetres as the sensor reads them, 0 = no reading; None outdoors.
        true_depth: float32 [S, S], metres, of person and surroundings, 0 where there is nothing; None outdoors.
        parts: uint8 [S, S], 0..24; iuv: uint8 [S, S, 3]; mask: bool [S, S], the visible person.
        garment: uint8 [S, S], what covers the person (clothes.BARE ...), 255 outside.
        keypoints: float32 [31, 3], x, y, visibility; joints3d: float32 [31, 3], metres in the camera frame. Order of skeletons.PEOPLE_31.
        camera: float32 [4]; crop: float32 [5]; box: float32 [4], as schema.Person has them. The box is that of the visible person.
        visible: share of the person's pixels that nothing hides; mode: what the person does (pose.Pose.mode).
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


@dataclass(frozen=True)
class _Pixels:
    """Pixels that show the person: flat numbers in the image, faces of the figure, corner weights, depth, directions of their rays."""

    flat: np.ndarray  # int [P]
    face: np.ndarray  # int32 [P]
    weights: np.ndarray  # float32 [P, 3]
    depth: np.ndarray  # float32 [P]
    rays: np.ndarray  # float32 [P, 3]

    def __getitem__(self, chosen: np.ndarray) -> "_Pixels":
        return _Pixels(self.flat[chosen], self.face[chosen], self.weights[chosen], self.depth[chosen], self.rays[chosen])


def render_person(config: PeopleConfig, number: int) -> Rendered:
    """Person `number` of the config's seed and domain: the same arrays for the same arguments, in any order and process."""
    stream, size = f"people/{config.domain}", config.size
    figure = make_figure(config.seed, stream, number)
    rng = draws.generator(config.seed, f"{stream}/scene", number)
    indoor = config.domain == "indoor"
    source, width, height = (scene.room_camera if indoor else scene.wild_camera)(rng, figure.occupant)
    place = (scene.room if indoor else scene.wild)(rng, figure.occupant, source)
    camera, crop = _framed(source, figure.shown, size, draws.generator(config.seed, f"{stream}/crop", number))

    body = Mesh(figure.vertices, figure.faces)
    whole = _see(figure, body, camera, size)
    room, solids, pixels = _unhidden(place, camera, whole, size)
    look = _Look(figure, pixels)
    image = _background(place, solids, room, body, camera, size)
    points = camera.position + pixels.rays * pixels.depth[:, None]
    image.reshape(-1, 3)[pixels.flat] = shade.lit(place, look.colour, points, look.normal, (body, room))

    mask = _spread(np.ones(len(pixels.flat), bool), pixels, size)
    garment = _spread(look.cover, pixels, size, 255)
    depth = true_depth = None
    if indoor:
        true_depth = _depth(room, camera, pixels, size)
        cosine = np.abs(np.einsum("pi,pi->p", look.normal, pixels.rays)) / np.linalg.norm(pixels.rays, axis=1)
        noise = draws.generator(config.seed, f"{stream}/sensor", number)
        depth = sensor.measure(true_depth, _spread(cosine, pixels, size, 1), garment == clothes.SCALP, size / crop[2], noise)
        if config.masked_depth:
            depth[~mask] = 0
    joints = joints31(figure.asset, figure.skin, figure.heads)
    in_camera = camera.to_camera(joints)
    flat = camera.project(in_camera)
    seen = _visible(camera, joints, body, room) & (flat >= 0).all(1) & (flat < size).all(1)
    return Rendered(
        rgb=_develop(image, draws.generator(config.seed, f"{stream}/film", number)),
        depth=depth,
        true_depth=true_depth,
        parts=_spread(look.parts, pixels, size),
        iuv=_spread(np.rint(look.iuv * (1, 255, 255)).astype(np.uint8), pixels, size),
        mask=mask,
        garment=garment,
        keypoints=np.concatenate([flat, seen[:, None]], axis=1).astype(np.float32),
        joints3d=in_camera.astype(np.float32),
        camera=np.array([camera.fx, camera.fy, camera.cx, camera.cy], np.float32),
        crop=np.array([*crop, width, height], np.float32),
        box=_box(mask),
        visible=len(pixels.flat) / len(whole.flat),
        mode=figure.occupant.mode,
    )


def _spread(values: np.ndarray, pixels: _Pixels, size: int, fill: float = 0) -> np.ndarray:
    """[S, S, ...]: `values` [P, ...] at the person's pixels, `fill` elsewhere."""
    image = np.full((size * size, *values.shape[1:]), fill, values.dtype)
    image[pixels.flat] = values
    return image.reshape(size, size, *values.shape[1:])


def _depth(room: Mesh, camera: Camera, pixels: _Pixels, size: int) -> np.ndarray:
    """float32 [S, S]: depth without any noise, 0 where there is nothing."""
    depth = room.depth(camera.position, camera.rays(slice(0, size), slice(0, size)))
    depth[depth > 1e30] = 0
    depth[pixels.flat] = pixels.depth
    return depth.reshape(size, size)


def _framed(source: Camera, shown_N3: np.ndarray, size: int, rng: np.random.Generator) -> tuple[Camera, tuple[float, float, float]]:
    """The camera of a square crop that the person fills by _SPAN, and the crop's corner and side in pixels of the source."""
    flat = source.project(source.to_camera(shown_N3))
    low, high = flat.min(0), flat.max(0)
    side = float((high - low).max() / rng.uniform(*_SPAN))
    # Off the middle by up to most of the margin there is.
    spare = 0.8 * (side - (high - low)) / 2
    shift = rng.uniform(-1, 1, 2) * np.minimum(spare, 0.15 * side)
    x0, y0 = (low + high) / 2 - side / 2 + shift
    return source.zoomed(float(x0), float(y0), size / side), (float(x0), float(y0), side)


def _see(figure: Figure, body: Mesh, camera: Camera, size: int) -> _Pixels:
    """Pixels that show the person when nothing else is there."""
    flat = camera.project(camera.to_camera(figure.shown))
    first, last = np.floor(flat.min(0)).astype(int).clip(0, size), (np.ceil(flat.max(0)).astype(int) + 1).clip(0, size)
    columns, rows = (slice(int(a), int(b)) for a, b in zip(first, last, strict=True))
    rays = camera.rays(rows, columns)
    hits = body.hits(camera.position, rays)
    on = np.flatnonzero(hits.face >= 0)
    wide = columns.stop - columns.start
    place = (rows.start + on // wide) * size + columns.start + on % wide
    return _Pixels(place, hits.face[on], hits.weights[on], hits.depth[on], rays[on])


def _unhidden(place: scene.Scene, camera: Camera, pixels: _Pixels, size: int) -> tuple[Mesh, list[Solids], _Pixels]:
    """The surroundings, with the foreground unless it hides too much, and the pixels of the person that remain visible."""
    for solids in ([place.solids, place.front], [place.solids]) if place.front else ([place.solids],):
        room = Mesh(*_joined(solids)[:2])
        seen = ~room.blocked(camera.position, pixels.rays, pixels.depth)
        rows, columns = np.divmod(pixels.flat[seen], size)
        if seen.mean() > _LEAST_VISIBLE and max(np.ptp(rows), np.ptp(columns)) + 1 > _LEAST_SPAN * size:
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


class _Look:
    """What the person's visible pixels show: colour without light, normal, cover and labels."""

    def __init__(self, figure: Figure, pixels: _Pixels):
        asset, ids = figure.asset, figure.face_ids[pixels.face]
        corners = figure.faces[pixels.face]

        def mixed(values: np.ndarray) -> np.ndarray:
            return np.einsum("pk,pk...->p...", pixels.weights, values)

        points, places, groups = mixed(asset.template[corners]), mixed(asset.label_points[corners]), mixed(asset.label_groups[corners])
        self.parts, self.iuv = surface_labels(asset, places, groups, mixed(asset.island_uv[ids]))
        group, position = limb_position(asset, places, groups)
        self.cover = clothes.cover(asset, figure.outfit, points, group, position, asset.face_kind[ids])
        self.colour = clothes.colour(asset, figure.outfit, points, group, self.cover, mixed(asset.lips[corners]))
        normal = mixed(figure.normals[corners]) + clothes.folds(figure.outfit, points, self.cover)
        normal *= np.where(np.einsum("pi,pi->p", normal, pixels.rays) > 0, -1, 1)[:, None]
        self.normal = (normal / (np.linalg.norm(normal, axis=1, keepdims=True) + 1e-9)).astype(np.float32)


def _background(place: scene.Scene, solids: list[Solids], room: Mesh, body: Mesh, camera: Camera, size: int) -> np.ndarray:
    """float32 [S, S, 3]: the surroundings as if the person only threw its shadow on them."""
    step = 1 if size < _FINE else 2
    every = slice(0, size, step)
    rays = camera.rays(every, every)
    hits = room.hits(camera.position, rays)
    there = np.flatnonzero(hits.face >= 0)
    points = camera.position + rays[there] * hits.depth[there, None]
    owners = _joined(solids)[2][hits.face[there]]
    normals = _rounded(np.concatenate([each.rounds() for each in solids]), owners, points, hits.normal[there])
    colour, glow = shade.surroundings([surface for each in solids for surface in each.surfaces], owners, points, normals)
    image = shade.sky(place, rays)
    image[there] = shade.lit(place, colour, points, normals, (body, room), glow)
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


def _develop(image_SS3: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """uint8: exposure, tone curve, the softness of a lens, and noise of a camera."""
    image = cv2.GaussianBlur(shade.tone(_exposed(image_SS3, rng)), (3, 3), rng.uniform(0.45, 0.7))
    grain = rng.standard_normal(image.shape, dtype=np.float32) * np.float32(255 * rng.uniform(0.003, 0.012))
    return np.clip(np.rint(image + grain), 0, 255).astype(np.uint8)


def _visible(camera: Camera, joints_J3: np.ndarray, body: Mesh, room: Mesh) -> np.ndarray:
    """bool [J]: joints that no thing hides, and no part of the body that is nearer than the joint's own flesh."""
    rays = (joints_J3 - camera.position).astype(np.float32)
    own = VISIBILITY_MARGIN / np.linalg.norm(rays, axis=1)
    return (body.depth(camera.position, rays) >= 1 - own) & ~room.blocked(camera.position, rays, 0.999)


def _box(mask: np.ndarray) -> np.ndarray:
    """float32 [4]: x0, y0, x1, y1 around the mask, outer edges of its pixels."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1], np.float32)
