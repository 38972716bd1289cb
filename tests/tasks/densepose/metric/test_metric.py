"""The whole metric on scenes whose scores follow from the definition."""

import numpy as np
import pytest

from hcmoco.errors import UserError
from hcmoco.rng import make_rng
from hcmoco.tasks.densepose.metric.geodesics import COARSE_PARTS, PART_SCALES, SINGLE_SCALE, chart_scales
from hcmoco.tasks.densepose.metric.matching import THRESHOLDS
from hcmoco.tasks.densepose.metric.metric import KINDS, MAIN, DensePoseMetric
from tests.helpers.evaluation_scenes import ELSEWHERE, Rows, detected, line_surface, painted, person

SIZE = (120, 160)
BODY = painted(41, 48)


def rows(*people, first: int = 0) -> Rows:
    return Rows(tuple(f"{first + k:04d}" for k in range(len(people))), np.tile(SIZE, (len(people), 1)), list(people))


def scored(people: list, predictions: list, surface=None) -> dict:
    metric = DensePoseMetric(surface or line_surface())
    metric.update(rows(*people), predictions)
    return metric.compute().metrics


def test_the_truth_scores_one():
    tiny = painted(20, 20, 3, 4)
    people = [[person(5, 10, BODY), person(70, 20, BODY)], [person(0, 0, BODY)], [person(100, 60, tiny)], []]
    predictions = [
        detected((0.9, 5, 10, BODY), (0.3, 70, 20, BODY)),
        detected((0.2, 0, 0, BODY)),
        detected((0.8, 100, 60, tiny)),
        detected(),
    ]
    metric = DensePoseMetric(line_surface())
    metric.update(rows(*people), predictions)
    result = metric.compute()
    assert MAIN in result.metrics
    assert len(result.metrics) == 6 * len(KINDS)
    assert set(result.metrics.values()) == {1.0}
    assert result.rows == 4
    assert result.columns == ("metric", "all", "medium", "large")
    for name, everybody, medium, large in result.per_class:
        assert (everybody, medium) == (1, 1), name
        assert np.isnan(large)


@pytest.mark.parametrize("scale", [None, SINGLE_SCALE])
@pytest.mark.parametrize("steps", [3, 8, 15, 25])
def test_shifted_coordinates_lower_gps_by_its_formula(steps, scale):
    """One person, one chart: an error of d everywhere is a similarity of exp(-d^2 / (2 kappa^2)), right at the
    thresholds below it."""
    body = painted(41, 48, 12, 12)
    shifted = body + np.array([0, steps / 100, 0], np.float32)
    metrics = scored([[person(5, 10, body)]], [detected((0.9, 5, 10, shifted))], line_surface(chart_scales(scale)))
    kappa = PART_SCALES[4] if scale is None else SINGLE_SCALE
    gps = np.exp(-((steps * 0.01) ** 2) / (2 * kappa**2))
    assert metrics["gps_ap"] == pytest.approx((gps >= THRESHOLDS).mean())
    assert metrics["gps_ar"] == pytest.approx((gps >= THRESHOLDS).mean())
    assert metrics["gpsm_ap"] == pytest.approx((np.sqrt(gps) >= THRESHOLDS).mean())
    assert metrics["gps_ap50"] == (gps >= 0.5)
    assert metrics["gps_ap75"] == (gps >= 0.75)
    assert metrics["mask_ap"] == metrics["box_ap"] == 1


def test_exchanged_arms_are_wrong_on_the_arms_alone():
    exchanged = BODY.copy()
    chart = BODY[..., 0].astype(int)
    other = np.arange(25)
    other[15:23] = [16, 15, 18, 17, 20, 19, 22, 21]
    exchanged[..., 0] = other[chart]
    annotated = person(5, 10, BODY)
    charts = annotated["dp_points"][:, 2].astype(int)
    wrong = np.exp(-(ELSEWHERE**2) / (2 * PART_SCALES[COARSE_PARTS[charts] - 1] ** 2))
    gps = np.where((charts >= 15) & (charts <= 22), wrong, 1).mean()
    assert 0.5 < gps < 0.75
    metrics = scored([[annotated]], [detected((0.9, 5, 10, exchanged))])
    assert metrics["gps_ap"] == pytest.approx((gps >= THRESHOLDS).mean())
    assert metrics["mask_ap"] == 1


def test_masks_and_points_make_gpsm():
    """The right half of the body is not seen: half of the points and half of the mask."""
    half = BODY.copy()
    half[:, 21:, 0] = 0
    annotated = person(5, 10, BODY, every=1)
    share = 21 / 41
    metrics = scored([[annotated]], [detected((0.9, 5, 10, half))])
    for name in ("gps", "mask", "gpsm"):
        assert metrics[f"{name}_ap"] == pytest.approx((share >= THRESHOLDS).mean()), name
    assert metrics["box_ap"] == 1
    shifted = half + np.array([0, 0.06, 0], np.float32) * (half[..., :1] > 0)
    kappa = chart_scales()[annotated["dp_points"][:, 2].astype(int)]
    seen = annotated["dp_points"][:, 0] < 5 + 21
    gps = np.where(seen, np.exp(-(0.06**2) / (2 * kappa**2)), 0).mean()
    assert gps < 0.5 < np.sqrt(gps * 0.7)
    wide = np.concatenate([shifted, np.zeros_like(shifted)], axis=1)
    metrics = scored(
        [[{**annotated, "mask": annotated["mask"] & (np.arange(SIZE[1]) < 30)}]], [detected((0.9, 5, 10, wide))]
    )
    iou = 21 / 25
    assert metrics["gpsm_ap"] == pytest.approx((np.sqrt(gps * iou) >= THRESHOLDS).mean())
    assert metrics["gps_ap"] == 0


def test_one_of_two_people_found():
    """Recall 0.5: 51 of the 101 recalls are reached, all with precision 1."""
    metrics = scored([[person(5, 10, BODY), person(70, 20, BODY)]], [detected((0.9, 70, 20, BODY))])
    for kind in KINDS:
        assert metrics[f"{kind}_ap"] == pytest.approx(51 / 101)
        assert metrics[f"{kind}_ar"] == 0.5


def test_duplicates():
    """A second detection of one person is wrong: it costs nothing below the first, and before it half of the
    precision."""
    people = [[person(5, 10, BODY)], [person(5, 10, BODY)]]
    metrics = scored(people, [detected((0.9, 5, 10, BODY), (0.1, 5, 10, BODY)), detected((0.8, 5, 10, BODY))])
    assert all(metrics[f"{kind}_ap"] == 1 for kind in KINDS)
    # right at 0.9, wrong at 0.85, right at 0.8: precision 1 up to recall 0.5, then 2/3
    metrics = scored(people, [detected((0.9, 5, 10, BODY), (0.85, 5, 10, BODY)), detected((0.8, 5, 10, BODY))])
    assert all(metrics[f"{kind}_ap"] == pytest.approx((51 + 50 * 2 / 3) / 101) for kind in KINDS)


def test_detections_in_a_crowd_count_for_nothing():
    crowd = {"box": np.array([70, 0, 160, 120], np.float32), "mask": None, "dp_points": None, "crowd": True}
    found = detected((0.95, 80, 10, BODY), (0.94, 100, 40, BODY), (0.9, 5, 10, BODY))
    metrics = scored([[crowd, person(5, 10, BODY)]], [found])
    assert set(metrics.values()) == {1.0}
    metrics = scored([[person(5, 10, BODY)]], [found])
    assert all(metrics[f"{kind}_ap"] == pytest.approx(1 / 3) for kind in KINDS)


def test_people_without_points_are_boxes_only():
    """Like most people of COCO: a person without points counts for the boxes and is ignored by the rest."""
    plain = {**person(70, 20, BODY), "dp_points": None}
    metrics = scored(
        [[plain, person(5, 10, BODY)], [plain]],
        [detected((0.99, 70, 20, BODY), (0.9, 5, 10, BODY)), detected((0.99, 70, 20, BODY))],
    )
    assert set(metrics.values()) == {1.0}
    metrics = scored([[plain, person(5, 10, BODY)]], [detected((0.9, 5, 10, BODY))])
    assert metrics["box_ar"] == 0.5
    assert metrics["gps_ar"] == metrics["mask_ar"] == 1


def test_nothing_predicted_scores_zero():
    assert set(scored([[person(5, 10, BODY)], []], [detected(), detected()]).values()) == {0.0}


def test_background_everywhere_scores_zero_but_for_the_box():
    metrics = scored([[person(5, 10, BODY)]], [detected((0.9, 5, 10, np.zeros_like(BODY)))])
    assert metrics["box_ap"] == 1
    assert all(metrics[f"{kind}_ap"] == 0 for kind in ("gps", "gpsm", "mask"))


def test_without_points_there_is_one_line():
    plain = {**person(5, 10, BODY), "dp_points": None}
    with pytest.raises(
        UserError, match=r"none of the 2 evaluated rows has a person with DensePose points .*; evaluate on"
    ) as error:
        scored([[plain], []], [detected((0.9, 5, 10, BODY)), detected()])
    assert "\n" not in str(error.value)


def test_without_masks_only_boxes_and_points_are_scored():
    metrics = scored([[{**person(5, 10, BODY), "mask": None}]], [detected((0.9, 5, 10, BODY))])
    assert metrics["box_ap"] == metrics["gps_ap"] == 1
    assert np.isnan([metrics["mask_ap"], metrics["gpsm_ap"], metrics["gpsm_ar75"]]).all()


def test_a_detection_that_begins_outside_the_image():
    """Its array begins at the image's edge, and what lies beyond the other edge is cut."""
    annotated = person(0, 90, BODY[:30])
    prediction = {"boxes": np.array([[-7.5, 90.4, 41, 138]], np.float32), "scores": np.ones(1), "iuv": [BODY]}
    metrics = scored([[annotated]], [prediction])
    assert metrics["gps_ap"] == metrics["mask_ap"] == 1


def random_scene(rng: np.random.Generator):
    people, found = [], []
    for _ in range(rng.integers(0, 4)):
        left, top = int(rng.integers(0, 110)), int(rng.integers(0, 70))
        annotated = person(left, top, BODY)
        annotated["crowd"] = bool(rng.random() < 0.1)
        if rng.random() < 0.2 or annotated["crowd"]:
            annotated["dp_points"] = None
        people.append(annotated)
        for _ in range(rng.integers(0, 3)):
            moved = BODY + np.array([0, rng.integers(0, 20) / 100, 0], np.float32)
            x, y = left + int(rng.integers(-6, 7)), top + int(rng.integers(-6, 7))
            found.append((float(rng.integers(1, 9)) / 9, max(x, 0), max(y, 0), moved))
    return people, detected(*found)


def test_order_batches_and_workers_do_not_matter():
    rng = make_rng(0, "scenes")
    scenes = [random_scene(rng) for _ in range(24)]
    names = [f"row-{k:02d}" for k in range(24)]

    def part(numbers):
        return Rows(
            tuple(names[k] for k in numbers), np.tile(SIZE, (len(numbers), 1)), [scenes[k][0] for k in numbers]
        ), [scenes[k][1] for k in numbers]

    surface = line_surface()
    whole = DensePoseMetric(surface)
    whole.update(*part(range(24)))
    expected = whole.compute()
    assert 0 < expected.metrics["gps_ap"] < 1

    order = rng.permutation(24)
    workers = [DensePoseMetric(surface) for _ in range(3)]
    for place, number in enumerate(order):
        workers[place % 3].update(*part([number]))
    total = DensePoseMetric(surface)
    for worker in (workers[2], workers[0], workers[1]):
        total.merge(worker.state())
    assert repr(total.compute()) == repr(expected)
    with pytest.raises(ValueError, match="row-07: this row has been scored before"):
        total.merge(whole.state() and {"row-07": whole.state()["row-07"]})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"scores": np.ones(2)}, "0000: 1 boxes, 2 scores and 1 surfaces"),
        ({"boxes": np.array([[0, 0, np.nan, 3]])}, "0000: a predicted box or score is not finite"),
        ({"iuv": [np.full((48, 41, 3), 25, np.float32)]}, "0000: chart 25 is none of 1..24"),
    ],
)
def test_predictions_that_are_none_are_named(change, message):
    with pytest.raises(ValueError, match=message):
        scored([[person(5, 10, BODY)]], [{**detected((0.9, 5, 10, BODY)), **change}])


def test_labels_that_are_none_are_named():
    annotated = person(5, 10, BODY)
    with pytest.raises(ValueError, match=r"0000: a mask is \[10, 10\], the image \[120, 160\]"):
        scored([[{**annotated, "mask": np.ones((10, 10), bool)}]], [detected()])
    with pytest.raises(ValueError, match="0000: an annotated point is of chart 0"):
        scored([[{**annotated, "dp_points": np.zeros((3, 5), np.float32)}]], [detected()])
