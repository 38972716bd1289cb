"""The two crops of each held-out person: truth between them holds in the pixels, and what has no answer is refused."""

import numpy as np
import pytest
import torch

from hcmoco.config import build
from hcmoco.data.codecs import encode_depth, encode_labels, encode_rgb
from hcmoco.data.schema import Person
from hcmoco.data.skeletons import COCO_17, MPII_16
from hcmoco.errors import UserError
from hcmoco.pretraining.probes.correspondence import STRIDE, apply, between, cell_centers
from hcmoco.pretraining.probes.run import ProbeConfig
from hcmoco.pretraining.probes.views import PICTURE_PEOPLE, CropConfig, ProbeViews, make_views

SOURCE = 160


def person(row: int, **changes) -> Person:
    """A person whose depth says which pixel of the source one is looking at: 1000 + 160 * row + column, smooth along a
    row."""
    y, x = np.mgrid[:SOURCE, :SOURCE]
    on_person = ((x - 80) / 25.0) ** 2 + ((y - 80) / 52.0) ** 2 <= 1
    depth = np.where(on_person, 1000 + SOURCE * y + x, 0).astype(np.uint16)
    random = np.random.default_rng(row)
    keypoints = np.column_stack([random.uniform(60, 100, 17), random.uniform(35, 125, 17), np.ones(17)])
    values = {
        "id": f"test/{row}",
        "dataset": "test",
        "split": "test",
        "size": SOURCE,
        "subject": f"subject {row // 2}",
        "rgb": encode_rgb(random.integers(0, 255, (SOURCE, SOURCE, 3), np.uint8)),
        "depth": encode_depth(depth, "png16"),
        "box": np.array([55, 28, 105, 132], np.float32),
        "keypoints": keypoints.astype(np.float32),
        "parts": encode_labels(np.where(on_person, 7, 0).astype(np.uint8)),
    }
    return Person(**{**values, **changes})


def views(people, count: int = 100, **changes) -> ProbeViews:
    values = {"joints": "coco-17", "target_joints": "mpii-16", "depth_codec": "png16", "size": 96, "count": count}
    return make_views(people, **{**values, **changes})


def source_places(depth: np.ndarray) -> np.ndarray:
    """x, y of the source pixels' centers that the depth values of `person` stand for."""
    code = depth.astype(int) - 1000
    return np.stack([code % SOURCE + 0.5, code // SOURCE + 0.5], axis=-1)


def test_truth_between_crops_holds_in_the_pixels():
    """The pixel that the truth of a cell names in the second crop shows the same place of the source image, to within a
    pixel's turn."""
    made = views([person(row) for row in range(6)])
    across = between(*(torch.from_numpy(crop.affines) for crop in (made.first_crop, made.second_crop)))
    places = cell_centers(24, 24)
    checked = 0
    for row in range(6):
        body = torch.from_numpy(made.first_crop.body[row])
        first = places[body]
        second = apply(across[row], first)
        columns, rows = second.floor().long().unbind(1)
        inside = ((columns >= 0) & (columns < 96) & (rows >= 0) & (rows < 96)).numpy()
        column, line = (first[inside].long() - 1).unbind(
            1
        )  # the pixel up and left of the cell's middle; its center is half a pixel off
        here = made.first_crop.depth[row][line, column]
        there = made.second_crop.depth[row][rows[inside], columns[inside]]
        both = (here > 0) & (there > 0)
        assert both.mean() > 0.9
        gap = np.linalg.norm(source_places(here[both]) - source_places(there[both]), axis=1)
        # Half a pixel's diagonal of each crop (a source pixel is smaller than 1.6 crop pixels), and of nearest-pixel
        # rounding twice.
        assert gap.max() < 5
        assert np.abs((source_places(here[both]) - source_places(there[both])).mean(axis=0)).max() < 1.7
        checked += both.sum()
    assert checked > 300


def test_cells_map_to_the_source_pixels_that_they_show():
    """Mean error of cell center -> source through the affine, against the decoded pixel codes of the four pixels round
    the center."""
    made = views([person(row) for row in range(6)])
    for crop in (made.first_crop, made.second_crop):
        for row in range(6):
            inverse = between(torch.from_numpy(crop.affines[row])[None], torch.eye(2, 3)[None])[0]
            rows, columns = np.nonzero(crop.body[row])
            predicted = apply(inverse, cell_centers(24, 24)[rows, columns]).numpy()
            around = [crop.depth[row][STRIDE * rows + i, STRIDE * columns + j] for i in (1, 2) for j in (1, 2)]
            whole = np.all([each > 0 for each in around], axis=0)
            shown = np.mean([source_places(each)[whole] for each in around], axis=0)
            assert whole.sum() > 30
            assert np.abs((predicted[whole] - shown).mean(axis=0)).max() < 0.15
            assert np.abs(predicted[whole] - shown).max() < 1


def test_crops_are_as_declared():
    made = views([person(row) for row in range(3)])
    first = made.first_crop
    assert (first.rgb.shape, first.rgb.dtype) == ((3, 96, 96, 3), np.uint8)
    assert (first.depth.shape, first.depth.dtype) == ((3, 96, 96), np.uint16)
    assert first.keypoints.shape == (3, len(MPII_16), 3)
    assert (first.silhouettes.dtype, first.body.shape) == (bool, (3, 24, 24))
    assert made.heights.tolist() == [104.0] * 3
    assert made.subjects == ("subject 0", "subject 0", "subject 1")
    assert (len(made), made.size) == (3, 96)
    for crop in (
        first,
        made.second_crop,
    ):  # the stand-in for a joint goes with it, one that the source lacks is invisible
        ankle, pelvis = MPII_16.index("left_ankle"), MPII_16.index("pelvis")
        source = np.array([*person(0).keypoints[COCO_17.index("left_ankle"), :2], 1])
        assert np.allclose(crop.keypoints[0, ankle, :2], crop.affines[0] @ source, atol=1e-3)
        assert crop.keypoints[0, pelvis, 2] == 0
    assert np.allclose(np.linalg.det(first.affines[..., :2]) > 0, True)  # never mirrored
    assert not np.allclose(first.affines, made.second_crop.affines)


def test_the_picture_shows_upright_people():
    made = views([person(row) for row in range(10)])
    upright = made.upright
    assert len(upright.rgb) == PICTURE_PEOPLE
    assert np.allclose(upright.affines[:, [0, 1], [1, 0]], 0)
    rows, columns = np.nonzero(upright.silhouettes[0])
    assert abs(rows.mean() - 47.5) < 1
    assert abs(columns.mean() - 47.5) < 1
    assert np.array_equal(made.first(2).upright.rgb, upright.rgb[:2])


def test_same_seed_same_views_and_a_prefix_is_a_prefix():
    people = [person(row) for row in range(5)]
    made, again, fewer = views(people), views(people), views(people, count=3)
    other = views(people, crops=CropConfig(seed=1))
    for name in ("rgb", "depth", "keypoints", "silhouettes", "affines"):
        for crop in ("first_crop", "second_crop"):
            value = getattr(getattr(made, crop), name)
            assert np.array_equal(value, getattr(getattr(again, crop), name))
            assert np.array_equal(value[:3], getattr(getattr(fewer, crop), name))
            assert np.array_equal(value[:3], getattr(getattr(made.first(3), crop), name))
    assert made.first(3).subjects == fewer.subjects
    assert len(made.first(50)) == 5
    assert not np.allclose(made.first_crop.affines, other.first_crop.affines)


def test_silhouette_comes_from_mask_then_parts_then_depth():
    ignore = np.zeros((SOURCE, SOURCE), np.uint8)
    ignore[60:100, 60:100] = 255
    mask = np.zeros((SOURCE, SOURCE), np.uint8)
    mask[70:90, 70:90] = 255
    people = [
        person(0),
        person(0, parts=None),
        person(0, mask=encode_labels(mask)),
        person(0, parts=encode_labels(ignore)),
    ]
    made = views(people, crops=CropConfig(scale=(1.2, 1.2), shift=0, rotation=0)).first_crop.silhouettes
    assert np.array_equal(made[0], made[1])
    zoom = 96 / (1.2 * 104)
    assert made[2].sum() == pytest.approx((20 * zoom) ** 2, rel=0.1)
    assert made[3].sum() == 0  # 255 is "ignore", not the person


def test_reads_no_further_than_needed_and_passes_over_the_incomplete():
    read = []

    def stream():
        for row in range(100):
            read.append(row)
            yield person(row, **({"depth": None} if row % 2 else {}))

    assert views(stream(), count=4).subjects == ("subject 0", "subject 1", "subject 2", "subject 3")
    assert read[-1] == 6


def test_height_without_a_box_is_that_of_the_silhouette():
    assert views([person(0, box=None), person(1)]).heights[0] == pytest.approx(104, abs=2)


def test_too_few_and_damaged_are_one_line():
    with pytest.raises(
        UserError, match=r"^1 of the 3 held-out people have RGB, depth and keypoints.*data\.held_out[^\n]*$"
    ):
        views([person(0), person(1, depth=None), person(2, keypoints=None)])
    with pytest.raises(UserError, match=r"^held-out person test/1 is damaged: [^\n]*$"):
        views([person(0), person(1, rgb=b"\xff\xd8nothing")])


@pytest.mark.parametrize(
    ("values", "key"),
    [
        ({"crops": {"shift": 0.3}}, "crops"),
        ({"tolerance": 0}, "tolerance"),
        ({"crops": {"mirrored": True}}, "mirrored"),
    ],
)
def test_bad_settings_are_one_line(values: dict, key: str):
    with pytest.raises(UserError, match=rf"^recipe: [^\n]*{key}[^\n]*$"):
        build(ProbeConfig, values, "recipe")
