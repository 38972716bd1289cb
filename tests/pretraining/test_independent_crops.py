"""`augment.independent` in the terms: what is compared, and with which distances."""

import dataclasses
import math

import numpy as np
import pytest
import torch

from hcmoco.data.crop_pairs import between, cell_centers
from hcmoco.errors import UserError
from hcmoco.models.multimodal import HCMoCo
from hcmoco.objectives import MODALITIES, total
from hcmoco.pretraining.loop import pretrain
from hcmoco.pretraining.losses import compute_terms, embed, encode
from hcmoco.pretraining.trainer import make_model
from hcmoco.pretraining.views import to_device
from tests.helpers import local_pretraining as tiny
from tests.helpers import objective_references as reference
from tests.helpers.tolerances import assert_step_close, flat_gradient

CPU = torch.device("cpu")
OWN = {
    "size": 64, "scale": [0.7, 1.2], "shift": 0.15, "rotation": 40, "rotation_probability": 1, "independent": True
}  # fmt: skip
STILL = {"size": 64, "scale": [1.2, 1.2], "shift": 0, "rotation_probability": 0, "brightness": 0.2}
POINTS = {"depth": {"name": "pointnet2_msg"}}
NO_DRAWS = torch.zeros(0, dtype=torch.float64)


def config_of(augment: dict, points: bool = False, **over):
    train = {"batch_size_per_lane": 5, "window_steps": 1}
    model = {"model": POINTS} if points else {}
    return tiny.tiny_config(
        **{"augment": augment, "train": train, "objective": {"num_negatives": 0, "num_anchors": 40}, **model, **over}
    )


def batch_of(config, sources):
    feed = tiny.tiny_feed(config, sources)
    items = (feed.item(0, lane) for lane in range(2))
    return next(feed.batches(items, rank=0, world=1, first_step=0, threads=1, ahead=1))


def model_of(config) -> HCMoCo:
    model = make_model(config)
    model.add_dense_mappers()
    return model.eval()


def terms_of(model, config, batch):
    return compute_terms(model, config.objective, to_device(batch, CPU, model), {}, NO_DRAWS, stage=2)[0]


def test_terms_are_those_of_each_crop_put_together_by_hand(sources):
    """Whole maps of each modality, read at its own cells; distances as the two crops have them; joints where each crop
    shows them."""
    config = config_of(OWN)
    batch, model, tau = batch_of(config, sources), model_of(config), 0.07
    has, visible = batch.has_depth, {}
    J = batch.keypoints.shape[1]
    with torch.no_grad():
        maps = {
            "rgb": model.dense_map("rgb", model.encode_rgb(model.prepare_rgb(torch.from_numpy(batch.rgb)))),
            "depth": model.dense_map("depth", model.encode_depth(model.prepare_depth(torch.from_numpy(batch.depth)))),
        }
        shown = torch.from_numpy(batch.keypoints)
        skeleton = model.joint_embedding(model.encode_keypoints(model.prepare_keypoints(shown), shown[..., 2]))
        got = {name: value.item() for name, value in terms_of(model, config, batch).values.items()}
    joints = {name: torch.zeros(len(batch), J, 16) for name in maps}
    for name, map_BDHW in maps.items():
        places = getattr(batch, f"{name}_keypoints")
        visible[name] = (places[..., 2] > 0) & (has[:, None] if name == "depth" else True)
        for b, j in np.argwhere(visible[name]):
            x, y, _ = places[b, j]
            joints[name][b, j] = map_BDHW[b, :, int(y // 4), int(x // 4)]
    seen = batch.keypoints[..., 2] > 0
    for name in maps:
        expected = reference.intra(skeleton, joints[name], torch.from_numpy(visible[name] & seen), tau)
        assert got[f"s/{name}-keypoints"] == pytest.approx(expected, rel=1e-4), name
        assert (visible[name] & ~seen).any()
    used = [torch.from_numpy(each) for each in visible.values()]
    expected = reference.inter(joints["rgb"], joints["depth"], *used, tau)
    assert got["s/inter"] == pytest.approx(expected, rel=1e-4)

    middles, losses = cell_centers(64), {"d/rgb-depth": [], "d/depth-rgb": []}
    for b in np.flatnonzero(has):
        pairs = [(r, d) for r, d in zip(batch.rgb_anchors[b], batch.anchors[b], strict=True) if d >= 0]
        assert len(pairs) > 5
        across = batch.rgb_to_depth[b].astype(np.float64)
        zoom = math.sqrt(abs(np.linalg.det(across[:, :2])))
        in_depth = {r: middles[r] @ across[:, :2].T + across[:, 2] for r, _ in pairs}

        # Cells between an RGB and a depth cell: the mean of those of the RGB map and of the depth map.
        apart = {
            (r, d): math.dist(in_depth[r], middles[d]) / 4 * (1 + 1 / zoom) / 2 for r, _ in pairs for _, d in pairs
        }
        embedded = [(maps["rgb"][b, :, r // 16, r % 16], maps["depth"][b, :, d // 16, d % 16]) for r, d in pairs]
        for term in losses:
            per_anchor = []
            for n, (rgb_n, depth_n) in enumerate(pairs):
                forth = term == "d/rgb-depth"
                weights = [math.exp(-apart[(rgb_n, d) if forth else (r, depth_n)]) for r, d in pairs]
                anchor = embedded[n][0 if forth else 1]
                scores = [float(anchor @ each[1 if forth else 0]) / tau for each in embedded]
                whole = math.log(math.fsum(map(math.exp, scores)))
                per_anchor.append(
                    -math.fsum(w * (s - whole) for w, s in zip(weights, scores, strict=True)) / math.fsum(weights)
                )
            losses[term].append(reference.mean(per_anchor))
    for term, each in losses.items():
        assert got[term] == pytest.approx(reference.mean(each), rel=1e-4)


@pytest.mark.parametrize("points", [False, True])
@pytest.mark.parametrize("method", ["hcmoco", "cmc", "mmv"])
def test_equal_affines_give_the_loss_of_shared_crops(sources, points, method):
    found = []
    for independent in (False, True):
        config = config_of(
            {**STILL, "independent": independent}, points,
            objective={"num_negatives": 0, "num_anchors": 12, "method": method},
        )  # fmt: skip
        model = make_model(config).train()
        if method == "hcmoco":
            model.add_dense_mappers()
        stage = 2 if method == "hcmoco" else 1
        batch = batch_of(config, sources)
        if independent:  # a last bit, so that it is computed as of two crops
            batch.rgb_to_depth[:, 0, 0] = np.nextafter(np.float32(1), 2)
        views = to_device(batch, CPU, model)
        terms, _ = compute_terms(model, config.objective, views, {}, NO_DRAWS, stage=stage)
        total(terms.values, config.objective, "full" if stage == 2 else "sample").backward()
        found.append((terms, model, views))
    (shared, model, views), (own, other, own_views) = found
    assert views.rgb_to_depth_B23 is None
    assert own_views.rgb_to_depth_B23 is not None
    assert len(shared.values) == {"hcmoco": 11, "cmc": 6, "mmv": 4}[method]
    for name, value in shared.values.items():
        assert own.values[name].item() == pytest.approx(value.item(), abs=1e-6), name
        assert own.counts[name] == shared.counts[name]
    assert_step_close(flat_gradient(other), flat_gradient(model))


def test_distances_are_the_mean_of_those_in_the_two_maps(sources):
    config = config_of(OWN)
    batch, model = batch_of(config, sources), model_of(config)
    views = to_device(batch, CPU, model)
    depth_BP2, rgb_BP2 = views.anchor_cells()
    back = np.stack([between(each, np.eye(2, 3)) for each in batch.rgb_to_depth])  # depth crop to RGB crop
    middles = cell_centers(64)
    for b in np.flatnonzero(batch.has_depth):
        valid = batch.anchors[b] >= 0
        depth, rgb = middles[batch.anchors[b][valid]], middles[batch.rgb_anchors[b][valid]]
        in_rgb = depth @ back[b][:, :2].T + back[b][:, 2]
        apart_in_rgb = np.linalg.norm(rgb[:, None] - in_rgb[None], axis=2) / 4
        moved = rgb @ batch.rgb_to_depth[b][:, :2].T + batch.rgb_to_depth[b][:, 2]
        apart_in_depth = np.linalg.norm(moved[:, None] - depth[None], axis=2) / 4
        found = torch.cdist(rgb_BP2[b][valid].double(), depth_BP2[b][valid].double()).numpy()
        np.testing.assert_allclose(found, (apart_in_rgb + apart_in_depth) / 2, atol=1e-4)
        assert found.diagonal().max() < 1.2, "partners lie within a cell"


def test_points_and_joints_are_read_in_the_depth_crop(sources):
    config = config_of(OWN, points=True)
    batch, model = batch_of(config, sources), model_of(config)
    views = to_device(batch, CPU, model)
    with torch.no_grad():
        features = encode(model, views)[0]
        found = embed(model, views, stage=2, encoded=(features, views.visible))["dense/depth"]
        every = model.dense_at("depth", features["depth"], torch.arange(256).expand(len(views.rows["depth"]), -1))
    P = batch.anchors.shape[1]
    for number, row in enumerate(views.rows["depth"].tolist()):
        assert torch.equal(found[row, :P], every[number, :P])
        pixels = np.column_stack([batch.points[row] % 64, batch.points[row] // 64]) + 0.5
        for joint, (x, y, visible) in enumerate(batch.depth_keypoints[row]):
            if visible:
                distance = np.hypot(*(pixels - [x, y]).T)
                close = np.flatnonzero(distance <= distance.min() + 1e-5)
                assert any(torch.equal(found[row, P + joint], every[number, k]) for k in close)


@pytest.mark.parametrize("modality", MODALITIES)
def test_what_a_crop_does_not_show_reaches_nothing(sources, modality):
    """Neither a joint that only another crop shows, nor an anchor without a partner."""
    config = config_of(OWN)
    batch, model = batch_of(config, sources), model_of(config)
    garbage = dataclasses.replace(batch)
    name = "keypoints" if modality == "keypoints" else f"{modality}_keypoints"
    joints = getattr(batch, name).copy()
    joints[joints[..., 2] == 0, :2] = np.nan
    setattr(garbage, name, joints)
    with torch.no_grad():
        one, other = terms_of(model, config, batch), terms_of(model, config, garbage)
    assert all(torch.equal(one.values[term], other.values[term]) for term in one.values)
    assert all(value.isfinite() for value in one.values.values())


def test_a_death_changes_no_bit(sources, tmp_path):
    config = tiny.tiny_config(
        augment=OWN, stages={"stage1_steps": 1, "stage2_steps": 3}, train={"save_every": 1, "window_steps": 2}
    )
    feed = tiny.tiny_feed(config, sources)
    whole = pretrain(config, feed.plan, tiny.StoppingContext(feed), None)
    with pytest.raises(tiny.DiedError):
        pretrain(config, feed.plan, tiny.StoppingContext(feed, str(tmp_path), stop=3), None)
    again = pretrain(config, feed.plan, tiny.StoppingContext(feed, str(tmp_path)), None)
    assert tiny.differences(whole.state_dict(), again.state_dict()) == []
    shared = config.model_copy(update={"augment": config.augment.model_copy(update={"independent": False})})
    with pytest.raises(UserError, match=r"augment.independent was True, now None"):
        pretrain(shared, feed.plan, tiny.StoppingContext(feed, str(tmp_path)), None)
