"""Parsing as a task: rows in, predictions and scores out."""

import numpy as np
import pytest
import torch

from hcmoco.config import build
from hcmoco.data.body_parts import FLIP, IGNORE
from hcmoco.data.codecs import encode_labels
from hcmoco.errors import UserError
from hcmoco.models.encoders import EncoderConfig, build_encoder
from hcmoco.rng import make_rng
from hcmoco.tasks.parsing import PARSING_4K_WEIGHTS, DepthParsing, ParsingBatch, ParsingConfig, RgbParsing
from hcmoco.tasks.parsing.loss import frequency_weights
from hcmoco.tasks.parsing.sheet import PALETTE, PANEL, parts_sheet
from tests.helpers.parsing_rows import ABOUT, block_labels, depth_of, make_rows, png, rgb_of

CPU = torch.device("cpu")
TASKS = [pytest.param(RgbParsing, id="rgb"), pytest.param(DepthParsing, id="depth")]
PUBLISHED = {
    "size": 473,
    "label_size": 1000,
    "flip_test": True,
    "head_std": 0.001,
    "augment": {
        "geometry": "multi-scale", "scale": [0.5, 1.6], "scale_step": 0.1, "shift": 0, "rotation": 0,
        "padding": "black",
        "depth_resize": "bilinear", "brightness": 0, "contrast": 0, "saturation": 0,
    },
}  # fmt: skip


def make_task(cls, **values):
    return cls(build(ParsingConfig, {"name": cls.name, "size": 64, **values}, "test"), ABOUT)


def rngs(count: int):
    return [make_rng(1, "augment", number) for number in range(count)]


def same(one: ParsingBatch, other: ParsingBatch) -> bool:
    labels = zip(one.labels, other.labels, strict=True)
    return (
        one.ids == other.ids
        and one.sides == other.sides
        and np.array_equal(one.image, other.image)
        and all(map(np.array_equal, *zip(*labels, strict=True)))
    )


@pytest.fixture(scope="module")
def models():
    """A small model of each task in evaluation mode."""
    torch.manual_seed(0)
    made = {}
    for cls in (RgbParsing, DepthParsing):
        model = make_task(cls).make_model(build_encoder(EncoderConfig(name="hrnet_w18_small")))
        torch.nn.init.normal_(model.head.classify.weight)
        made[cls] = model.eval()
    return made


@pytest.mark.parametrize("cls", TASKS)
def test_training_batch_is_a_function_of_rows_and_draws(cls):
    task, rows = make_task(cls), make_rows(4)
    batch = task.make_batch(rows, rngs(4))
    assert batch.image.shape == ((4, 64, 64, 3) if cls is RgbParsing else (4, 64, 64))
    assert [each.shape for each in batch.labels] == [(64, 64)] * 4
    assert same(batch, task.make_batch(rows, rngs(4)))
    parts = [task.make_batch(rows[:1], rngs(1)), task.make_batch(rows[1:], rngs(4)[1:])]
    assert same(ParsingBatch.concatenate(parts), batch)


@pytest.mark.parametrize("cls", TASKS)
def test_evaluation_sees_labels_as_they_are_stored(cls):
    """Whatever the network's size, and with records of several sizes in a batch."""
    rows = [make_rows(1, 64)[0], make_rows(2, 96)[1]]
    batch = make_task(cls, size=128).make_batch(rows, None)
    assert batch.sides == (64, 96)
    assert np.array_equal(batch.labels[0], block_labels(64, 0))
    assert np.array_equal(batch.labels[1], block_labels(96, 1))
    fixed = make_task(cls, label_size=192).make_batch(rows, None)
    assert fixed.sides == (192, 192)
    assert np.array_equal(fixed.labels[0], np.kron(block_labels(64, 0), np.ones((3, 3), np.uint8)))


@pytest.mark.parametrize("cls", TASKS)
@pytest.mark.parametrize("label_size", ["record", 100])
def test_predictions_have_the_labels_size_and_do_not_depend_on_the_batch(cls, label_size, models):
    task = make_task(cls, label_size=label_size)
    rows = [{**row, "parts": None} for row in [*make_rows(2, 64), *make_rows(3, 96)]]
    together = task.predict(models[cls], task.make_batch(rows, None), CPU)
    assert [each["parts"].shape[0] for each in together] == (
        [64, 64, 96, 96, 96] if label_size == "record" else [100] * 5
    )
    assert all(each["parts"].dtype == np.uint8 for each in together)
    for row, prediction in zip(rows, together, strict=True):
        alone = task.predict(models[cls], task.make_batch([row], None), CPU)[0]["parts"]
        assert (alone == prediction["parts"]).mean() > 0.999  # sums of other shapes may round otherwise


@pytest.mark.parametrize("cls", TASKS)
@pytest.mark.parametrize("size", [64, 40])
def test_flip_test_predicts_the_mirror_image_of_the_mirror_image(cls, size: int, models):
    """At 40 pixels the network's input is padded on one side."""
    rows = make_rows(2, size)
    for seed, row in enumerate(rows):
        labels = block_labels(size, seed)[:, ::-1]
        row["mirrored"] = {**row, "rgb": png(rgb_of(labels)), "depth": png(depth_of(labels)), "parts": None}
    agree = {}
    for flip_test in (True, False):
        task = make_task(cls, flip_test=flip_test, size=size)
        straight = task.predict(models[cls], task.make_batch(rows, None), CPU)
        mirrored = task.predict(models[cls], task.make_batch([row["mirrored"] for row in rows], None), CPU)
        agree[flip_test] = np.mean(
            [FLIP[b["parts"]][:, ::-1] == a["parts"] for a, b in zip(straight, mirrored, strict=True)]
        )
    assert agree[True] > 0.999
    assert agree[False] < 0.9


@pytest.mark.parametrize("cls", TASKS)
def test_a_model_that_knows_the_truth_scores_one(cls):
    """Logits of the true classes go through resizing, prediction and metric, with and without the mirror image."""
    rows = make_rows(3)

    def knowing(image: torch.Tensor) -> torch.Tensor:
        parts = image[..., 0].long() // 10 if cls is RgbParsing else image.to(torch.int64) - 1000
        return 9.0 * torch.nn.functional.one_hot(parts, 25).permute(0, 3, 1, 2).float()

    def mirrored_knowing(image: torch.Tensor) -> torch.Tensor:
        calls.append(1)
        logits = knowing(image)
        return logits[:, FLIP.astype(np.int64)] if len(calls) % 2 == 0 else logits

    for flip_test, model in ((False, knowing), (True, mirrored_knowing)):
        calls: list[int] = []
        # At four times the size every cell of the logits is a stored pixel.
        task = make_task(cls, size=256, flip_test=flip_test, label_size=64)
        metric = task.metric()
        for start in (0, 2):
            batch = task.make_batch(rows[start : start + 2], None)
            small = ParsingBatch(batch.ids, task_image(rows[start : start + 2], cls), batch.labels, batch.sides)
            metric.update(small, task.predict(model, small, CPU))
        assert metric.compute().metrics == dict.fromkeys(("mIoU", "mAcc", "aAcc", "mIoU_present"), 1.0)
        assert metric.compute().rows == 3


def task_image(rows: list[dict], cls) -> np.ndarray:
    """The rows' images as stored, 64 pixels."""
    return make_task(cls, size=64).make_batch(rows, None).image


@pytest.mark.parametrize("cls", TASKS)
def test_a_step_reaches_every_parameter(cls):
    torch.manual_seed(0)
    task = make_task(cls, class_weights="parsing-4k")
    model = task.make_model(build_encoder(EncoderConfig(name="hrnet_w18_small")))
    losses = task.losses(model, task.make_batch(make_rows(2), rngs(2)), CPU)
    assert losses.keys() == {"loss"}
    assert losses["loss"].shape == ()
    losses["loss"].backward()
    assert all(each.grad is not None and each.grad.isfinite().all() for each in model.parameters())
    assert {name for name, _ in model.named_children()} == {"encoder", "head"}


@pytest.mark.parametrize("cls", TASKS)
def test_loss_under_autocast_is_in_single_precision(cls):
    task = make_task(cls)
    model = task.make_model(build_encoder(EncoderConfig(name="hrnet_w18_small")))
    batch = task.make_batch(make_rows(2), rngs(2))
    with torch.autocast("cpu", torch.bfloat16):
        loss = task.losses(model, batch, CPU)["loss"]
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(task.losses(model, batch, CPU)["loss"].item(), rel=0.05)


def test_class_weights_come_from_the_labeled_rows():
    rows = make_rows(3)
    ignored = block_labels(64, 9)
    ignored[:32] = IGNORE
    rows[1]["parts"] = encode_labels(ignored)
    rows[2]["parts"] = None
    config = build(ParsingConfig, {"name": "parsing-depth", "size": 64, "class_weights": "frequency"}, "test")
    values = DepthParsing.fit_statistics(config, iter(rows), ABOUT)
    seen = np.concatenate([block_labels(64, 0).ravel(), ignored[32:].ravel()])
    assert values["class_weights"] == pytest.approx(frequency_weights(np.bincount(seen, minlength=25)))
    assert DepthParsing.fit_statistics(make_task(DepthParsing).config, rows, ABOUT) == {}
    with pytest.raises(ValueError, match="class_weights=frequency needs statistics"):
        DepthParsing(config, ABOUT)

    task = DepthParsing(config, ABOUT, values)
    assert task.statistics == values
    model = task.make_model(build_encoder(EncoderConfig(name="hrnet_w18_small")))
    batch = task.make_batch(rows[:2], rngs(2))
    listed = make_task(DepthParsing, class_weights=values["class_weights"])
    model.eval()
    assert task.losses(model, batch, CPU)["loss"] == listed.losses(model, batch, CPU)["loss"]
    assert task.losses(model, batch, CPU)["loss"] != make_task(DepthParsing).losses(model, batch, CPU)["loss"]


@pytest.mark.parametrize(
    ("cls", "change", "words"),
    [
        (RgbParsing, {"rgb": None}, "has no rgb"),
        (DepthParsing, {"depth": None}, "has no depth"),
        (RgbParsing, {"parts": None}, "no parts to train on"),
        (DepthParsing, {"depth": png(np.zeros((64, 64), np.uint8))}, "depth: .*16-bit"),
        (DepthParsing, {"depth": png(np.ones((32, 32), np.uint16))}, "depth: .*32 x 32 pixels, 64 x 64"),
        (RgbParsing, {"parts": encode_labels(block_labels(32, 0))}, "parts: .*32 x 32 pixels, 64 x 64"),
        (RgbParsing, {"parts": encode_labels(np.full((64, 64), 58, np.uint8))}, r"parts: .*\[58\].*0\.\.24 and 255"),
        (RgbParsing, {"rgb": b"no image"}, "rgb: .*neither"),
    ],
)
def test_a_broken_row_is_named(cls, change: dict, words: str):
    row = {**make_rows(1)[0], **change}
    with pytest.raises(ValueError, match=f"made/0.*{words}"):
        make_task(cls).make_batch([row], rngs(1))


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"name": "parsing"}, "parsing-rgb"),
        ({"name": "parsing-rgb", "class_weights": [1.0, -1.0]}, "class_weights"),
        ({"name": "parsing-rgb", "class_weights": "balanced"}, "class_weights"),
        ({"name": "parsing-rgb", "label_size": 8}, "16 to 4096"),
        ({"name": "parsing-rgb", "label_size": "image"}, "label_size"),
        ({"name": "parsing-rgb", "flip": True}, "unknown key 'flip'"),
    ],
)
def test_bad_settings_are_refused_in_a_line(values: dict, words: str):
    with pytest.raises(UserError, match=words) as caught:
        build(ParsingConfig, values, "recipe")
    assert "\n" not in str(caught.value)


def test_rgb_needs_an_encoder_of_three_colors():
    encoder = build_encoder(EncoderConfig(name="hrnet_w18_small", in_chans=1))
    with pytest.raises(UserError, match="in_chans is 1"):
        make_task(RgbParsing).make_model(encoder)
    task = make_task(DepthParsing)
    model = task.make_model(encoder).eval()
    assert task.predict(model, task.make_batch(make_rows(1), None), CPU)[0]["parts"].shape == (64, 64)


@pytest.mark.parametrize("cls", TASKS)
def test_published_settings_make_published_shapes(cls):
    task = make_task(cls, **PUBLISHED, class_weights="parsing-4k")
    assert len(PARSING_4K_WEIGHTS) == 25
    batch = task.make_batch(make_rows(2), rngs(2))
    assert batch.image.shape[:3] == (2, 473, 473)
    assert [each.shape for each in batch.labels] == [(473, 473)] * 2
    assert task.make_batch(make_rows(1), None).labels[0].shape == (1000, 1000)


@pytest.mark.parametrize("cls", TASKS)
def test_sheet_shows_input_truth_and_prediction(cls):
    task, rows = make_task(cls), make_rows(3)
    rows[1]["parts"] = None
    predictions = [
        {"parts": np.full((64, 64), 20, np.uint8)},
        {"parts": block_labels(64, 1)},
        {"parts": block_labels(128, 2)},
    ]
    sheet = task.visualize(rows, predictions)
    assert sheet.dtype == np.uint8
    assert sheet.shape[1] == 2 * 3 * PANEL + 12
    assert sheet.shape[0] > 2 * PANEL
    head = 24
    head_of_prediction = sheet[head + 40, 2 * PANEL + 40].astype(float)
    ratio = head_of_prediction / PALETTE[20]
    assert 0.65 < ratio.min() <= ratio.max() <= 1
    unlabeled = sheet[head : head + PANEL, 3 * PANEL + 12 + PANEL : 3 * PANEL + 12 + 2 * PANEL]
    assert len(np.unique(unlabeled)) == 1
    assert parts_sheet([rgb_of(block_labels(64, 0))], [None], [block_labels(64, 0)]).shape[1] == 3 * PANEL


def test_palette_tells_all_parts_apart():
    colors = PALETTE[:25].astype(int)
    distances = np.abs(colors[:, None] - colors[None]).sum(2) + 1000 * np.eye(25, dtype=int)
    assert distances.min() >= 40
