import numpy as np
import pytest
import torch

from hcmoco.tasks.densepose.decode import decode, pixel_frame
from hcmoco.tasks.densepose.heads import NUM_CLASSES, ChartMaps
from hcmoco.tasks.densepose.losses import chart_losses
from hcmoco.tasks.densepose.targets import places_in

HEIGHT, WIDTH, SIDE = 90, 70, 56
BOXES = torch.tensor([[8.3, 5.6, 61.2, 83.9], [20.0, 30.0, 40.0, 70.0]])


def _truth(x, y):
    """A surface with known labels everywhere: four parts side by side, U along x, V along y, foreground right of x =
    12."""
    part = np.clip(np.floor(x / 18).astype(int) * 5 + 3, 1, 24)
    return x > 12, part, 0.1 + 0.8 * x / WIDTH, 0.9 - 0.7 * y / HEIGHT


def _maps_of_truth() -> ChartMaps:
    """The output of a perfect head for BOXES: the truth at the centers of its cells."""
    share = (np.arange(SIDE) + 0.5) / SIDE
    regions = []
    for x0, y0, x1, y1 in BOXES.tolist():
        x, y = np.meshgrid(x0 + share * (x1 - x0), y0 + share * (y1 - y0))
        person, part, u, v = _truth(x, y)
        coarse = 20 * np.stack([~person, person]).astype(float)
        fine = 20 * (np.arange(NUM_CLASSES)[:, None, None] == part).astype(float)
        regions.append([coarse, fine, np.stack([u] * 24), np.stack([v] * 24)])
    return ChartMaps(*(torch.tensor(np.stack(each), dtype=torch.float32) for each in zip(*regions, strict=True)))


def _near_a_border(x: np.ndarray, cell: float) -> np.ndarray:
    return np.min([np.abs(x - border) for border in (12, 18, 36, 54)], axis=0) < cell


def test_perfect_maps_decode_to_the_truth():
    for box, iuv in zip(BOXES.tolist(), decode(_maps_of_truth(), BOXES, HEIGHT, WIDTH), strict=True):
        x0, y0, x1, y1 = pixel_frame(tuple(box), HEIGHT, WIDTH)
        assert iuv.shape == (y1 - y0, x1 - x0, 3)
        assert iuv.dtype == torch.float32
        x, y = np.meshgrid(np.arange(x0, x1) + 0.5, np.arange(y0, y1) + 0.5)
        person, part, u, v = _truth(x, y)
        width, height = (box[2] - box[0]) / SIDE, (box[3] - box[1]) / SIDE
        clear = (
            ~_near_a_border(x, width)
            & (x > box[0] + width)
            & (x < box[2] - width)
            & (y > box[1] + height)
            & (y < box[3] - height)
        )
        assert clear.mean() > 0.6
        found = iuv.numpy()
        np.testing.assert_array_equal(found[..., 0][clear], np.where(person, part, 0)[clear])
        on = clear & person
        np.testing.assert_allclose(found[..., 1][on], u[on], atol=1e-5)
        np.testing.assert_allclose(found[..., 2][on], v[on], atol=1e-5)
        assert not found[found[..., 0] == 0].any()


def test_perfect_maps_cost_nothing():
    """The losses read the maps where decoding does: what decodes to the truth has no error at the points."""
    rng = np.random.default_rng(0)
    x, y = rng.uniform(24, 36, (2, 60)), rng.uniform(34, 66, (2, 60))
    _, part, u, v = _truth(x, y)
    xy, points = torch.tensor(np.stack([x, y], -1)).float(), torch.tensor(np.stack([part, u, v], -1)).float()
    known = torch.tensor(~_near_a_border(x, 1.5))
    no_mask = torch.zeros(2, SIDE, SIDE, dtype=torch.long), torch.zeros(2, dtype=torch.bool)
    terms = chart_losses(_maps_of_truth(), *no_mask, places_in(BOXES, xy), points, known, images=1)
    assert known.sum() > 60
    assert terms["part"] < 1e-6
    assert terms["uv"] < 1e-9


@pytest.mark.parametrize(
    ("box", "frame"),
    [
        ((1.2, 2.0, 5.0, 6.1), (1, 2, 5, 7)),
        ((0.0, 0.0, 10.0, 8.0), (0, 0, 10, 8)),
        ((-0.5, 3.5, 11.0, 9.0), (0, 3, 10, 8)),
    ],
)
def test_frame_is_the_pixels_that_a_box_touches(box, frame):
    assert pixel_frame(box, 8, 10) == frame


def test_coordinates_stay_in_their_range_and_background_is_never_a_part():
    shape = (1, 1, 4, 4)
    maps = ChartMaps(
        torch.tensor([-5.0, 5.0]).view(1, 2, 1, 1).expand(1, 2, 4, 4),
        torch.zeros(1, NUM_CLASSES, 4, 4).index_fill(1, torch.tensor([0]), 9.0).index_fill(1, torch.tensor([7]), 1.0),
        torch.full(shape, 1.7).expand(1, 24, 4, 4),
        torch.full(shape, -0.2).expand(1, 24, 4, 4),
    )
    (iuv,) = decode(maps, torch.tensor([[0.0, 0.0, 6.0, 5.0]]), 20, 20)
    assert torch.equal(iuv, torch.tensor([7.0, 1.0, 0.0]).expand(5, 6, 3))


def test_no_detection_decodes_to_nothing():
    assert decode(_maps_of_truth().at(slice(0)), BOXES[:0], HEIGHT, WIDTH) == []
