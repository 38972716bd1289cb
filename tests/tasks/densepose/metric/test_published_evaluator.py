"""All scores of the metric, number by number, against the published definition in plain loops."""

import numpy as np
import pytest

from hcmoco.rng import make_rng
from hcmoco.tasks.densepose.metric import DensePoseMetric
from hcmoco.tasks.densepose.metric.metric import KINDS, SIZES, compare, score_images
from tests.helpers import published_evaluator as slow
from tests.helpers.evaluation_scenes import ELSEWHERE, STEP_METRES, Rows, painted, person

HEIGHT, WIDTH = 130, 170


def distance(a: tuple, b: tuple) -> float:
    """Of `line_surface`: a meter along U in each chart, 0.8 m to any other chart."""
    if a[0] != b[0]:
        return ELSEWHERE
    return abs(round(a[1] * 100) - round(b[1] * 100)) * STEP_METRES


def random_image(rng: np.random.Generator, crowded: bool = False) -> tuple[list, dict]:
    """People of all sizes, crowds and people without annotation; detections that are right, moved, of wrong places or
    parts, of nobody, or of the same score as others."""
    people, found = [], []
    for _ in range(rng.integers(0, 5)):
        width, height = (int(side) for side in rng.choice([12, 30, 50, 100], 2))
        left, top = int(rng.integers(0, WIDTH - width)), int(rng.integers(0, HEIGHT - height))
        low = int(rng.integers(1, 20))
        body = painted(width, height, low, low + 5)
        annotated = person(left, top, body, size=(HEIGHT, WIDTH), every=7)
        annotated["crowd"] = bool(rng.random() < 0.2)
        if rng.random() < 0.3:
            annotated["dp_points"] = None
        if rng.random() < 0.2:
            annotated["mask"] &= rng.random((HEIGHT, WIDTH)) < 0.7
        if rng.random() < 0.3:
            annotated["area"] = float(rng.choice([900, 1024, 5000, 9216, 12000]))
        people.append(annotated)
        for _ in range(rng.integers(6, 9) if crowded else rng.integers(0, 4)):
            seen = body + np.array([0, rng.choice([0, 0, 3, 8, 15, 30]) / 100, 0], np.float32)
            if rng.random() < 0.3:
                seen[: height // rng.integers(2, 6), :, 0] = 0
            x, y = (max(0, at + int(rng.choice([0, 0, 1, -2, 5]))) for at in (left, top))
            found.append((x, y, seen))
    for _ in range(rng.integers(0, 3)):
        found.append((int(rng.integers(0, 120)), int(rng.integers(0, 90)), painted(30, 25, 3, 9)))
    prediction = {
        "boxes": np.array([[x, y, x + iuv.shape[1], y + iuv.shape[0]] for x, y, iuv in found], np.float32).reshape(
            -1, 4
        ),
        "scores": (rng.integers(1, 8, len(found)) / 8).astype(np.float32),
        "iuv": [iuv[: HEIGHT - y, : WIDTH - x] for x, y, iuv in found],
    }
    return people, prediction


def written_out(people: list, prediction: dict) -> dict:
    """The image for the slow evaluator."""
    listed = []
    for each in people:
        rows, columns = np.nonzero(each["mask"])
        pixels = set(zip(columns.tolist(), rows.tolist(), strict=True))
        points = [] if each["dp_points"] is None else each["dp_points"].tolist()
        listed.append(
            {
                "box": each["box"].tolist(),
                "crowd": each["crowd"],
                "area": each.get("area", float(len(pixels))),
                "mask": pixels,
                "points": points,
            }
        )
    detections = [
        {"box": box.tolist(), "score": float(score), "iuv": iuv.tolist()}
        for box, score, iuv in zip(prediction["boxes"], prediction["scores"], prediction["iuv"], strict=True)
    ]
    return slow.compare({"people": listed, "detections": detections}, distance)


@pytest.fixture(scope="module")
def scenes():
    rng = make_rng(0, "scenes")
    images = [random_image(rng, crowded=number % 8 == 7) for number in range(48)]
    images += [([], images[7][1]), (images[7][0], {"boxes": np.zeros((0, 4)), "scores": np.zeros(0), "iuv": []})]
    return [*images, ([], {"boxes": np.zeros((0, 4)), "scores": np.zeros(0), "iuv": []})]


@pytest.fixture(scope="module")
def listed(scenes):
    return [written_out(*each) for each in scenes]


def test_the_scenes_have_what_the_definition_speaks_of(scenes, listed):
    everybody = [each for people, _ in scenes for each in people]
    assert sum(each["crowd"] for each in everybody) > 10
    assert sum(each["dp_points"] is None for each in everybody) > 20
    assert sum(each["crowd"] and each["dp_points"] is not None for each in everybody) > 5
    assert max(len(prediction["scores"]) for _, prediction in scenes) > 20, "more than are looked at"
    assert any(not people and len(prediction["scores"]) for people, prediction in scenes)
    assert any(people and not len(prediction["scores"]) for people, prediction in scenes)
    alike = np.concatenate([np.ravel(image["alike"]["gps"]) for image in listed])
    assert len(np.unique(alike[(alike > 0.5) & (alike < 1)])) > 50
    same = [
        (np.diff(sorted(line)) == 0).any()
        for image in listed
        for line in np.transpose(image["alike"]["box"])
        if any(line)
    ]
    assert any(same), "ties of similarity"


def test_similarities_are_those_of_the_definition(scenes, listed, surface):
    for (people, prediction), image in zip(scenes, listed, strict=True):
        found = compare(people, prediction, HEIGHT, WIDTH, surface)
        np.testing.assert_array_equal(found["scores"], [each["score"] for each in image["detections"]])
        for kind, count in (("box", 100), ("gps", 20), ("mask", 20)):
            wanted = np.array(image["alike"][kind]).reshape(len(image["detections"]), len(people))[:count]
            np.testing.assert_allclose(found[kind], wanted, rtol=1e-9, atol=1e-12, err_msg=kind)


@pytest.mark.parametrize("kind", KINDS)
def test_precision_and_recall_are_those_of_the_definition(scenes, listed, surface, kind):
    """At all ten thresholds and in all ranges of areas."""
    images = [compare(people, prediction, HEIGHT, WIDTH, surface) for people, prediction in scenes]
    for size, bounds in SIZES.items():
        assert bounds == slow.RANGES[size]
        precision, recall = slow.precision_and_recall(listed, kind, size)
        found = score_images(images, kind, *bounds)
        np.testing.assert_allclose(found.precision, precision, rtol=0, atol=1e-12, err_msg=size)
        np.testing.assert_allclose(found.recall, recall, rtol=0, atol=1e-12, err_msg=size)
        assert 0.02 < precision[0] < 0.98, "else every rule gives it"


def test_the_metrics_of_a_run_are_those_of_the_definition(scenes, listed, surface):
    metric = DensePoseMetric(surface)
    for number, (people, prediction) in enumerate(scenes):
        metric.update(Rows((f"{number:03d}",), np.array([[HEIGHT, WIDTH]]), [people]), [prediction])
    result = metric.compute()
    for kind in KINDS:
        precision, recall = slow.precision_and_recall(listed, kind, "all")
        for name, shares in (("ap", precision), ("ar", recall)):
            assert result.metrics[f"{kind}_{name}"] == pytest.approx(sum(shares) / 10, abs=1e-12)
            assert result.metrics[f"{kind}_{name}50"] == pytest.approx(shares[0], abs=1e-12)
            assert result.metrics[f"{kind}_{name}75"] == pytest.approx(shares[5], abs=1e-12)
    table = {row[0]: row[1:] for row in result.per_class}
    for kind in KINDS:
        for name, which in (("AP", 0), ("AR", 1)):
            wanted = [sum(slow.precision_and_recall(listed, kind, size)[which]) / 10 for size in SIZES]
            np.testing.assert_allclose(table[f"{kind} {name}"], wanted, atol=1e-12)


def test_nobody_to_find_is_no_score(listed):
    empty = [{**image, "people": [], "alike": {kind: [[]] * 200 for kind in image["alike"]}} for image in listed]
    precision, recall = slow.precision_and_recall(empty, "gps", "all")
    assert np.isnan([*precision, *recall]).all()
