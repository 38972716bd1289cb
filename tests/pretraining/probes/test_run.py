"""Probes from stored records to the table: stand-in models whose figures are known, and the real model, which is left
as it was."""

import json

import cv2
import numpy as np
import pytest
import torch
from torch import nn

from hcmoco.data.codecs import encode_depth, encode_labels
from hcmoco.data.schema import Person
from hcmoco.models.encoders import EncoderConfig
from hcmoco.models.multimodal import HCMoCo, ModelConfig
from hcmoco.pretraining.probes.picture import MARGIN
from hcmoco.pretraining.probes.result import ProbeResult, comparison
from hcmoco.pretraining.probes.run import ProbeConfig, ProbeViews, feature_picture, make_views, probe

SOURCE, PEOPLE, STRIDE, SIZE = 160, 9, 4, 96
JOINTS = np.stack(np.meshgrid(np.linspace(65, 95, 4), np.linspace(56, 104, 4)), axis=-1).reshape(16, 2)


def person(number: int) -> Person:
    """Every pixel tells its place in the source image and whose it is, in both modalities; so does the first limb's
    length."""
    y, x = np.mgrid[:SOURCE, :SOURCE]
    on_person = ((x - 80) / 25.0) ** 2 + ((y - 80) / 52.0) ** 2 <= 1
    rgb = np.stack([x + 1, y + 1, np.full_like(x, 20 * number + 1)], axis=-1).astype(np.uint8)
    depth = np.where(on_person, 1 + x // 2 + 80 * (y // 2) + 6400 * number, 0).astype(np.uint16)
    joints = JOINTS.copy()
    joints[0, 0] += 0.8 * number
    return Person(
        id=f"test/{number}",
        dataset="test",
        split="test",
        size=SOURCE,
        rgb=cv2.imencode(".png", rgb[..., ::-1])[1].tobytes(),
        depth=encode_depth(depth, "zstd-delta"),
        box=np.array([55, 28, 105, 132], np.float32),
        keypoints=np.column_stack([joints, np.ones(16)]).astype(np.float32),
        parts=encode_labels(on_person.astype(np.uint8)),
    )


@pytest.fixture(scope="module")
def views() -> ProbeViews:
    return make_views(
        map(person, range(100)),
        joints="mpii-16",
        target_joints="mpii-16",
        depth_codec="zstd-delta",
        size=SIZE,
        count=PEOPLE,
    )


class Reader(nn.Module):
    """Reads the codes of `person`: the answer to every question, as embeddings."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(()))

    def prepare_rgb(self, rgb):
        return rgb.double()

    def prepare_depth(self, depth):
        return depth.double()

    def prepare_keypoints(self, keypoints):
        return keypoints[..., :2]

    def encode_rgb(self, rgb):
        return [torch.stack([rgb[..., 0] - 1, rgb[..., 1] - 1, (rgb[..., 2] - 1) / 20], dim=-1)]

    def encode_depth(self, depth):
        code = depth - 1
        return [torch.stack([2 * (code % 80) + 0.5, 2 * (code // 80 % 80) + 0.5, code // 6400], dim=-1)]

    def encode_keypoints(self, keypoints, visible):
        limb, ruler = (keypoints[:, a] - keypoints[:, b] for a, b in ((0, 1), (2, 3)))
        return ((1 - limb.norm(dim=-1) / ruler.norm(dim=-1)) * 10 / 0.8)[
            :, None, None
        ]  # 10 pixels lie between two joints of a row

    def global_embedding(self, modality, features):
        middle = SIZE // 2
        number = features[:, 0, 0] if modality == "keypoints" else features[0][:, middle, middle, 2]
        angle = number.double() * (np.pi / PEOPLE)
        return torch.stack([angle.cos(), angle.sin()], dim=-1).float()

    def dense_map(self, modality, maps):
        place = maps[0][:, STRIDE // 2 :: STRIDE, STRIDE // 2 :: STRIDE, :2]
        angle = place * (np.pi / SOURCE)
        return torch.cat([angle.cos(), angle.sin()], dim=-1).permute(0, 3, 1, 2).float()


class Surveyor(Reader):
    """Knows only where in the crop it looks: a code whose cosine falls with the distance between cells."""

    def dense_map(self, modality, maps):
        cells = (
            torch.stack(torch.meshgrid(torch.arange(24.0), torch.arange(24.0), indexing="ij"), dim=-1)
            .reshape(-1, 2)
            .double()
        )
        values, vectors = torch.linalg.eigh(torch.exp(-torch.cdist(cells, cells).square() / 200))
        code = (vectors * values.clamp(min=0).sqrt()).T.reshape(1, -1, 24, 24)
        return code.expand(len(maps[0]), -1, -1, -1).float()


class Blank(Reader):
    """A collapsed model."""

    def global_embedding(self, modality, features):
        return torch.ones(len(features[0]) if isinstance(features, list) else len(features), 8)

    def dense_map(self, modality, maps):
        return torch.ones(len(maps[0]), 8, SIZE // STRIDE, SIZE // STRIDE)


PAIRS = [f"{a}_to_{b}" for a in ("rgb", "depth", "keypoints") for b in ("rgb", "depth", "keypoints") if a != b]
DIRECTIONS = ["rgb_to_depth", "depth_to_rgb"]


def test_names_of_the_figures(views: ProbeViews):
    result = probe(Reader(), views)
    expected = [f"retrieval_{crops}/{pair}" for crops in ("same_crop", "different_crops") for pair in [*PAIRS, "mean"]]
    expected += [
        f"dense_{crops}/{direction}"
        for crops in ("same_crop", "different_crops")
        for direction in [*DIRECTIONS, "mean"]
    ]
    expected += [f"{kind}/rgb_to_{gallery}" for kind in ("joint", "joint_either_side") for gallery in ("rgb", "depth")]
    assert list(result.metrics) == expected
    assert list(result.chance) == expected
    assert list(result.position) == expected
    assert result.people == PEOPLE


def test_a_model_that_reads_the_answers_scores_all(views: ProbeViews):
    result = probe(Reader(), views)
    for name, value in result.metrics.items():
        # Pixels know their place to a pixel or two, so a few cells near the radius and a few crowded joints are lost.
        assert value > (97 if name.startswith(("dense_different", "joint")) else 99.9), name
    assert result.chance["retrieval_same_crop/mean"] == pytest.approx(100 / PEOPLE)
    assert result.chance["joint/rgb_to_depth"] == pytest.approx(100 / 16)
    assert all(result.chance[name] < 5 for name in result.chance if name.startswith("dense"))


def test_a_model_that_knows_positions_is_the_position_baseline(views: ProbeViews):
    result = probe(Surveyor(), views)
    for direction in DIRECTIONS:
        assert result.metrics[f"dense_same_crop/{direction}"] == 100
        different = f"dense_different_crops/{direction}"
        assert result.metrics[different] == pytest.approx(result.position[different], abs=1e-3)
        assert result.metrics[different] < 50


def test_a_collapsed_model_is_at_chance(views: ProbeViews):
    result = probe(Blank(), views)
    assert len(result.metrics) == 24
    for name, value in result.metrics.items():
        assert value == pytest.approx(result.chance[name], abs=1e-4), name


def test_batches_and_asked_cells_do_not_decide(views: ProbeViews):
    whole = probe(Reader(), views, ProbeConfig(batch_size=64, num_positions=10**6)).metrics
    parts = probe(Reader(), views, ProbeConfig(batch_size=2, num_positions=10**6)).metrics
    assert parts == pytest.approx(whole, abs=1e-4)
    assert probe(Reader(), views, ProbeConfig(num_positions=50)).metrics == pytest.approx(whole, abs=3)


@pytest.fixture(scope="module")
def model() -> HCMoCo:
    encoder = EncoderConfig(name="hrnet_w18_small")
    return HCMoCo(ModelConfig(rgb=encoder, depth=encoder, embedding=32), seed=3)


def test_real_model_is_left_as_it_was(model: HCMoCo, views: ProbeViews):
    model.train()
    model.depth.eval()  # a frozen part keeps its own mode
    modes = [module.training for module in model.modules()]
    state = {name: value.clone() for name, value in model.state_dict().items()}
    random = torch.random.get_rng_state()
    first = probe(model, views.first(4))
    picture = feature_picture(model, views, people=3, title="step 0")
    assert [module.training for module in model.modules()] == modes
    assert True in modes
    assert False in modes
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert torch.equal(torch.random.get_rng_state(), random)
    assert all(parameter.grad is None for parameter in model.parameters())
    assert torch.is_grad_enabled()
    assert probe(model, views.first(4)).metrics == first.metrics
    assert len(first.metrics) == 24
    assert picture.shape == (24 + 4 * 128, MARGIN + 3 * 128, 3)
    assert np.array_equal(feature_picture(model, views, people=3, title="step 0"), picture)


def test_real_model_with_dense_mappers(views: ProbeViews):
    encoder = EncoderConfig(name="hrnet_w18_small")
    model = HCMoCo(ModelConfig(rgb=encoder, depth=encoder, embedding=16), seed=3)
    before = probe(model, views.first(4), ProbeConfig(batch_size=3))
    model.add_dense_mappers()
    after = probe(model, views.first(4), ProbeConfig(batch_size=3))
    for name in before.metrics:  # the mappers of stage 2 are new, those of the sample level are not
        if name.startswith("retrieval"):
            assert after.metrics[name] == before.metrics[name]
    assert any(after.metrics[name] != before.metrics[name] for name in before.metrics if name.startswith("dense"))
    assert after.chance == before.chance


def test_modes_come_back_after_an_error(model: HCMoCo, views: ProbeViews):
    model.train()
    with pytest.raises(RuntimeError):
        probe(
            model,
            make_views(
                map(person, range(2)),
                joints="mpii-16",
                target_joints="common-13",
                depth_codec="zstd-delta",
                size=SIZE,
                count=2,
            ),
        )
    assert all(module.training for module in model.modules())


def test_result_survives_json_and_sits_beside_another(views: ProbeViews):
    reader, blank = probe(Reader(), views), probe(Blank(), views)
    again = ProbeResult.from_json(json.loads(json.dumps(reader.to_json(), allow_nan=False)))
    assert again.table() == reader.table()
    lines = comparison({"after stage 1": blank, "after stage 2": reader}).splitlines()
    assert lines[0].split("  ")[0] == "probe, %"
    assert len({len(line) for line in lines}) == 1
    row = next(line for line in lines if line.startswith("retrieval_same_crop/mean")).split()
    assert row[1:4] == ["11.1", "100.0", "11.1"]
    assert comparison({"a": reader}, markdown=True).splitlines()[1].startswith("|---")
