"""Masked depth from the data to the weights and on: what differs is told in one line, and the advice of it helps."""

import pytest

from hcmoco.export import export_encoders, load_export
from hcmoco.finetuning.saved_model import load_model
from hcmoco.models.encoders import EncoderConfig
from hcmoco.models.multimodal import HCMoCo, ModelConfig
from hcmoco.models.semgcn import SkeletonConfig
from hcmoco_ray.commands.prepare import main as prepare
from tests.helpers import finetune_program as tiny
from tests.helpers import pretrain_program

ROOM = "data/people-room"


def warnings(run) -> list[str]:
    return [line for line in run.out.splitlines() if line.startswith("warning:")]


def export(folder, masking: str) -> str:
    config = EncoderConfig(name="test_resnet")
    model = ModelConfig(rgb=config, depth=config, skeleton=SkeletonConfig(width=16, num_blocks=1), embedding=16)
    return export_encoders(HCMoCo(model, seed=0), folder, training={"depth_masking": masking, "terms": []})


@pytest.fixture(scope="module")
def home(ray_session, finetune_home):
    """With a model of masked depth in runs/masked, and its test people in their rooms."""
    people = tiny.PEOPLE["test"]["people"]
    room = ["people", "--out", str(finetune_home / ROOM), "--masked-depth", "false"]
    assert prepare([*room, *(f"--{name}={value}" for name, value in people.items())]) == 0
    return finetune_home


@pytest.fixture(scope="module")
def masked(home):
    run = tiny.call(home, "parsing-depth", "output_dir=runs/masked", f"init={export(home / 'unmasked', 'unmasked')}")
    assert run.status == 0, run
    return run


def test_a_fine_tuning_tells_that_its_encoder_has_seen_other_depth(home, masked):
    (line,) = warnings(masked)
    assert line.startswith(
        "warning: the encoder was trained on depth that is unmasked (the background is there, too), "
    )
    assert "depth of data.train (" in line
    assert line.endswith("give depth with its background, or weights that were trained on masked depth")
    assert tiny.results(masked.folder)["depth_masking"] == "masked"
    saved = load_model(str(masked.folder))
    assert (saved.about.depth_masking, saved.training["depth_masking"]) == ("masked", "masked")
    assert "Their depth is masked to the person." in (masked.folder / "model" / "README.md").read_text()


def test_an_evaluation_tells_it_and_the_rows_own_masks_give_the_score_back(home, masked):
    test = tiny.PEOPLE["test"]["path"]
    how = ["--piece-rows", "3", "--threads", "1"]
    right = tiny.evaluate(home, "runs/masked", test, *how)
    wrong = tiny.evaluate(home, "runs/masked", ROOM, *how, "--out", "evaluated-room")
    assert not warnings(right)
    (line,) = warnings(wrong)
    assert "was trained on depth that is masked to the person, depth of" in line
    assert "give --mask rows, or prepare the data set with --segment (docs/data/masks.md)" in line
    assert tiny.results(wrong.folder)["warning"] == line
    mended = tiny.evaluate(home, "runs/masked", ROOM, *how, "--out", "evaluated-mask", "--mask", "rows")
    assert mended.status == 0, mended
    assert not warnings(mended)
    found = tiny.results(mended.folder)
    assert found["mask"] == {"by": "the rows' own masks"}
    assert found["metrics"] == tiny.results(right.folder)["metrics"]
    assert found["metrics"] != tiny.results(wrong.folder)["metrics"]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--mask", "background"], "prepared rows are cuts, which do not tell what stays behind; give a depth picture"),
        (["--mask", "nowhere"], "--mask nowhere does not exist; give a folder of masks"),
        (
            ["--segment-side", "100"],
            "--segment-side counts only with --mask, and there is none; leave --segment-side out",
        ),
    ],
)
def test_what_cannot_mask_rows_is_one_line(home, masked, more, message):
    run = tiny.evaluate(home, "runs/masked", ROOM, *more, "--out", "evaluated-refused")
    assert run.status == 2
    assert message in run.err.splitlines()[-1]


def test_a_pre_training_on_both_tells_it(ray_session, tiny_home):
    room = "data.sources.room={path: data/room, weight: 1, people: {size: 64, count: 16, seed: 5, masked_depth: false}}"
    fast = ["stages.stage1_steps=1", "stages.stage2_steps=0", "data.held_out=null", "output_dir=runs/both"]
    run = pretrain_program.call(tiny_home, room, *fast)
    assert run.status == 0, run
    (line,) = warnings(run)
    assert line.startswith(
        "warning: depth is of indoor masked to the person, of room unmasked (the background is there"
    )
    assert "with --segment" in line
    assert load_export(run.folder / "export").training["depth_masking"] == "mixed"


def test_a_pre_training_tells_that_its_held_out_people_are_trained_on(ray_session, tiny_home):
    people = pretrain_program.RECIPE["data"]["sources"]["indoor"]["people"]
    given = [f"--{name}={value}" for name, value in people.items()]
    assert prepare(["people", "--out", str(tiny_home / "data/indoor"), *given]) == 0
    same = ["data.held_out.path=data/./indoor/", "data.held_out.people=null", "output_dir=runs/same", "probe.every=0"]
    run = pretrain_program.call(tiny_home, *same, "stages.stage1_steps=1", "stages.stage2_steps=0")
    assert run.status == 0, run
    (line,) = warnings(run)
    assert line.startswith("warning: data.held_out is the same data as data.sources.indoor: the scores say how well")
