"""Fine-tuned models as graphs: their outputs are the task's own predictions, and the files say what they take."""

import io
import json

import numpy as np
import onnx
import pytest
import torch

from hcmoco.data.codecs import decode_rgb
from hcmoco.data.shards.manifest import About, Provenance
from hcmoco.exporting import graphs
from hcmoco.exporting.convert_task import convert_task
from hcmoco.exporting.graphs import run_file
from hcmoco.finetuning.saved_model import load_model, save_model
from hcmoco.models.encoders import EncoderConfig, build_encoder
from hcmoco.synthetic import PeopleConfig, make_person
from hcmoco.tasks.densepose import DensePoseConfig
from hcmoco.tasks.parsing import ParsingConfig
from hcmoco.tasks.pose import PoseConfig
from hcmoco.tasks.pose.crop import evaluation_crop, person_box
from hcmoco.tasks.registry import make_task
from tests.helpers.pasted_scenes import about as scene_about
from tests.helpers.pasted_scenes import pasted_scene

SIDE = 64
CONFIGS = {
    "parsing-rgb": ParsingConfig(name="parsing-rgb", size=SIDE, label_size=SIDE),
    "parsing-depth": ParsingConfig(name="parsing-depth", size=SIDE, label_size=SIDE),
    "parsing-padded": ParsingConfig(name="parsing-rgb", size=SIDE - 7, label_size=SIDE - 7),
    "pose": PoseConfig(size=SIDE, head={"num_convolutions": 1, "channels": 16}),
    "densepose": DensePoseConfig(
        score_threshold=0.0,
        detections=5,
        long_side=320,
        pyramid_channels=16,
        box_width=32,
        chart_width=16,
        chart_depth=1,
        pyramid="published",
        chart_norm="none",
    ),
}


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """A function that gives the saved model of a task, with weights that tell pixels apart."""
    folder = tmp_path_factory.mktemp("models")

    def saved(name: str):
        place = folder / name
        if not place.exists():
            encoder, config = EncoderConfig(name="test_resnet"), CONFIGS[name]
            about = About(
                dataset="people", joints3d="people-31", size=128, provenance=Provenance(program="tests")
            )  # fmt: skip
            task = make_task(config, scene_about() if name == "densepose" else about)
            torch.manual_seed(1)
            model = task.make_model(build_encoder(encoder, load=False))
            for each in model.parameters():
                each.data.mul_(2.0 if each.ndim > 1 and name != "densepose" else 1.0)
            training = {"depth_masking": "masked", "selected_step": 7}
            save_model(str(place), model, task, encoder, training=training, card="---\ntags: [hcmoco]\n---\n\n# Card\n")
        return load_model(str(place))

    return saved


@pytest.fixture(scope="module")
def person():
    made = make_person(PeopleConfig(size=128, seed=4), 2, dataset="people", split="train")
    return made.to_row(0)


def predicted(saved, row):
    task = saved.task()
    return task.predict(saved.model(), task.make_batch([row], None), torch.device("cpu"))[0]


_WRITTEN: dict[tuple[str, str], tuple[bytes, str]] = {}


def written(saved, form):
    """The file and its line, written once: an export takes seconds."""
    key = saved.folder, form
    if key not in _WRITTEN:
        (made,) = convert_task(saved, form)
        _WRITTEN[key] = made.files[f"{saved.config.name}.{form}"], made.line
    return _WRITTEN[key]


def check_parsing(saved, form, person):
    data, line = written(saved, form)
    image = saved.task().make_batch([person], None).image
    logits, parts = run_file(data, form, [torch.from_numpy(image)])
    assert (parts[0].numpy() == predicted(saved, person)["parts"]).mean() > 0.999
    assert len(np.unique(parts)) > 1
    assert logits.shape == (1, 25, *image.shape[1:3])
    return data, line


def test_a_parsing_graph_gives_the_parts_and_takes_any_size(models, person):
    saved = models("parsing-rgb")
    data, line = check_parsing(saved, "onnx", person)
    assert "any number of rows, sides multiples of 32; loaded again" in line
    for height, width in ((96, 160), (32, 32)):
        picture = torch.randint(0, 256, (3, height, width, 3), dtype=torch.uint8)
        logits, _ = run_file(data, "onnx", [picture])
        with torch.no_grad():
            small = saved.model()(picture)
        expected = torch.nn.functional.interpolate(small, (height, width), mode="bilinear", align_corners=False)
        torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-4)


def test_the_onnx_says_what_it_takes(models):
    data, _ = written(models("parsing-rgb"), "onnx")
    model = onnx.load_model_from_string(data)
    onnx.checker.check_model(model)
    told = {each.key: each.value for each in model.metadata_props}
    picture = json.loads(told["inputs"])["rgb"]
    assert (picture["type"], picture["shape"]) == ("uint8", ["rows", "height", "width", 3])
    assert "RGB in this order (not BGR), 0 to 255; normalization is inside" in picture["meaning"]
    classes = json.loads(told["classes"])
    assert (len(classes), classes[0], classes[20]) == (25, "background", "head")
    assert "resized to 64 x 64 pixels" in told["preparation"]
    (port,) = model.graph.input
    assert port.doc_string == picture["meaning"]
    assert [dim.dim_param or dim.dim_value for dim in port.type.tensor_type.shape.dim] == picture["shape"]


def test_a_padded_side_is_the_only_one(models, person):
    _, line = check_parsing(models("parsing-padded"), "pt2", person)
    assert "any number of rows, 57 x 57 pixels; loaded again" in line


@pytest.mark.long
@pytest.mark.parametrize("form", ["onnx", "pt2"])
@pytest.mark.parametrize("name", ["parsing-rgb", "parsing-depth", "parsing-padded"])
def test_every_parsing_graph(models, person, name, form):
    check_parsing(models(name), form, person)


def check_pose(saved, form, person):
    data, line = written(saved, form)
    task, batch = saved.task(), saved.task().make_batch([person], None)
    window = evaluation_crop(task.config, person_box(person["box"], person["size"]), person["size"])
    given = [torch.from_numpy(batch.depth), torch.tensor(window)[None].float(), torch.tensor(person["camera"])[None]]
    joints3d, joints2d = run_file(data, form, given)
    expected = predicted(saved, person)
    np.testing.assert_allclose(joints3d[0], expected["joints3d"], atol=1e-4)
    np.testing.assert_allclose(joints2d[0], expected["joints2d"], atol=1e-2)
    return data, line


def test_a_pose_graph_gives_meters_in_the_cameras_frame(models, person):
    data, line = check_pose(models("pose"), "pt2", person)
    assert "any number of rows, 64 x 64 pixels" in line
    facts = {graphs.PT2_FACTS: ""}
    torch.export.load(io.BytesIO(data), extra_files=facts)
    told = json.loads(facts[graphs.PT2_FACTS])
    assert told["inputs"]["camera"]["meaning"].startswith("fx, fy, cx, cy in pixels of the whole picture")
    assert told["joint_names"][0] == "head"
    assert told["depth_masking"] == "trained on depth that is masked to the person"


@pytest.mark.long
def test_a_pose_graph_as_onnx(models, person):
    check_pose(models("pose"), "onnx", person)


def check_densepose(saved, form):
    data, line = written(saved, form)
    assert "one picture at a time, sides multiples of 64" in line
    for number, (height, width) in ((1, (192, 192)), (2, (192, 320)), (3, (256, 192))):
        row = pasted_scene(number, height=height, width=width)
        found = predicted(saved, row)
        boxes, scores, coarse, fine, u, v = run_file(
            data, form, [torch.from_numpy(decode_rgb(row["rgb"]))[None], torch.tensor(0.0)]
        )
        np.testing.assert_allclose(boxes, found["boxes"], atol=1e-2)
        np.testing.assert_allclose(scores, found["scores"], atol=1e-4)
        assert len(boxes) == 5
        assert [each.shape[1] for each in (coarse, fine, u, v)] == [2, 25, 24, 24]
    nobody = run_file(data, form, [torch.zeros(1, 192, 192, 3, dtype=torch.uint8), torch.tensor(1.0)])
    assert [len(each) for each in nobody] == [0] * 6


@pytest.mark.long
@pytest.mark.parametrize("form", ["onnx", "pt2"])
def test_a_densepose_graph_detects_what_the_model_detects(models, form):
    check_densepose(models("densepose"), form)


def test_the_steps_of_the_densepose_graph_are_those_of_the_model(models):
    """Without an export: the same boxes, scores and maps as `detect`, bit for bit."""
    from hcmoco.exporting.task_graphs import task_graph
    from hcmoco.models.normalization import normalize_rgb

    saved = models("densepose")
    picture = torch.from_numpy(decode_rgb(pasted_scene(3)["rgb"]))[None]
    with torch.no_grad():
        (found,) = saved.model().detect(normalize_rgb(picture), [(192, 192)])
        boxes, scores, *maps = task_graph(saved)(picture, torch.tensor(0.0))
    assert torch.equal(boxes, found.boxes)
    assert torch.equal(scores, found.scores)
    for name, value in zip(("coarse", "fine", "u", "v"), maps, strict=True):
        torch.testing.assert_close(value, getattr(found.maps, name), rtol=1e-5, atol=1e-5)
