"""The picture of principal components: same input same picture, whatever axes the embedding has; equal colors mean
equal embeddings."""

import cv2
import numpy as np
import pytest
import torch

from hcmoco.data.codecs import encode_png
from hcmoco.pretraining.probes.picture import MARGIN, body_places, compose, gray_depth, orient, paint

PEOPLE, WIDTH, CELLS, SIDE = 3, 16, 12, 48


@pytest.fixture
def scene() -> dict[str, torch.Tensor]:
    """Embeddings that vary smoothly over the body, with unequal spread along their axes, as trained ones do."""
    random = torch.Generator().manual_seed(6)
    rows, columns = torch.meshgrid(torch.arange(CELLS), torch.arange(CELLS), indexing="ij")
    silhouettes = torch.zeros(PEOPLE, SIDE, SIDE, dtype=torch.bool)
    for person in range(PEOPLE):
        silhouettes[person, 4 + 3 * person : 44, 14 : 30 + 2 * person] = True
    smooth = torch.stack([rows / CELLS, (columns / CELLS - 0.5) * 0.6, 0.3 * torch.cos(rows.float())])
    mixing = torch.randn(WIDTH, 3, generator=random)
    maps = (
        torch.einsum("dk,khw->dhw", mixing, smooth)
        + 1
        + 0.02 * torch.randn(2, PEOPLE, WIDTH, CELLS, CELLS, generator=random)
    )
    return {"rgb": maps[0], "depth": maps[1], "body": silhouettes[:, 2::4, 2::4], "silhouettes": silhouettes}


def painted(scene: dict[str, torch.Tensor], change=lambda each: each) -> list[np.ndarray]:
    return paint([change(scene["rgb"]), change(scene["depth"])], scene["body"], scene["silhouettes"])


def test_same_input_same_picture(scene: dict[str, torch.Tensor]):
    for first, second in zip(painted(scene), painted(scene), strict=True):
        assert np.array_equal(first, second)


def test_axes_and_signs_of_the_embedding_do_not_show(scene: dict[str, torch.Tensor]):
    """Negated, permuted, or turned by any orthogonal matrix, an embedding is the same embedding."""
    turn, _ = torch.linalg.qr(
        torch.randn(WIDTH, WIDTH, generator=torch.Generator().manual_seed(9), dtype=torch.float64)
    )
    changes = (
        torch.neg,
        lambda each: each.flip(1),
        lambda each: torch.einsum("ed,ndhw->nehw", turn, each.double()),
        lambda each: 4 * each,
    )
    for change in changes:
        for before, after in zip(painted(scene), painted(scene, change), strict=True):
            assert np.abs(before.astype(int) - after).max() <= 1


def test_black_outside_and_never_inside(scene: dict[str, torch.Tensor]):
    silhouettes = scene["silhouettes"].numpy()
    for picture in painted(scene):
        assert picture.shape == (PEOPLE, SIDE, SIDE, 3)
        assert (picture[~silhouettes] == 0).all()
        assert (picture[silhouettes] >= 30).all()
        assert picture[silhouettes].std(axis=0).min() > 10  # all three channels are used


def test_equal_embeddings_have_equal_colors(scene: dict[str, torch.Tensor]):
    rgb, depth = paint([scene["rgb"], scene["rgb"].clone()], scene["body"], scene["silhouettes"])
    assert np.abs(rgb.astype(int) - depth).max() <= 1  # two places of one product
    rgb, depth = painted(scene)
    assert 0 < np.abs(rgb.astype(int) - depth).mean() < 15  # the noise between the two modalities


def test_background_does_not_move_the_basis(scene: dict[str, torch.Tensor]):
    """Wild features off the body must not decide the colors on it."""
    wild = {**scene, "rgb": torch.where(scene["body"][:, None], scene["rgb"], -7.0 * scene["rgb"].flip(0))}
    inside = (
        torch.nn.functional.max_pool2d((~scene["body"]).float(), 3, 1, 1) == 0
    )  # cells with no neighbor off the body
    pixels = inside.repeat_interleave(4, 1).repeat_interleave(4, 2).numpy()
    assert pixels.any()
    for before, after in zip(painted(scene), painted(wild), strict=True):
        assert np.abs(before.astype(int) - after)[pixels].max() <= 2


def test_component_grows_along_the_body():
    places = body_places(torch.ones(2, 9, 5, dtype=torch.bool))
    scores = torch.stack([-places[:, 1], places[:, 0] - 0.1 * places[:, 1], -3 * places[:, 0]], dim=1)
    assert orient(scores, places).tolist() == [-1, 1, -1]
    assert body_places(torch.zeros(2, 4, 4, dtype=torch.bool)).shape == (0, 2)


def test_collapsed_embedding_is_one_color(scene: dict[str, torch.Tensor]):
    flat = torch.ones(PEOPLE, WIDTH, CELLS, CELLS)
    for picture in paint([flat, flat], scene["body"], scene["silhouettes"]):
        assert len(np.unique(picture[scene["silhouettes"].numpy()], axis=0)) == 1


def test_nobody_is_black(scene: dict[str, torch.Tensor]):
    nobody = torch.zeros_like(scene["body"]), torch.zeros_like(scene["silhouettes"])
    assert all((each == 0).all() for each in paint([scene["rgb"], scene["depth"]], *nobody))


def test_depth_is_bright_where_near():
    depth = np.zeros((2, 4, 4), np.uint16)
    depth[0, 1:3, 1:3] = [[2000, 2100], [2200, 2300]]
    depth[0, 0, 0] = 4000
    silhouettes = (depth > 0) & (depth < 4000)
    gray = gray_depth(depth, silhouettes)[..., 0].astype(int)
    assert gray[0, 1, 1] > gray[0, 1, 2] > gray[0, 2, 1] > gray[0, 2, 2] >= 60
    assert gray[0, 0, 0] == 60  # the room behind, at the far end
    assert gray[0, 3, 3] == 0
    assert (gray[1] == 0).all()


def test_picture_has_four_labeled_rows(scene: dict[str, torch.Tensor]):
    rgb = np.full((PEOPLE, SIDE, SIDE, 3), 90, np.uint8)
    depth = np.where(scene["silhouettes"].numpy(), 2000, 0).astype(np.uint16)
    maps = scene["rgb"], scene["depth"], scene["body"], scene["silhouettes"]
    picture = compose(rgb, depth, *maps, panel=64, title="step 10")
    assert picture.shape == (24 + 4 * 64, MARGIN + PEOPLE * 64, 3)
    assert all(picture[24 + 64 * row : 24 + 64 * (row + 1), :MARGIN].any() for row in range(4))
    assert (picture[24 : 24 + 64, MARGIN:] == 90).all()
    assert np.array_equal(cv2.imdecode(np.frombuffer(encode_png(picture), np.uint8), cv2.IMREAD_COLOR_RGB), picture)
    assert compose(rgb, depth, *maps, panel=64).shape[0] == 4 * 64
