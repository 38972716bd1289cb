from dataclasses import fields

import cv2
import numpy as np
import pytest
import torch

from hcmoco.data.codecs import decode_depth, encode_depth
from hcmoco.data.pinhole import project
from hcmoco.data.skeletons import PEOPLE_31, convert
from hcmoco.errors import UserError
from hcmoco.models.encoders import EncoderConfig, build_encoder
from hcmoco.rng import make_rng
from hcmoco.tasks.pose import HeadConfig, PoseBatch, PoseConfig, PoseTask

CPU = torch.device("cpu")
SMALL = PoseConfig(size=64, head=HeadConfig(num_convolutions=1, channels=8, anchor_offsets=(2.0,), reduce=8))


def drawn(count, seed=0):
    return [make_rng(seed, "test", number) for number in range(count)]


def equal(a: PoseBatch, b: PoseBatch) -> bool:
    return all(np.array_equal(getattr(a, each.name), getattr(b, each.name)) for each in fields(PoseBatch))


@pytest.fixture
def task(people_about):
    return PoseTask(SMALL, people_about)


@pytest.fixture(scope="module")
def model(people_about):
    torch.manual_seed(0)
    return PoseTask(SMALL, people_about).make_model(build_encoder(EncoderConfig(name="hrnet_w18_small")))


def test_labels_are_gathered_by_joint_name(task, people_rows):
    batch = task.make_batch(people_rows, None)
    for position, row in enumerate(people_rows):
        stored = np.array(row["joints3d"], np.float32).reshape(31, 3)
        for joint, truth in zip(task.joints.joints, batch.truth[position], strict=True):
            source = {"neck": "thorax", "torso": "spine_mid"}.get(joint, joint)
            assert np.array_equal(truth, stored[PEOPLE_31.index(source)]), joint
    assert batch.annotated.all()


def test_joints_in_space_fall_on_the_stored_keypoints(task, people_rows):
    for row in people_rows:
        keypoints = convert(np.array(row["keypoints"], np.float32).reshape(31, 3), "people-31", "itop-15")[:, :2]
        truth = task.make_batch([row], None).truth[0]
        np.testing.assert_allclose(project(truth, np.array(row["camera"])), keypoints, atol=0.02)


@pytest.mark.parametrize("background", ["none", "box-depth", "ground-truth"])
@pytest.mark.parametrize("training", [False, True])
def test_a_network_that_says_the_target_scores_one(people_about, people_rows, training, background):
    task = PoseTask(SMALL.model_copy(update={"background": background}), people_about)
    batch = task.make_batch(people_rows, drawn(8) if training else None)
    predictions = task.decode(batch.target[..., :2].astype(np.float64), batch.target[..., 2].astype(np.float64), batch)
    metric = task.metric()
    metric.update(batch, predictions)
    metrics = metric.compute().metrics
    assert metrics["acc_10cm"] == 1
    assert metrics["error_cm"] < 1e-3
    for row, truth, prediction in zip(people_rows, batch.truth, predictions, strict=True):
        assert prediction["joints3d"].dtype == prediction["joints2d"].dtype == np.float32
        np.testing.assert_allclose(prediction["joints2d"], project(truth, np.array(row["camera"])), atol=1e-3)


def test_other_peoples_poses_score_about_chance(task, people_rows):
    batch = task.make_batch(people_rows, None)
    metric = task.metric()
    metric.update(batch, [{"joints3d": joints} for joints in np.roll(batch.truth, 1, 0)])
    assert metric.compute().metrics["acc_10cm"] < 0.15


def test_evaluation_never_sees_a_label(people_about, people_rows):
    changed = [{**row, "joints3d": list(np.array(row["joints3d"]) * 0.7)} for row in people_rows]
    absent = [{**row, "joints3d": None} for row in people_rows]
    for background, leaks in (("box-depth", False), ("none", False), ("ground-truth", True)):
        task = PoseTask(SMALL.model_copy(update={"background": background}), people_about)
        as_labeled, otherwise = task.make_batch(people_rows, None), task.make_batch(changed, None)
        inputs = [
            getattr(as_labeled, name).tobytes() == getattr(otherwise, name).tobytes()
            for name in ("depth", "mean", "matrix")
        ]
        assert all(inputs) != leaks
        assert not np.array_equal(as_labeled.truth, otherwise.truth)
        if leaks:
            with pytest.raises(UserError, match="cuts the input behind the labeled joints"):
                task.make_batch(absent, None)
        else:
            unlabeled = task.make_batch(absent, None)
            assert np.array_equal(unlabeled.depth, as_labeled.depth)
            assert not unlabeled.annotated.any()


def test_masked_people_lose_only_stray_readings_as_background(people_about, people_rows):
    kept, whole = (
        PoseTask(SMALL.model_copy(update={"background": background}), people_about).make_batch(people_rows, None)
        for background in ("box-depth", "none")
    )
    lost = kept.depth != whole.depth
    assert lost.sum() < 1e-3 * (whole.depth > 0).sum()
    for readings, truth in zip(np.where(lost, whole.depth / 1000, np.nan), whole.truth, strict=True):
        assert not (np.abs(readings[np.isfinite(readings)] - truth[:, 2].mean()) < 1).any()


def test_batches_are_functions_of_rows_and_draws(task, people_rows):
    batch = task.make_batch(people_rows, drawn(8))
    assert equal(batch, task.make_batch(people_rows, drawn(8)))
    assert not equal(batch, task.make_batch(people_rows, drawn(8, seed=1)))
    alone = [task.make_batch([row], [draw]) for row, draw in zip(people_rows, drawn(8), strict=True)]
    assert equal(batch, PoseBatch.concatenate(alone))


def test_mirrored_crops_are_mirrored_with_left_and_right_exchanged(people_about, people_rows):
    plain, mirrored = (
        PoseTask(SMALL.model_copy(update={"flip_probability": share, "rotation": 0.0}), people_about).make_batch(
            people_rows, drawn(8)
        )
        for share in (0.0, 1.0)
    )
    flip = PoseTask(SMALL, people_about).joints.flip
    expected = plain.target[:, flip] * np.float32([-1, 1, 1]) + np.float32([64, 0, 0])
    np.testing.assert_allclose(mirrored.target, expected, atol=0.05)
    # A pixel's center that falls between two stored ones may go to either.
    assert (mirrored.depth[..., ::-1] != plain.depth).mean() < 0.02


def test_joints_without_a_finite_place_before_the_camera_are_not_annotated(task, model, people_rows):
    broken = np.array(people_rows[0]["joints3d"], np.float32).reshape(31, 3)
    for joint, value in (("left_knee", [np.nan, 0, 2]), ("right_knee", [0, 0, 0]), ("head", [0, 0, -1])):
        broken[PEOPLE_31.index(joint)] = value
    batch = task.make_batch([{**people_rows[0], "joints3d": broken.ravel().tolist()}], drawn(1))
    assert [joint for joint, known in zip(task.joints.joints, batch.annotated[0], strict=True) if not known] == [
        *("head", "right_knee", "left_knee")
    ]
    assert np.isfinite(batch.target).all()
    assert np.isfinite(task.losses(model, batch, CPU)["loss"].item())


def test_an_empty_crop_teaches_nothing_and_still_counts_as_a_miss(task, model, people_rows):
    empty = {**people_rows[0], "depth": encode_depth(np.zeros((96, 96), np.uint16), "png16")}
    batch = task.make_batch([empty], None)
    assert task.losses(model, batch, CPU)["loss"] == 0
    metric = task.metric()
    metric.update(batch, task.predict(model.eval(), batch, CPU))
    assert metric.compute().metrics["acc_10cm"] == 0
    assert metric.compute().metrics["error_cm"] > 100


def test_rows_that_do_not_decode_are_named(task, people_rows):
    with pytest.raises(ValueError, match=r"record 'people/indoor-5-1': .*truncated"):
        task.make_batch([people_rows[0], {**people_rows[1], "depth": people_rows[1]["depth"][:100]}], None)
    with pytest.raises(UserError, match="record 'people/indoor-5-0' has no camera: pose needs both"):
        task.make_batch([{**people_rows[0], "camera": None}], None)


def test_labels_that_cannot_name_a_joint_are_refused(people_about):
    with pytest.raises(
        UserError, match="the labels of people are coco-17, which has no neck, right_hand, left_hand, torso"
    ):
        PoseTask(SMALL, people_about.model_copy(update={"joints3d": "coco-17"}))
    assert len(PoseTask(SMALL.model_copy(update={"joints": "common-13"}), people_about).joints) == 13


def test_predictions_do_not_depend_on_the_batch(task, model, people_rows):
    together = task.predict(model.eval(), task.make_batch(people_rows, None), CPU)
    for row, expected in zip(people_rows, together, strict=True):
        (found,) = task.predict(model, task.make_batch([row], None), CPU)
        np.testing.assert_allclose(found["joints3d"], expected["joints3d"], atol=1e-4)
        assert found["joints3d"].shape == (15, 3)


def test_every_parameter_learns_and_autocast_agrees(task, model, people_rows):
    batch = task.make_batch(people_rows, drawn(8))
    model.train().zero_grad()
    losses = task.losses(model, batch, CPU)
    losses["loss"].backward()
    assert losses["loss"].item() == pytest.approx(
        (losses["anchor"] + 3 * (0.5 * losses["in_plane"] + losses["depth"])).item()
    )
    assert all(each.grad is not None and torch.isfinite(each.grad).all() for each in model.parameters())
    assert all(
        each.grad.any() for name, each in model.named_parameters() if name.startswith("head") and "0.bias" not in name
    )
    with torch.autocast("cpu", torch.bfloat16):
        rounded = task.losses(model, batch, CPU)["loss"]
    assert rounded.dtype == torch.float32
    assert rounded.item() == pytest.approx(losses["loss"].item(), rel=0.05)


def test_published_sizes(people_about):
    task = PoseTask(PoseConfig(), people_about)
    model = task.make_model(build_encoder(EncoderConfig(name="hrnet_w18")))
    with torch.device("meta"):
        maps = build_encoder(EncoderConfig(name="hrnet_w18"))(torch.zeros(1, 3, 288, 288))
    assert [tuple(each.shape[1:]) for each in maps] == [(18, 72, 72), (36, 36, 36), (72, 18, 18), (144, 9, 9)]
    assert model.head.anchors_N2.shape == (46656, 2)
    assert [branch[0].in_channels for branch in (model.head.response, model.head.offset, model.head.depth)] == [270] * 3
    assert [branch[-1].out_channels for branch in (model.head.response, model.head.offset, model.head.depth)] == [
        135,
        270,
        135,
    ]
    assert [
        sum(isinstance(layer, torch.nn.Conv2d) for layer in model.head.response),
        model.head.response[-1].in_channels,
    ] == [5, 256]
    with torch.no_grad():
        joints = model.head([torch.randn(each.shape) for each in maps])
    assert [tuple(each.shape) for each in joints] == [(1, 15, 2), (1, 15, 2), (1, 15)]


@pytest.mark.slow
def test_one_published_step(people_about, people_rows):
    task = PoseTask(PoseConfig(), people_about)
    torch.manual_seed(0)
    model = task.make_model(build_encoder(EncoderConfig(name="hrnet_w18")))
    optimizer = torch.optim.Adam(model.parameters(), 3.5e-4, weight_decay=1e-4)
    before = [each.detach().clone() for each in model.head.parameters()]
    loss = task.losses(model, task.make_batch(people_rows[:2], drawn(2)), CPU)["loss"]
    loss.backward()
    optimizer.step()
    assert torch.isfinite(loss)
    assert any(not torch.equal(a, b) for a, b in zip(before, model.head.parameters(), strict=True))


def test_a_sheet_shows_each_person_in_a_line(task, people_rows):
    batch = task.make_batch(people_rows[:3], None)
    predictions = [{"joints3d": each} for each in batch.truth]
    sheet = task.visualize(people_rows[:3], predictions)
    assert sheet.dtype == np.uint8
    assert sheet.shape == (26 + 3 * 230, 4 * 230, 3)
    wrong = task.visualize(people_rows[:3], [{"joints3d": each + np.float32([0.3, 0, 0])} for each in batch.truth])
    changed = np.abs(sheet.astype(int) - wrong).any(-1)
    assert not changed[:, :460].any()
    assert changed[:, 460:690].any()
    unlabeled = task.visualize([{**people_rows[0], "joints3d": None}], [{"joints3d": np.full((15, 3), np.nan)}])
    assert unlabeled.shape[0] == 256


def test_a_real_frame_goes_there_and_back(people_about, itop_samples):
    depth = np.load(itop_samples / "depth_mm_side_test_00053.npy")
    with np.load(itop_samples / "itop_side_test_rows_0000_1499.npz") as rows:
        world, box = rows["gt_world_m"][0] * np.float32([1, -1, 1]), rows["bbox_xyxy"][0]
    row = {
        "id": "itop/53", "size": 320,
        "depth": encode_depth(cv2.copyMakeBorder(depth, 0, 80, 0, 0, cv2.BORDER_CONSTANT), "png16"),
        "camera": [1 / 0.0035, 1 / 0.0035, 160, 120], "box": box.tolist(), "joints3d": world.ravel().tolist(),
    }  # fmt: skip
    config = replace_published(PoseConfig(size=288, depth_range=0.7))
    task = PoseTask(config, people_about.model_copy(update={"joints3d": "itop-15"}))
    batch = task.make_batch([row], None)
    (prediction,) = task.decode(
        batch.target[..., :2].astype(np.float64), batch.target[..., 2].astype(np.float64), batch
    )
    np.testing.assert_allclose(prediction["joints3d"], world, atol=1e-4)
    # What is kept is the person's depth: the joints lie within a hand's breadth behind a reading, and the wall is gone.
    places = batch.target[0, :, :2].astype(int)
    readings = np.array([batch.depth[0, y, x] for x, y in places if 0 <= x < 288 and 0 <= y < 288]) / 1000
    assert np.median(np.abs(readings - world[:, 2][: len(readings)])) < 0.1
    everything = decode_depth(row["depth"], "png16")[int(box[1]) : int(box[3]), int(box[0]) : int(box[2])]
    assert batch.depth.max() < world[:, 2].max() * 1000 + 800
    assert (batch.depth > 0).mean() < 0.6 * (everything > 0).mean()


def replace_published(config: PoseConfig) -> PoseConfig:
    return config.model_copy(
        update={"margin_unit": "pixels", "margin": (25.0, 15.0), "jitter": 10.0, "test_margin": (0.0, 0.0)}
    )
