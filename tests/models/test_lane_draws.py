"""What layers and samplers draw for a row is the same however the lanes are dealt to workers."""

import pytest
import torch
from torch import nn

from hcmoco.errors import UserError
from hcmoco.models.encoders import EncoderConfig, build_encoder
from hcmoco.models.lane_draws import LaneDraws, LaneDropout, LaneDropPath, permutation
from hcmoco.tasks.densepose.detector import ImageSampler

CPU = torch.device("cpu")
LANES, ROWS = 4, 3


def draws(lanes=range(LANES), step: int = 7, seed: int = 1) -> LaneDraws:
    return LaneDraws(seed, step, lanes, ROWS, CPU)


def layers(kind: str) -> nn.Module:
    return nn.Sequential(*(LaneDropPath(0.4) if kind == "path" else LaneDropout(0.4) for _ in range(2))).train()


@pytest.mark.parametrize("kind", ["path", "dropout"])
@pytest.mark.parametrize("windows", [1, 2])
def test_a_row_gets_the_same_on_any_worker(kind, windows):
    x, model = torch.ones(LANES * ROWS * windows, 5, 2), layers(kind)
    with draws().of("rgb"):
        alone = model(x).view(LANES, ROWS * windows, 5, 2)
    assert 0.1 < (alone == 0).float().mean() < 0.9
    for world in (2, 4):
        for rank in range(world):
            served = range(rank, LANES, world)
            with draws(served).of("rgb"):
                here = model(x[: len(served) * ROWS * windows])
            assert torch.equal(here, alone[list(served)].flatten(0, 1))
    for other in (draws(step=8).of("rgb"), draws(seed=2).of("rgb"), draws().of("depth")):
        with other:
            assert not torch.equal(model(x), alone.flatten(0, 1))


@pytest.mark.parametrize("kind", ["path", "dropout"])
def test_rows_that_an_encoder_does_not_see_change_nothing_for_the_others(kind):
    x, model = torch.ones(LANES * ROWS, 5), layers(kind)
    seen = torch.tensor([0, 2, 3, 8, 11])
    with draws().of("depth"):
        whole = model(x)
    with draws().of("depth", seen):
        assert torch.equal(model(x[seen]), whole[seen])


@pytest.mark.parametrize("kind", ["path", "dropout"])
@pytest.mark.parametrize("rows", [slice(0, 2), slice(4, 5), slice(3, 9), slice(7, 12), slice(0, 12)])
def test_some_rows_alone_get_what_they_get_among_all_each_time(kind, rows):
    x, model = torch.ones(LANES * ROWS, 5), layers(kind)
    step = draws()
    with step.of("rgb"):
        whole = model(x)
    for _ in range(2):
        with step.part(rows).of("rgb"):
            assert torch.equal(model(x[rows]), whole[rows])
    seen = torch.tensor([rows.stop - rows.start - 1])
    with step.part(rows).of("rgb", seen):
        assert torch.equal(model(x[rows][seen]), whole[rows][seen])
    with step.of("model"):
        order = permutation(9, rows.stop - 1, CPU)
    with step.part(rows).of("model"):
        # The lane's generator is fresh in both.
        assert torch.equal(permutation(9, rows.stop - rows.start - 1, CPU), order)


@pytest.mark.parametrize(("layer", "plain"), [(LaneDropPath(0.3), "path"), (LaneDropout(0.3), "dropout")])
def test_layers_keep_the_mean_and_drop_as_often_as_they_say(layer, plain):
    x = torch.ones(600, 40)
    with LaneDraws(0, 0, range(200), ROWS, CPU).of("rgb"):
        y = layer.train()(x)
    assert y.unique().tolist() == pytest.approx([0, 1 / 0.7])
    assert (y == 0).float().mean().item() == pytest.approx(0.3, abs=0.06 if plain == "path" else 0.01)
    assert ((y == 0).all(1) | (y != 0).all(1)).all().item() == (plain == "path"), "a whole row, or its elements"
    assert torch.equal(layer.eval()(x), x)
    torch.manual_seed(0)
    first = layer.train()(x)
    torch.manual_seed(0)
    assert torch.equal(layer(x), first), "outside of a training step torch's generator draws"
    assert not torch.equal(layer(x), first)


def test_encoders_draw_by_lane_and_keep_their_names():
    encoder = build_encoder(EncoderConfig(name="test_convnext", args={"drop_path_rate": 0.5})).train()
    assert sum(isinstance(each, LaneDropPath) for each in encoder.modules()) == 8
    plain = build_encoder(EncoderConfig(name="test_convnext"))
    assert list(encoder.state_dict()) == list(plain.state_dict())
    x = torch.randn(LANES * ROWS, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        with draws().of("rgb"):
            alone = encoder(x)
        for rank in range(2):
            rows = torch.cat([torch.arange(ROWS) + lane * ROWS for lane in range(rank, LANES, 2)])
            with draws(range(rank, LANES, 2)).of("rgb"):
                here = encoder(x[rows])
            for one, other in zip(here, alone, strict=True):
                torch.testing.assert_close(one, other[rows], rtol=1e-4, atol=1e-5)


def test_what_draws_otherwise_is_refused():
    with (
        pytest.raises(
            UserError, match=r"rgb: a layer of the encoder draws for a worker's rows together.*drop_path_rate"
        ),
        draws().of("rgb"),
    ):
        nn.Dropout2d(0.5).train()(torch.ones(LANES * ROWS, 2, 4, 4))
    with pytest.raises(RuntimeError, match="draws for 5 entries of a batch of 12 rows"), draws().of("rgb"):
        LaneDropPath(0.5).train()(torch.ones(5, 2))


def labels(images: int) -> list[torch.Tensor]:
    rng = torch.Generator().manual_seed(3)
    return [torch.randint(-1, 2, (50 + 7 * image,), generator=rng) for image in range(images)]


def test_detection_samples_boxes_of_an_image_by_its_lane():
    given, sampler = labels(LANES * ROWS), ImageSampler(16, 0.25)
    with draws().of("model"):
        alone = [sampler(given) for _ in range(2)]
        order = [permutation(30, image, CPU) for image in range(len(given))]
    assert any(not torch.equal(a, b) for a, b in zip(alone[0][0], alone[1][0], strict=True)), "drawn anew each time"
    for positive, negative, label_R in zip(*alone[0], given, strict=True):
        assert (positive.sum(), negative.sum()) == (4, 12)
        assert (label_R[positive.bool()] == 1).all()
        assert (label_R[negative.bool()] == 0).all()
    for rank in range(2):
        rows = [lane * ROWS + row for lane in range(rank, LANES, 2) for row in range(ROWS)]
        with draws(range(rank, LANES, 2)).of("model"):
            for time in range(2):
                for mine, all_of_them in zip(sampler([given[row] for row in rows]), alone[time], strict=True):
                    assert all(torch.equal(a, all_of_them[row]) for a, row in zip(mine, rows, strict=True))
            for number, row in enumerate(rows):
                assert torch.equal(permutation(30, number, CPU), order[row])


@pytest.mark.parametrize(
    ("persons", "background", "expected"), [(0, 40, (0, 16)), (2, 40, (2, 14)), (9, 3, (4, 3)), (0, 0, (0, 0))]
)
def test_few_boxes_are_all_taken(persons, background, expected):
    label = torch.tensor([1] * persons + [0] * background + [-1] * 5)
    (positive,), (negative,) = ImageSampler(16, 0.25)([label])
    assert (int(positive.sum()), int(negative.sum())) == expected
