"""Mirrored pictures on the published charts, by tables whose answers are known."""

import numpy as np
import pytest
import torch
from scipy.io import loadmat, savemat

from hcmoco.errors import UserError
from hcmoco.models.encoders import EncoderConfig, build_encoder
from hcmoco.rng import make_rng
from hcmoco.synthetic.body.surface_labels import mirror_iuv
from hcmoco.tasks.densepose.config import DensePoseConfig
from hcmoco.tasks.densepose.symmetry import MIRRORED_CHARTS, read_symmetry
from hcmoco.tasks.densepose.targets import scene_targets
from hcmoco.tasks.densepose.task import DensePose
from tests.helpers.chart_symmetry import NAME, people_symmetry, write_symmetry
from tests.helpers.mutations import blank, flip_bits, insert, truncate
from tests.helpers.pasted_scenes import about, pasted_scene

CELL = 1 / 255


def turned(chart, u, v):
    """The torso is turned over; a left chart is a right one a quarter turn on, and back."""
    if chart <= 2:
        return 1 - u, v
    return (v, 1 - u) if chart % 2 else (1 - v, u)


@pytest.fixture
def symmetry(tmp_path):
    write_symmetry(tmp_path, turned)
    return read_symmetry(str(tmp_path))


def places(count: int, charts=range(1, 25)) -> np.ndarray:
    rng = make_rng(0, "places")
    return np.column_stack([rng.choice(list(charts), count), rng.random((count, 2))]).astype(np.float32)


def test_charts_are_exchanged_as_published():
    """POINT_LABEL_SYMMETRIES of detectron2's DensePose."""
    assert MIRRORED_CHARTS.tolist() == [
        *(0, 1, 2, 4, 3, 6, 5, 8, 7, 10, 9, 12, 11, 14, 13, 16, 15, 18, 17, 20, 19, 22, 21, 24, 23)
    ]


def test_two_mirrors_are_none_to_the_cell_of_the_table(symmetry):
    plain = places(5000)
    once = symmetry.mirror(plain)
    twice = symmetry.mirror(once)
    np.testing.assert_array_equal(twice[:, 0], plain[:, 0])
    assert (once[:, 0] != plain[:, 0]).sum() == (plain[:, 0] > 2).sum()
    assert np.abs(twice[:, 1:] - plain[:, 1:]).max() < 2 * CELL + 1e-6
    # A place in the middle of a cell comes back to that cell.
    cells = places(5000)
    cells[:, 1:] = (np.floor(cells[:, 1:] * 255) + 0.25) / 255
    moved = symmetry.mirror(cells) + np.float32([0, CELL / 4, CELL / 4])
    np.testing.assert_allclose(symmetry.mirror(moved)[:, 1:], np.floor(cells[:, 1:] * 255) / 255, atol=1e-6)


def test_the_answer_is_known_in_closed_form(symmetry):
    plain = places(3000)
    cells = np.floor(plain[:, 1:] * np.float32(255)) / 255
    for (chart, *_), (u, v), found in zip(plain, cells, symmetry.mirror(plain), strict=True):
        np.testing.assert_allclose(found, [MIRRORED_CHARTS[int(chart)], *turned(int(chart), u, v)], atol=1e-6)
    np.testing.assert_array_equal(symmetry.mirror(np.float32([[0, 0.3, 0.2]])), [[0, 0, 0]])
    np.testing.assert_allclose(symmetry.mirror(np.float32([[1, 0, 0], [1, 1, 1]])), [[1, 1, 0], [1, 0, 1]])
    assert symmetry.mirror(np.zeros((0, 3), np.float32)).shape == (0, 3)


def test_places_are_looked_up_as_the_publishers_do(tmp_path):
    """Random tables, so that rows, columns and charts cannot be exchanged; looked up one by one in SciPy's reading."""
    rng = make_rng(1, "tables")
    write_symmetry(tmp_path, lambda chart, u, v: (rng.random(u.shape), rng.random(u.shape)))
    table, plain = loadmat(tmp_path / NAME), places(2000)
    found = read_symmetry(str(tmp_path)).mirror(plain)
    for (chart, u, v), mirrored in zip(plain, found, strict=True):
        column, row = int(u * np.float32(255)), int(v * np.float32(255))
        for axis, name in ((1, "U_transforms"), (2, "V_transforms")):
            assert mirrored[axis] == np.float32(table[name][0, int(chart) - 1][row, column])


def test_the_table_of_the_synthetic_people_mirrors_as_they_do(tmp_path):
    """The same training images with the charts' own rule and with a table of it: the same targets, to a cell."""
    write_symmetry(tmp_path, people_symmetry)
    config = DensePoseConfig(flip_probability=1.0)
    own, table = DensePose(config, about()), DensePose(config.model_copy(update={"charts": str(tmp_path)}), about())
    rows = [pasted_scene(0), pasted_scene(1)]
    batches = [task.make_batch(rows, [make_rng(0, "flip", k) for k in (0, 1)]) for task in (own, table)]
    for one, other in zip(*(batch.targets for batch in batches), strict=True):
        np.testing.assert_array_equal(one.boxes, other.boxes)
        np.testing.assert_array_equal(one.masks, other.masks)
        np.testing.assert_array_equal(one.has_point, other.has_point)
        assert one.has_point.any()
        np.testing.assert_array_equal(one.points[..., :3], other.points[..., :3])
        np.testing.assert_allclose(one.points[..., 3:], other.points[..., 3:], atol=CELL + 1e-6)
    plain = places(100)
    np.testing.assert_allclose(
        read_symmetry(str(tmp_path)).mirror(plain)[:, 1:], mirror_iuv(plain)[:, 1:], atol=CELL + 1e-6
    )


def test_a_place_without_a_mirror_image_is_no_target(tmp_path):
    def half(chart, u, v):
        return np.where(u < 0.5, u, np.nan), v

    write_symmetry(tmp_path, half)
    mirror = read_symmetry(str(tmp_path)).mirror
    points = np.float32([[4, 4, 5, 0.2, 0.3], [4, 5, 5, 0.8, 0.3], [5, 5, 6, 0.3, 0.8]])
    person = {"box": np.float32([0, 0, 10, 10]), "mask": None, "dp_points": points, "crowd": False}
    flipped = scene_targets([person], flip_width=10, mirror=mirror)
    assert flipped.has_point.tolist() == [[True, False, True]]
    assert np.isfinite(flipped.points).all()
    assert flipped.points[0, :, 2].tolist() == [6, 0, 5]


def test_a_mirrored_training_step_on_published_charts_learns_from_finite_targets(tmp_path):
    """The whole step of the task, with the table read from the file."""
    write_symmetry(tmp_path, turned)
    small = {"pyramid_channels": 16, "box_width": 32, "chart_width": 16, "chart_depth": 1}
    task = DensePose(DensePoseConfig(charts=str(tmp_path), flip_probability=1.0, **small), about())
    torch.manual_seed(0)
    model = task.make_model(build_encoder(EncoderConfig(name="hrnet_w18_small")))
    terms = task.losses(model.train(), task.make_batch([pasted_scene(0)], [make_rng(0, "flip")]), torch.device("cpu"))
    assert torch.isfinite(terms["loss"])
    assert terms["uv"] > 0


def remove(path):
    path.unlink()


def other_version(path):
    path.write_bytes(b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM" + bytes(512))


def scaled(path):
    write_symmetry(path.parent, lambda chart, u, v: (255 * u, 255 * v))


def one_chart_less(path):
    cells = np.empty((1, 23), object)
    cells[0] = [np.zeros((256, 256))] * 23
    savemat(path, {"U_transforms": cells, "V_transforms": cells})


def matrices(path):
    savemat(path, {"U_transforms": np.zeros((24, 256)), "V_transforms": np.zeros((24, 256))})


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (remove, r"UV_symmetry_transforms\.mat is missing; .*get_densepose_uv\.sh.*task\.flip_probability=0"),
        (other_version, "is a MATLAB 7.3 file"),
        (scaled, r"outside of 0\.\.1"),
        (one_chart_less, "has 23 of .* matrices in U_transforms; the published file has 24 of 256 x 256"),
        (matrices, "has no matrices in U_transforms"),
    ],
)
def test_files_that_are_none_are_a_line_before_the_training(tmp_path, spoil, told):
    spoil(write_symmetry(tmp_path, turned))
    for name in ("SMPL_subdiv.mat", "SMPL_SUBDIV_TRANSFORM.mat"):
        (tmp_path / name).write_bytes(b"not read before the training")
    with pytest.raises(UserError, match=told) as error:
        DensePose.fit_statistics(DensePoseConfig(charts=str(tmp_path)), [], about())
    assert "\n" not in str(error.value)
    unmirrored = DensePoseConfig(charts=str(tmp_path), flip_probability=0)
    assert DensePose.fit_statistics(unmirrored, [], about()) == {}
    (tmp_path / "SMPL_subdiv.mat").unlink()
    with pytest.raises(UserError, match=r"SMPL_subdiv\.mat is missing; it is part of DensePose's evaluation data"):
        DensePose.fit_statistics(unmirrored, [], about())


def test_damage_is_a_line_and_never_the_end_of_the_process(tmp_path):
    path = write_symmetry(tmp_path, turned, do_compression=True)
    whole, said = path.read_bytes(), []
    for number in range(40):
        path.write_bytes(whole)
        (truncate, flip_bits, blank, insert)[number % 4](path, make_rng(0, "symmetry", number), None)
        read_symmetry.cache_clear()
        try:
            read_symmetry(str(tmp_path))
        except UserError as error:
            said.append(str(error))
    read_symmetry.cache_clear()
    assert len(said) > 20
    assert not any("\n" in each for each in said)
