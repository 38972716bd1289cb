"""The parsing tasks learn the classes of the data set's label map; Human3.6M's stay as they were."""

import json

import numpy as np
import pytest
import torch

from hcmoco.config import build
from hcmoco.data.codecs import encode_labels
from hcmoco.data.label_maps import LABEL_MAPS, label_map
from hcmoco.data.shards.manifest import About, Provenance
from hcmoco.errors import UserError
from hcmoco.models.encoders import EncoderConfig, build_encoder
from hcmoco.tasks.parsing import ParsingConfig, RgbParsing
from hcmoco.tasks.parsing.sheet import legend, palette, parts_sheet
from tests.helpers.parsing_rows import make_rows, rgb_of

CPU = torch.device("cpu")
STORED = sorted({each.stored_as for each in LABEL_MAPS.values()})


def about(name: str) -> About:
    return About(dataset="own", label_map=name, size=64, provenance=Provenance(program="tests"))


def make_task(name: str, **values) -> RgbParsing:
    return RgbParsing(build(ParsingConfig, {"name": "parsing-rgb", "size": 64, **values}, "test"), about(name))


@pytest.mark.parametrize("name", STORED)
def test_as_many_classes_as_the_map_has(name):
    torch.manual_seed(0)
    task, parts = make_task(name, flip_test=True), label_map(name).parts
    model = task.make_model(build_encoder(EncoderConfig(name="test_resnet"))).eval()
    assert model.head.classify.out_channels == len(parts)
    rows = make_rows(2)
    for row in rows:
        labels = np.zeros((64, 64), np.uint8)
        labels[:32] = len(parts) - 1
        row["parts"] = encode_labels(labels)
    batch = task.make_batch(rows, None)
    metric = task.metric()
    metric.update(batch, [{"parts": labels} for labels in batch.labels])
    result = metric.compute()
    assert [row[0] for row in result.per_class] == list(parts)
    assert result.metrics["mIoU_present"] == 1
    assert result.metrics["mIoU"] == pytest.approx(2 / len(parts))
    assert len(task.predict(model, batch, CPU)) == 2
    rows[0]["parts"] = encode_labels(np.full((64, 64), len(parts), np.uint8))
    with pytest.raises(ValueError, match=rf"allowed are 0..{len(parts) - 1} and 255"):
        task.make_batch(rows, None)


def test_a_mirror_image_exchanges_the_sides_of_the_map():
    parts = label_map("lip").parts
    task = make_task("lip", augment={"flip_probability": 1, "scale": [1, 1], "shift": 0, "rotation": 0})
    (row,) = make_rows(1)
    labels = np.zeros((64, 64), np.uint8)
    labels[:, :20] = parts.index("left shoe")
    row["parts"] = encode_labels(labels)
    batch = task.make_batch([row], [np.random.default_rng(0)])
    assert set(np.unique(batch.labels[0][:, -20:])) == {parts.index("right shoe")}


def test_class_weights_follow_the_map_and_others_are_refused_with_what_helps():
    rows = make_rows(2)
    for row in rows:
        row["parts"] = encode_labels(np.full((64, 64), 3, np.uint8))
    for name in STORED:
        config = build(ParsingConfig, {"name": "parsing-rgb", "class_weights": "frequency"}, "test")
        statistics = RgbParsing.fit_statistics(config, iter(rows), about(name))
        assert len(statistics["class_weights"]) == len(label_map(name))
        RgbParsing(config, about(name), statistics)
    with pytest.raises(UserError, match="25 numbers, and own has the 20 classes of lip; take class_weights=frequency"):
        make_task("lip", class_weights="parsing-4k")
    make_task("human3.6m", class_weights="parsing-4k")
    with pytest.raises(UserError, match="class_weights are 24 numbers, and own has the 25 classes"):
        make_task("human3.6m", class_weights=[1.0] * 24)
    make_task("human3.6m", class_weights=[1.0] * 25)


def test_a_model_is_scored_on_data_of_its_own_map_alone():
    task = make_task("lip")
    assert task.over(about("lip")).label_map.name == "lip"
    with pytest.raises(UserError, match=r"the parts of own are those of atr, the model's classes those of lip"):
        task.over(about("atr"))


def test_files_of_the_default_map_do_not_name_it():
    assert "label_map" not in about("human3.6m").model_dump(mode="json")
    assert about("lip").model_dump(mode="json")["label_map"] == "lip"
    for name in STORED:
        assert About.model_validate(json.loads(about(name).model_dump_json())) == about(name)


@pytest.mark.parametrize("name", STORED)
def test_every_class_has_a_color_of_its_own_and_a_line_of_the_legend(name):
    of = label_map(name)
    colors = palette(name)[: len(of)]
    assert len(np.unique(colors, axis=0)) == len(of)
    picture = legend(820, of)
    assert all((picture == color).all(-1).any() for color in colors[1:])
    labels = np.arange(64 * 64, dtype=np.int64).reshape(64, 64) % len(of)
    sheet = parts_sheet([rgb_of(labels.astype(np.uint8))], [None], [labels.astype(np.uint8)], of)
    assert (sheet[-len(legend(sheet.shape[1], of)) :] == legend(sheet.shape[1], of)).all()
