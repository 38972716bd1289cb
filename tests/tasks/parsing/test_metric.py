"""Parsing scores against counting by hand, and what they must not depend on."""

from types import SimpleNamespace

import numpy as np
import pytest

from hcmoco.data.body_parts import IGNORE, PART_NAMES
from hcmoco.rng import make_rng
from hcmoco.tasks.parsing import ParsingMetric
from hcmoco.tasks.parsing.metric import confusion
from hcmoco_ray.train.evaluate import result_tables

CLASSES = len(PART_NAMES)


def random_maps(count: int, side: int, seed: int) -> list[np.ndarray]:
    rng = make_rng(seed, "maps")
    return [rng.integers(0, CLASSES, (side, side)).astype(np.uint8) for _ in range(count)]


def scored(truths, predictions, *, batch: int = 4, metric: ParsingMetric | None = None) -> ParsingMetric:
    metric = metric or ParsingMetric()
    for start in range(0, len(truths), batch):
        part = slice(start, start + batch)
        ids = tuple(f"made/{number}" for number in range(len(truths[part])))
        metric.update(
            SimpleNamespace(ids=ids, labels=tuple(truths[part])), [{"parts": each} for each in predictions[part]]
        )
    return metric


def test_the_truth_scores_one():
    truths = random_maps(6, 40, 0)
    truths[2][:9] = IGNORE
    predictions = [np.where(each == IGNORE, 0, each) for each in truths]
    result = scored(truths, predictions).compute()
    assert result.metrics == dict.fromkeys(("mIoU", "mAcc", "aAcc", "mIoU_present"), 1.0)
    assert result.rows == 6
    assert result.columns[0] == "part"
    assert [row[0] for row in result.per_class] == list(PART_NAMES)
    assert sum(row[3] for row in result.per_class) == pytest.approx(1)


def test_unrelated_predictions_score_chance():
    """Of independent, even classes: accuracy 1 / K, and IoU (1 / K^2) / (2 / K - 1 / K^2) = 1 / (2 K - 1)."""
    metrics = scored(random_maps(10, 200, 1), random_maps(10, 200, 2)).compute().metrics
    assert metrics["aAcc"] == pytest.approx(1 / CLASSES, rel=0.03)
    assert metrics["mAcc"] == pytest.approx(1 / CLASSES, rel=0.03)
    assert metrics["mIoU"] == pytest.approx(1 / (2 * CLASSES - 1), rel=0.03)


def test_figures_are_those_counted_by_hand():
    """Four pixels of the background, two of a part; one of each is mistaken for the other, one is ignored."""
    truth = np.uint8([[0, 0, 0, 0], [7, 7, IGNORE, 0]])
    predicted = np.uint8([[0, 0, 0, 7], [7, 0, 7, 0]])
    result = scored([truth], [predicted]).compute()
    assert result.metrics["aAcc"] == pytest.approx(5 / 7)
    assert result.metrics["mIoU"] == pytest.approx((4 / 6 + 1 / 3) / CLASSES)
    assert result.metrics["mIoU_present"] == pytest.approx((4 / 6 + 1 / 3) / 2)
    assert result.metrics["mAcc"] == pytest.approx((4 / 5 + 1 / 2) / CLASSES)
    assert result.per_class[7] == (PART_NAMES[7], pytest.approx(1 / 3), pytest.approx(1 / 2), pytest.approx(2 / 7))
    matrix = confusion(truth, predicted)
    assert matrix[0, 7] == 1
    assert matrix[7, 0] == 1
    assert matrix.sum() == 7


def test_class_that_is_only_predicted_counts_as_missed():
    metrics = scored([np.zeros((2, 2), np.uint8)], [np.uint8([[0, 0], [0, 5]])]).compute().metrics
    assert metrics["mIoU"] == pytest.approx(0.75 / CLASSES)
    assert metrics["mIoU_present"] == pytest.approx(0.75)


def test_neither_batches_nor_order_nor_workers_matter():
    truths, predictions = random_maps(12, 30, 3), random_maps(12, 30, 4)
    whole = scored(truths, predictions, batch=12).compute()
    assert scored(truths, predictions, batch=1).compute() == whole
    assert scored(truths[::-1], predictions[::-1], batch=5).compute() == whole
    for cuts in ((3,), (1, 5), (4, 8, 9)):
        shares = np.split(np.arange(12), cuts)
        workers = [scored([truths[k] for k in share], [predictions[k] for k in share]) for share in shares]
        for first in (0, len(workers) - 1):
            merged = ParsingMetric()
            for worker in [*workers[first:], *workers[:first]]:
                merged.merge(worker.state())
            assert merged.compute() == whole


def test_merging_takes_nothing_from_the_other():
    truths = random_maps(2, 8, 5)
    one, other = scored(truths[:1], truths[:1]), scored(truths[1:], truths[1:])
    before = other.compute()
    one.merge(other.state())
    scored(truths[:1], truths[1:], metric=one)
    assert str(other.compute()) == str(before), "as text: some classes do not occur, and NaN is not equal to itself"


@pytest.mark.parametrize("rows", [0, 2])
def test_without_a_labeled_pixel_nothing_is_defined(rows):
    ignored = [np.full((4, 4), IGNORE, np.uint8)] * rows
    result = scored(ignored, [np.zeros((4, 4), np.uint8)] * rows).compute()
    assert result.rows == rows
    assert list(result.metrics) == ["mIoU", "mAcc", "aAcc", "mIoU_present"]
    assert np.isnan([*result.metrics.values(), *(value for row in result.per_class for value in row[1:])]).all()


def test_a_class_that_does_not_occur_has_no_score_of_its_own():
    per_class = scored([np.zeros((2, 2), np.uint8)], [np.uint8([[0, 0], [0, 5]])]).compute().per_class
    assert per_class[0][1:] == (0.75, 0.75, 1)
    assert per_class[5][1] == 0, "predicted where it is not"
    assert np.isnan(per_class[5][2])
    assert np.isnan(per_class[6][1:3]).all()
    assert per_class[6][3] == 0


@pytest.mark.parametrize(
    ("truth", "predicted", "words"),
    [
        (None, np.zeros((2, 2), np.uint8), "no parts"),
        (np.zeros((2, 2), np.uint8), np.zeros((3, 3), np.uint8), "prediction is"),
        (np.zeros((2, 2), np.uint8), np.full((2, 2), 25, np.uint8), "beyond 0..24"),
    ],
)
def test_what_cannot_be_scored_is_named(truth, predicted, words: str):
    with pytest.raises(ValueError, match=f"made/0.*{words}"):
        scored([truth], [predicted])


def test_a_truth_without_some_classes_says_what_a_perfect_prediction_has():
    truth = np.arange(100, dtype=np.uint8).reshape(10, 10) % 10
    result = scored([truth], [truth]).compute()
    assert result.metrics["mIoU"] == pytest.approx(0.4)
    assert result.metrics["mIoU_present"] == 1.0
    (note,) = result.notes
    assert "hold 10 of the 25 classes" in note
    assert "a perfect prediction has 40 %" in note
    assert note in result_tables(result)
    assert scored(whole := random_maps(2, 40, 3), whole).compute().notes == ()
