"""The surface of the synthetic people: distances on the mean adult's body, computed once per machine."""

from pathlib import Path

import numpy as np

from hcmoco.synthetic.body.mesh import BODY, Asset, load_asset
from hcmoco.synthetic.body.surface_labels import surface_labels
from hcmoco.tasks.densepose.metric import mesh
from hcmoco.tasks.densepose.metric.cache import cached, fingerprint
from hcmoco.tasks.densepose.metric.geodesics import Geodesics, chart_scales, full_matrix

NAME = "people"
# Raise it with every change of what is computed here or in `mesh`.
_VERSION = 1
_LONGEST_EDGE = 0.03  # meters
_REFERENCES = 3072
# Corners are labeled a little inside their triangle, where it is clear which chart or island they belong to.
_INWARDS = 0.02


def people_geodesics(scale: float | None = None, folder: Path | None = None) -> Geodesics:
    """Return geodesic distances on the template of `hcmoco.synthetic`, for the I, U, V of its surface labels.

    The surface is the body alone, 1.7 m tall, at rest; hair, eyes and clothes have the labels of the body below. Its
    charts are numbered as DensePose-COCO's and cut the body at nearly the same places, so the published scales are
    used. (The mean distance between the points of a part, which those scales are on SMPL, is here 0.32 m on the torso,
    0.08 on a hand, 0.12 on a foot, 0.19 and 0.16 on a leg, 0.12 and 0.10 on an arm, 0.16 on the head.) Metrics are
    comparable among synthetic people only, because U and V are parametrized in another way.

    The mean error of a place is 13 mm, 7 to 10 mm on hands and feet (from I, U, V and from the spacing of the reference
    points), which costs less than 1 % of similarity. Computing takes about 10 s on a core and 150 MB.

    Args:
        scale: see `chart_scales`.
        folder: of the cache; None: `cache_folder()`.
    """
    asset = load_asset()
    body, islands = body_faces(asset)
    corners = np.concatenate(
        [
            np.broadcast_to(np.arange(len(body))[:, None, None], (len(body), 3, 1)),
            np.tile(np.eye(3), (len(body), 1, 1)),
        ],
        2,
    )
    depends = {"vertices": asset.template, "faces": body, "labels": corner_labels(asset, body, islands, corners)}
    key = fingerprint(depends | {"settings": np.array([_VERSION, _LONGEST_EDGE, _REFERENCES, _INWARDS])})
    arrays = cached(f"geodesics-{NAME}", key, lambda: compute(asset), folder)
    pairs = full_matrix(arrays["distances"])
    return Geodesics(NAME, arrays["iuv"], arrays["reference"], pairs, chart_scales(scale))


def compute(asset: Asset, references: int = _REFERENCES) -> dict[str, np.ndarray]:
    """Compute the cached arrays: `distances` float16 [R, R], meters, `iuv` float32 [L, 3], `reference` int32 [L].

    Reference points are spread evenly in units of the scale of their chart, so hands and feet have more of them.
    """
    body, islands = body_faces(asset)
    used, compact = np.unique(body, return_inverse=True)
    vertices, faces, places = mesh.split_long_edges(asset.template[used], compact.reshape(-1, 3), _LONGEST_EDGE)
    iuv = corner_labels(asset, body, islands, places)
    corner = faces.reshape(-1)
    scale = np.full(len(vertices), np.inf)
    np.minimum.at(scale, corner, chart_scales()[iuv[:, 0].astype(np.int64)])
    graph = mesh.surface_graph(vertices, faces)
    chosen = mesh.farthest_points(vertices, scale, references)
    reference = mesh.nearest_references(graph, chosen)[corner].astype(np.int32)
    return {"distances": mesh.all_distances(graph, chosen), "iuv": iuv, "reference": reference}


def body_faces(asset: Asset) -> tuple[np.ndarray, np.ndarray]:
    """Return the faces of the body, int64 [F, 3], and the island coordinates of their corners."""
    return asset.faces[asset.face_kind == BODY].astype(np.int64), asset.island_uv[asset.face_kind == BODY]


def corner_labels(asset: Asset, body: np.ndarray, islands: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Return float32 [3 F', 3]: chart, U, V at the corners of the smaller triangles.

    Args:
        asset: the template.
        body, islands: see `body_faces`.
        places: of the corners, see `mesh.split_long_edges`.
    """
    places = places.copy()
    places[:, :, 1:] += _INWARDS * (places[:, :, 1:].mean(1, keepdims=True) - places[:, :, 1:])
    face, weights = places[:, :, 0].astype(np.int64).reshape(-1), places[:, :, 1:].reshape(-1, 3).astype(np.float32)

    def at_corners(values: np.ndarray) -> np.ndarray:
        return np.einsum("lk,lkc->lc", weights, values)

    corners = body[face]
    return surface_labels(
        asset, at_corners(asset.template[corners]), at_corners(asset.label_groups[corners]), at_corners(islands[face])
    )[1]
