"""The surface of DensePose-COCO, SMPL, from the files of DensePose's evaluation data.

A user fetches them (DensePose's `get_eval_data.sh`; their license is non-commercial) into one folder:

    SMPL_subdiv.mat             MATLAB 5: Part_ID_subdiv, U_subdiv, V_subdiv [N], vertex [3, N] in meters,
                                faces [3, F] from 1
    SMPL_SUBDIV_TRANSFORM.mat   MATLAB 5: index [N], the number (from 1) of each vertex's point of the closed surface

UV_Processed.mat, which converters of coordinates use, lacks these vertices and is not needed. Distances are

- computed from that mesh once and cached (`distances=None`): 3072 reference points, about 0.5 % too long; or
- the published ones, for metrics that equal the published evaluator's. They come as Pdist_matrix.pkl, which is read
  without unpickling it (datasets/io/pickles.py) and mapped, so that it takes no memory. A copy of its entry
  `Pdist_matrix` as Pdist_matrix.npy, .npz, .safetensors or .mat is taken before it. It holds the pairs i > j of the
  closed surface's n points at i (i - 1) / 2 + j.
"""

import mmap
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open

from hcmoco.data.body_parts import NUM_CHARTS
from hcmoco.datasets.io.matlab5 import read_matrices
from hcmoco.datasets.io.npy import NPY_DAMAGE
from hcmoco.datasets.io.pickles import read_pickle
from hcmoco.errors import UserError, one_line
from hcmoco.tasks.densepose.metric import mesh
from hcmoco.tasks.densepose.metric.cache import cached, fingerprint
from hcmoco.tasks.densepose.metric.geodesics import Geodesics, chart_scales, full_matrix, lower_triangle
from hcmoco.tasks.densepose.published_files import read_published

NAME = "SMPL"
_VERSION = 1
_REFERENCES = 3072
_SURFACE, _SEAMS = "SMPL_subdiv.mat", "SMPL_SUBDIV_TRANSFORM.mat"
_ENTRY = "Pdist_matrix"
_WHERE = "it is part of DensePose's evaluation data (get_eval_data.sh)"
_LARGEST_UV = 1.01
_LARGEST = 1 << 33  # bytes of a variable; all pairs of the surface's 27,554 points are 3 GB of doubles
_PICKLE = ".pkl"
_FORMATS = (".npy", ".npz", ".safetensors", ".mat", _PICKLE)


def find_distances(folder: Path) -> Path | None:
    """Return the file of published distances in a folder: a converted copy, else the pickle; None if it has neither.

    Raises:
        UserError: there are several copies.
    """
    found = [path for suffix in _FORMATS if (path := folder / f"{_ENTRY}{suffix}").exists()]
    if len(copies := [path for path in found if path.suffix != _PICKLE]) > 1:
        raise UserError(f"{folder} has {' and '.join(path.name for path in copies)}; keep the one that is to be used")
    return found[0] if found else None


def check_files(folder: Path) -> None:
    """Check that the files exist which scores on the published surface need. Distances are not read.

    Raises:
        UserError: one is missing.
    """
    for path in (folder / _SURFACE, folder / _SEAMS):
        if not path.is_file():
            raise UserError(f"{path} is missing; {_WHERE}")
    find_distances(folder)


def published_geodesics(
    folder: Path,
    distances: Path | None = None,
    scale: float | None = None,
    cache: Path | None = None,
    references: int = _REFERENCES,
) -> Geodesics:
    """Return geodesic distances for DensePose-COCO's I, U, V.

    Args:
        folder: holds SMPL_subdiv.mat and SMPL_SUBDIV_TRANSFORM.mat.
        distances: file of the published distances; None computes them from the mesh.
        scale: see `chart_scales`.
        cache: folder for computed distances; None: `cache_folder()`.
        references: number of points between which they are computed.
    Raises:
        UserError: a file is missing or invalid.
    """
    folder = Path(folder)
    surface, transform = folder / _SURFACE, folder / _SEAMS
    chart, u, v = (each.reshape(-1) for each in _variables(surface, "Part_ID_subdiv", "U_subdiv", "V_subdiv"))
    number = _variables(transform, "index")[0].reshape(-1)
    if not len(chart) == len(u) == len(v) == len(number):
        raise UserError(
            f"{surface} has {len(chart)} charts, {len(u)} U, {len(v)} V and {transform.name} {len(number)} numbers; "
            "all must be equal"
        )
    # Comparisons with NaN are false.
    if not (
        np.isin(chart, range(1, NUM_CHARTS + 1)).all()
        and len(np.unique(chart)) == NUM_CHARTS
        and ((number >= 1) & (number <= len(number))).all()
        and ((np.abs(u) <= _LARGEST_UV) & (np.abs(v) <= _LARGEST_UV)).all()
    ):
        raise UserError(
            f"{surface} or {transform.name} is damaged: charts must be 1..{NUM_CHARTS}, U and V 0..1, and numbers 1 to "
            f"{len(number)}; fetch them again"
        )
    index = number.astype(np.int64) - 1
    iuv = np.stack([chart, u, v], axis=1).astype(np.float32)
    if distances is not None:
        return Geodesics(NAME, iuv, index, _stored(Path(distances), int(index.max()) + 1), chart_scales(scale))

    vertex, faces = _variables(surface, "vertex", "faces")
    try:
        vertices, faces = _closed_surface(vertex, faces, index)
    except (ValueError, IndexError) as error:
        raise UserError(f"{surface} is not a mesh that distances can be computed on: {error}") from None
    key = fingerprint(
        {"vertices": vertices, "faces": faces, "iuv": iuv, "index": index, "settings": np.array([_VERSION, references])}
    )
    try:
        arrays = cached(f"geodesics-{NAME}", key, lambda: compute(vertices, faces, iuv, index, references), cache)
    except ValueError as error:
        raise UserError(f"{surface} is not a mesh that distances can be computed on: {error}") from None
    return Geodesics(NAME, iuv, arrays["reference"], full_matrix(arrays["distances"]), chart_scales(scale))


def compute(
    vertices: np.ndarray, faces: np.ndarray, iuv: np.ndarray, index: np.ndarray, references: int
) -> dict[str, np.ndarray]:
    """Compute `distances` float16 [R, R], meters, and `reference` int32 [N] of a closed surface.

    Args:
        vertices, faces: [V, 3], meters, and [F, 3].
        iuv: [N, 3], chart, U, V of the labeled places.
        index: [N], vertex of each place.
        references: R.
    """
    scale = np.full(len(vertices), np.inf)
    np.minimum.at(scale, index, chart_scales()[iuv[:, 0].astype(np.int64)])
    graph = mesh.surface_graph(vertices, faces)
    chosen = mesh.farthest_points(vertices, scale, references)
    reference = mesh.nearest_references(graph, chosen)[index].astype(np.int32)
    return {"distances": mesh.all_distances(graph, chosen), "reference": reference}


def _closed_surface(vertex: np.ndarray, faces: np.ndarray, index: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    vertex, faces = (each.T if each.shape[0] == 3 else each for each in (vertex, faces))
    if vertex.shape != (len(index), 3) or faces.ndim != 2 or faces.shape[1] != 3:
        raise ValueError(
            f"vertex is {list(vertex.shape)} and faces {list(faces.shape)}, needed are [{len(index)}, 3] and [F, 3]"
        )
    if not (faces.min() >= 1 and faces.max() <= len(index)):
        raise ValueError(f"faces must count vertices from 1 to {len(index)}")
    vertices = np.full((index.max() + 1, 3), np.nan)
    vertices[index] = vertex
    if not np.isfinite(vertices).all():
        raise ValueError("some of its points have no place in space")
    joined = index[faces.astype(np.int64) - 1]
    whole = (joined != np.roll(joined, 1, axis=1)).all(1)
    return vertices, joined[whole]


def _variables(path: Path, *names: str) -> list[np.ndarray]:
    found = read_published(path, lambda data: read_matrices(data, _LARGEST), _WHERE)
    for name in names:
        if name not in found or not found[name].size:
            known = ", ".join(sorted(found))
            raise UserError(
                f"{path} has no numbers named {name} but {known or 'nothing'}; fetch DensePose's evaluation data again"
            )
    return [found[name] for name in names]


def _stored(path: Path, count: int):
    """`pairs` from a file of distances between `count` points."""
    array = _read(path)
    pairs = count * (count - 1) // 2
    if array.shape == (count, count):
        flat, lookup = array.reshape(-1), full_matrix(array)
    elif array.shape in ((pairs,), (pairs, 1), (1, pairs)):
        flat = array.reshape(-1)
        lookup = lower_triangle(flat)
    else:
        raise UserError(
            f"{path} holds {list(array.shape)}; distances of {count} points are [{pairs}] (or [{count}, {count}])"
        )
    some = np.asarray(flat[:: max(len(flat) // 10000, 1)], np.float64)
    if not (np.isfinite(some).all() and (some >= 0).all()):
        raise UserError(
            f"{path} holds values that are no distances (negative or not finite); fetch or convert it again"
        )
    return lookup


def _read(path: Path) -> np.ndarray:
    try:
        if path.suffix == ".npy":
            array = np.load(path, mmap_mode="r", allow_pickle=False)
        elif path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as file:
                array = file[_only(path, list(file.files))]
        elif path.suffix == ".safetensors":
            with safe_open(path, "numpy") as file:
                array = file.get_tensor(_only(path, list(file.keys())))
        elif path.suffix == ".mat":
            return _variables(path, _ENTRY)[0]
        elif path.suffix == _PICKLE:
            array = _pickled(path)
        else:
            raise UserError(f"{path}: distances are read from {', '.join(_FORMATS)}")
    except FileNotFoundError:
        raise UserError(
            f"{path} is missing; leave it out to have the distances computed from SMPL_subdiv.mat"
        ) from None
    except (SafetensorError, *NPY_DAMAGE) as error:
        raise UserError(f"{path} does not read as an array ({one_line(error)})") from None
    if array.dtype.kind != "f":
        raise UserError(f"{path} holds {array.dtype}; distances are floating-point numbers, in meters")
    return array


def _pickled(path: Path) -> np.ndarray:
    """The distances of the pickle, as it has them: an array, or lists of numbers."""
    with open(path, "rb") as file:
        if not file.seek(0, 2):
            raise UserError(f"{path} is empty; fetch it again")
        data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    try:
        content = read_pickle(data)
    except ValueError as error:
        raise UserError(f"{path} {one_line(error)}; fetch DensePose's evaluation data again") from None
    found = content
    if isinstance(content, dict):
        found = content[_only(path, [key for key in content if isinstance(key, str)])]
    return found if isinstance(found, np.ndarray) else _of_lists(path, found)


def _of_lists(path: Path, values: Any) -> np.ndarray:
    try:
        array = np.asarray(values)
    except ValueError:
        array = np.empty(0, object)
    if not isinstance(values, list | tuple) or array.dtype.kind != "f":
        raise UserError(f"{path} holds no array {_ENTRY} of floating-point numbers; fetch it again")
    return array


def _only(path: Path, names: list[str]) -> str:
    if _ENTRY not in names and len(names) != 1:
        raise UserError(f"{path} holds {', '.join(names) or 'nothing'}; one array, or one named {_ENTRY}, is needed")
    return _ENTRY if _ENTRY in names else names[0]
