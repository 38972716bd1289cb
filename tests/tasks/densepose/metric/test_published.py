"""Files of the published layout, written here: a sphere cut into 24 charts instead of the body."""

import pickle

import numpy as np
import pytest
from safetensors.numpy import save_file
from scipy.io import savemat

from hcmoco.errors import UserError
from hcmoco.rng import make_rng
from hcmoco.tasks.densepose.metric import read_geodesics
from hcmoco.tasks.densepose.metric.geodesics import chart_scales
from hcmoco.tasks.densepose.metric.published import published_geodesics
from tests.helpers.mutations import blank, flip_bits, insert, truncate

ROWS, COLUMNS = 17, 48


@pytest.fixture(scope="module")
def sphere():
    """A globe of 24 slices (charts); the vertices where two meet, and the poles, occur once in each of them, as at the
    body's seams.

    Returns points [V, 3] of the closed surface, the numbers of the N vertices' points, their labels [N, 3], and faces
    [F, 3] of vertices.
    """
    number, points, index, labels, faces = {}, [], [], [], []
    for chart in range(24):
        first = len(labels)
        for row in range(ROWS):
            for step in range(COLUMNS // 24 + 1):
                column = (chart * (COLUMNS // 24) + step) % COLUMNS if 0 < row < ROWS - 1 else 0
                if (row, column) not in number:
                    number[row, column] = len(points)
                    up, turn = np.pi * row / (ROWS - 1), 2 * np.pi * column / COLUMNS
                    points.append([np.sin(up) * np.cos(turn), np.sin(up) * np.sin(turn), np.cos(up)])
                index.append(number[row, column])
                labels.append([chart + 1, step / (COLUMNS // 24), row / (ROWS - 1)])
        wide = COLUMNS // 24 + 1
        for row in range(ROWS - 1):
            for step in range(wide - 1):
                a, b = first + row * wide + step, first + row * wide + step + 1
                faces += [[a, a + wide, b + wide], [a, b + wide, b]]
    return np.array(points), np.array(index), np.array(labels), np.array(faces)


@pytest.fixture
def folder(tmp_path, sphere, monkeypatch):
    monkeypatch.setenv("HCMOCO_HOME", str(tmp_path / "home"))
    points, index, labels, faces = sphere
    columns = {"Part_ID_subdiv": labels[:, :1], "U_subdiv": labels[:, 1:2], "V_subdiv": labels[:, 2:]}
    savemat(tmp_path / "SMPL_subdiv.mat", {**columns, "vertex": points[index].T, "faces": (faces + 1).T.astype(float)})
    savemat(tmp_path / "SMPL_SUBDIV_TRANSFORM.mat", {"index": index[:, None] + 1.0})
    return tmp_path


def test_computed_distances_are_great_circles(folder, sphere):
    points, index, labels, _ = sphere
    geodesics = read_geodesics(str(folder))
    rng = make_rng(0, "pairs")
    a, b = rng.integers(0, len(index), (2, 2000))
    true = np.arccos(np.clip((points[index[a]] * points[index[b]]).sum(1), -1, 1))
    found = geodesics.between(labels[a], labels[b])
    # the slivers at the poles cost some pairs more
    np.testing.assert_allclose(found, true, rtol=0.2, atol=0.01)
    assert abs((found[true > 0.1] / true[true > 0.1]).mean() - 1) < 0.02
    # the same point of two charts is one place
    first = np.unique(index, return_index=True)[1][index]
    assert (geodesics.between(labels, labels[first]) == 0).all()
    np.testing.assert_array_equal(geodesics.kappa, chart_scales())
    assert len(list((folder / "home" / "cache").glob("geodesics-SMPL-*.safetensors"))) == 1


def test_fewer_references_than_points_cost_their_spacing(folder, sphere):
    points, index, labels, _ = sphere
    geodesics = published_geodesics(folder, references=150)
    a, b = make_rng(0, "pairs").integers(0, len(index), (2, 2000))
    true = np.arccos(np.clip((points[index[a]] * points[index[b]]).sum(1), -1, 1))
    assert np.abs(geodesics.between(labels[a], labels[b]) - true).mean() < 0.2
    assert geodesics.reference.max() == 149


def as_npy(path, packed):
    np.save(path, packed[:, None].astype(np.float32))


def as_npz(path, packed):
    np.savez(path, Pdist_matrix=packed, other=np.zeros(1))


def as_safetensors(path, packed):
    save_file({"distances": packed.astype(np.float32)}, path)


def as_mat(path, packed):
    savemat(path, {"Pdist_matrix": packed})


def as_pkl(path, packed):
    path.write_bytes(pickle.dumps({"Pdist_matrix": packed[:, None].astype(np.float32)}, 2))


@pytest.mark.parametrize("write", [as_npy, as_npz, as_safetensors, as_mat, as_pkl])
def test_stored_distances_are_taken_as_they_are(folder, sphere, write):
    points, index, labels, _ = sphere
    square = np.arccos(np.clip(points @ points.T, -1, 1))
    write(folder / f"Pdist_matrix.{write.__name__.removeprefix('as_')}", square[np.tril_indices(len(points), -1)])
    geodesics = read_geodesics(str(folder))
    a, b = make_rng(0, "pairs").integers(0, len(index), (2, 500))
    np.testing.assert_allclose(
        geodesics.between(labels[a], labels[b]),
        np.where(index[a] == index[b], 0, square[index[a], index[b]]),
        rtol=1e-6,
    )
    assert not (folder / "home").exists()


def test_a_square_of_distances(folder, sphere):
    points, index, labels, _ = sphere
    square = np.arccos(np.clip(points @ points.T, -1, 1)).astype(np.float32)
    np.save(folder / "square.npy", square)
    geodesics = published_geodesics(folder, folder / "square.npy")
    np.testing.assert_array_equal(geodesics.between(labels[:50], labels[50:100]), square[index[:50], index[50:100]])


def remove(name):
    return lambda folder: (folder / name).unlink()


def overwrite(name, data):
    return lambda folder: (folder / name).write_bytes(data)


def rewrite(name, **values):
    return lambda folder: savemat(folder / name, values)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (remove("SMPL_subdiv.mat"), r"SMPL_subdiv\.mat is missing; it is part of DensePose's evaluation data"),
        (remove("SMPL_SUBDIV_TRANSFORM.mat"), r"SMPL_SUBDIV_TRANSFORM\.mat is missing"),
        (
            overwrite("SMPL_subdiv.mat", b"<html>not found</html>" * 20),
            r"SMPL_subdiv\.mat does not read as a MATLAB file",
        ),
        (
            overwrite("SMPL_subdiv.mat", b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM" + bytes(512)),
            "is a MATLAB 7.3 file",
        ),
        (rewrite("SMPL_subdiv.mat", All_U_norm=np.ones(3)), "has no numbers named Part_ID_subdiv but All_U_norm"),
        (rewrite("SMPL_SUBDIV_TRANSFORM.mat", index=np.ones(5)), "numbers; all must be equal"),
        (rewrite("SMPL_SUBDIV_TRANSFORM.mat", index=np.zeros(24 * 17 * 3)), "is damaged: charts must be 1..24"),
        (
            rewrite("SMPL_SUBDIV_TRANSFORM.mat", index=np.full(24 * 17 * 3, 5.0)),
            "is not a mesh that distances can be computed on: some of its points",
        ),
    ],
)
def test_files_that_are_none_are_told_in_a_line(folder, spoil, message):
    spoil(folder)
    with pytest.raises(UserError, match=message) as error:
        read_geodesics(str(folder))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "write", "message"),
    [
        ("d.pkl", lambda path: path.write_bytes(b""), "is empty; fetch it again"),
        ("d.pkl", lambda path: path.write_bytes(pickle.dumps(len)), r"names 'builtins\.len', and only NumPy's arrays"),
        ("d.pkl", lambda path: path.write_bytes(pickle.dumps({"a": 1, "b": 2})), "holds a, b; one array, or one named"),
        ("d.pkl", lambda path: path.write_bytes(pickle.dumps({"Pdist_matrix": "abc"})), "holds no array Pdist_matrix"),
        ("d.pkl", lambda path: path.write_bytes(pickle.dumps([[0.0], [1.0, 2.0]])), "holds no array Pdist_matrix"),
        ("d.pkl", lambda path: path.write_bytes(b"<html>not found</html>"), "is damaged, or no pickle"),
        ("missing.npy", None, "is missing; leave it out to have the distances computed"),
        ("d.txt", None, r"distances are read from \.npy, \.npz, \.safetensors, \.mat, \.pkl"),
        ("d.npy", lambda path: np.save(path, np.zeros(7)), r"holds \[7\]; distances of \d+ points are \[\d+\]"),
        ("d.npy", lambda path: np.save(path, np.zeros(7, int)), "holds int64; distances are floating-point"),
        ("d.npy", lambda path: path.write_bytes(b"nothing"), "does not read as an array"),
        (
            "d.npz",
            lambda path: np.savez(path, a=np.zeros(1), b=np.zeros(1)),
            "holds a, b; one array, or one named Pdist_matrix",
        ),
        ("d.npz", lambda path: path.write_bytes(b"nothing"), "does not read as an array"),
        ("d.safetensors", lambda path: path.write_bytes(b"nothing"), "does not read as an array"),
        ("d.npy", lambda path: np.save(path, np.array([{"code": 1}])), "does not read as an array"),
    ],
)
def test_distances_that_are_none_are_told_in_a_line(folder, name, write, message):
    if write:
        write(folder / name)
    with pytest.raises(UserError, match=message) as error:
        published_geodesics(folder, folder / name)
    assert "\n" not in str(error.value)


def test_a_converted_copy_comes_before_the_pickle(folder, sphere):
    _, index, labels, _ = sphere
    as_pkl(folder / "Pdist_matrix.pkl", np.full(index.max() * (index.max() + 1) // 2, 7.0))
    np.save(folder / "Pdist_matrix.npy", np.full(index.max() * (index.max() + 1) // 2, 3.0))
    assert read_geodesics(str(folder)).between(labels[:1], labels[-1:]) == 3
    (folder / "Pdist_matrix.npy").unlink()
    assert read_geodesics(str(folder)).between(labels[:1], labels[-1:]) == 7


def test_impossible_distances_are_told(folder, sphere):
    count = len(sphere[0])
    np.save(folder / "Pdist_matrix.npy", np.full(count * (count - 1) // 2, -1.0))
    with pytest.raises(UserError, match="are no distances"):
        read_geodesics(str(folder))
    np.savez(folder / "Pdist_matrix.npz", a=np.zeros(1))
    with pytest.raises(UserError, match=r"has Pdist_matrix\.npy and Pdist_matrix\.npz; keep the one"):
        read_geodesics(str(folder))


def refusals(folder, path, count: int, purpose: str) -> list[str]:
    """What is said of a file that is damaged in `count` ways, one after the other; other errors are not caught."""
    whole, said = path.read_bytes(), []
    for number in range(count):
        rng = make_rng(0, f"{purpose} {path.name}", number)
        path.write_bytes(whole)
        (truncate, flip_bits, blank, insert)[number % 4](path, rng, None)
        try:
            read_geodesics(str(folder))
        except UserError as error:
            said.append(str(error))
    assert not any("\n" in each for each in said)
    return said


@pytest.mark.parametrize("name", ["SMPL_subdiv.mat", "SMPL_SUBDIV_TRANSFORM.mat", "packed"])
def test_a_damaged_matlab_file_is_a_line_and_never_the_end_of_the_process(folder, sphere, name):
    points, _, labels, _ = sphere
    if name == "packed":
        columns = {"Part_ID_subdiv": labels[:, :1], "U_subdiv": labels[:, 1:2], "V_subdiv": labels[:, 2:]}
        savemat(folder / "SMPL_subdiv.mat", columns, do_compression=True)
    np.save(folder / "Pdist_matrix.npy", np.ones(len(points) * (len(points) - 1) // 2))
    read_geodesics(str(folder))
    path = folder / ("SMPL_subdiv.mat" if name == "packed" else name)
    assert len(refusals(folder, path, 60, "damaged")) > 15


@pytest.mark.parametrize("write", [as_npy, as_npz, as_safetensors, as_mat, as_pkl])
def test_damaged_distances_are_a_line(folder, sphere, write):
    count = len(sphere[0])
    path = folder / f"Pdist_matrix.{write.__name__.removeprefix('as_')}"
    write(path, np.ones(count * (count - 1) // 2))
    read_geodesics(str(folder))
    assert len(refusals(folder, path, 16, "damaged")) > 4
