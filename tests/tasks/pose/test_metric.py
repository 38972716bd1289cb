import math
from types import SimpleNamespace

import numpy as np
import pytest

from hcmoco.data.skeletons import ITOP_15
from hcmoco.errors import UserError
from hcmoco.tasks.pose import PoseMetric


def labeled(truth, annotated=None):
    return SimpleNamespace(truth=truth, annotated=np.ones(truth.shape[:2], bool) if annotated is None else annotated)


def predictions(joints):
    return [{"joints3d": each} for each in joints]


def scored(names, truth, found, annotated=None):
    metric = PoseMetric(names)
    metric.update(labeled(truth, annotated), predictions(found))
    return metric.compute()


def people(rows=40, seed=0):
    rng = np.random.default_rng(seed)
    truth = rng.normal(0, 0.4, (rows, 3, 3)).astype(np.float32) + np.float32([0, 0, 3])
    return truth, (truth + rng.normal(0, 0.06, truth.shape)).astype(np.float32), rng.random((rows, 3)) < 0.8


def test_known_distances_have_known_scores():
    truth = np.zeros((2, 2, 3), np.float32)
    found = truth.copy()
    found[0, 0] = [0.03, 0.04, 0]  # 5 cm
    found[0, 1] = [0, 0, 0.15]
    found[1, 1] = [0, 0.3, 0]
    result = scored(("a", "b"), truth, found)
    assert result.metrics == pytest.approx(
        {"acc_10cm": 0.5, "error_cm": (5 + 15 + 0 + 30) / 4, "auc_20cm": (0.75 + 0.25 + 1 + 0) / 4}
    )
    assert result.rows == 2
    assert result.columns == ("joint", "acc_10cm", "error_cm", "auc_20cm", "annotated")
    assert result.per_class[0] == ("a", 1.0, pytest.approx(2.5), pytest.approx(0.875), 2)
    assert result.per_class[1] == ("b", 0.0, pytest.approx(22.5), pytest.approx(0.125), 2)


def test_the_limit_itself_misses():
    truth = np.zeros((1, 2, 3))
    found = np.array([[[0.1, 0, 0], [np.nextafter(0.1, 0), 0, 0]]])
    assert scored(("a", "b"), truth, found).metrics["acc_10cm"] == 0.5


def test_the_area_is_that_of_the_curve_over_many_thresholds():
    truth, found, _ = people()
    error = np.linalg.norm(found.astype(float) - truth.astype(float), axis=-1)
    curve = [(error < limit).mean() for limit in np.linspace(0, 0.2, 20001)]
    assert scored("abc", truth, found).metrics["auc_20cm"] == pytest.approx(np.mean(curve), abs=1e-4)


def test_the_truth_scores_one_and_a_shuffle_about_chance():
    truth, _, _ = people(400)
    perfect = scored("abc", truth, truth).metrics
    assert perfect == {"acc_10cm": 1.0, "error_cm": 0.0, "auc_20cm": 1.0}
    # Two people's joints differ by a normal vector of 0.4 * sqrt(2) a side: its length is Maxwell distributed.
    scale = 0.4 * math.sqrt(2)
    x = 0.1 / scale
    chance = math.erf(x / math.sqrt(2)) - math.sqrt(2 / math.pi) * x * math.exp(-x * x / 2)
    shuffled = scored("abc", truth, np.roll(truth, 1, 0)).metrics
    assert shuffled["acc_10cm"] == pytest.approx(chance, abs=0.006)
    assert shuffled["error_cm"] == pytest.approx(100 * 2 * scale * math.sqrt(2 / math.pi), rel=0.05)


def test_scores_do_not_depend_on_batches_order_or_workers():
    truth, found, annotated = people(41)
    whole = scored("abc", truth, found, annotated)
    order = np.random.default_rng(3).permutation(41)
    workers = [PoseMetric("abc") for _ in range(3)]
    for number, start in enumerate(range(0, 41, 6)):
        rows = order[start : start + 6]
        workers[number % 3].update(labeled(truth[rows], annotated[rows]), predictions(found[rows]))
    empty = PoseMetric("abc")
    empty.update(labeled(truth[:0]), [])
    merged = PoseMetric("abc")
    for worker in (workers[2], empty, workers[0], workers[1]):
        merged.merge(worker.state())
    assert merged.compute() == whole


def test_joints_that_are_not_annotated_do_not_count():
    truth, found, annotated = people()
    polluted = np.where(annotated[..., None], truth, np.float32(np.nan))
    assert scored("abc", polluted, found, annotated) == scored("abc", truth, found, annotated)
    annotated[:, 1] = False
    result = scored("abc", truth, found, annotated)
    assert math.isnan(result.per_class[1][1])
    assert result.per_class[1][-1] == 0
    assert math.isfinite(result.metrics["error_cm"])


def test_predictions_that_are_not_finite_miss():
    truth = np.zeros((1, 4, 3))
    found = truth.copy()
    found[0, 1], found[0, 2] = np.nan, np.inf
    metrics = scored("abcd", truth, found).metrics
    assert metrics == {"acc_10cm": 0.5, "error_cm": math.inf, "auc_20cm": 0.5}


def test_nothing_annotated_is_said():
    with pytest.raises(UserError, match="none of the 2 rows to be scored has an annotated joint"):
        scored("a", np.zeros((2, 1, 3)), np.zeros((2, 1, 3)), np.zeros((2, 1), bool))


def test_published_predictions_have_their_published_accuracy(itop_samples):
    with np.load(itop_samples / "itop_side_test_rows_0000_1499.npz") as rows:
        truth, uvd = rows["gt_world_m"], rows["a2j_pred_uvd"].astype(np.float64)
    u, v, z = uvd[..., 0], uvd[..., 1], uvd[..., 2]
    world = np.stack([(u - 160) * z * 0.0035, (120 - v) * z * 0.0035, z], -1)
    result = scored(ITOP_15.joints, truth, world)
    assert result.metrics["acc_10cm"] == pytest.approx(0.8267, abs=5e-5)
    assert result.metrics["error_cm"] == pytest.approx(6.94, abs=5e-3)
    by_joint = {row[0]: row[1] for row in result.per_class}
    published = {
        "head": 0.9920,
        "neck": 0.9933,
        "left_hand": 0.5547,
        "torso": 0.9767,
        "right_hip": 0.8960,
        "right_knee": 0.8873,
    }
    for joint, accuracy in published.items():
        assert by_joint[joint] == pytest.approx(accuracy, abs=5e-5), joint
