import pytest
import torch

from hcmoco.config import build, merge
from hcmoco.cotraining.config import CoTrainingConfig
from hcmoco.cotraining.encoder_init import load_encoders_init
from hcmoco.cotraining.model import CoTrained
from hcmoco.cotraining.trainer import CoTraining
from hcmoco.errors import UserError
from hcmoco.models.multimodal import HCMoCo
from hcmoco.training.checkpoint import States
from tests.helpers import local_cotraining as tiny

_ENCODERS = ("rgb", "depth", "keypoints")
PARTS = (
    *(f"encoders.{name}." for name in _ENCODERS),
    *(f"encoders.global_mappers.{name}." for name in _ENCODERS),
    *(f"encoders.dense_mappers.{name}." for name in ("rgb", "depth")),
    "head.",
)
GLOBAL = {"encoders.rgb.", "encoders.depth.", "encoders.keypoints.", *(each for each in PARTS if "global" in each)}
DENSE = {"rgb": "encoders.dense_mappers.rgb.", "depth": "encoders.dense_mappers.depth."}


@pytest.mark.parametrize(
    ("experiment", "method", "expected"),
    [
        ("rgb-to-depth", "none", {"encoders.rgb.", DENSE["rgb"], "head."}),
        ("depth-to-rgb", "none", {"encoders.depth.", DENSE["depth"], "head."}),
        ("missing-modality", "none", {"encoders.rgb.", "encoders.depth.", *DENSE.values(), "head."}),
        ("rgb-to-depth", "cmc", {*GLOBAL, DENSE["rgb"], "head."}),
        ("depth-to-rgb", "cmc", {*GLOBAL, DENSE["depth"], "head."}),
        ("depth-to-rgb", "hcmoco", set(PARTS)),
    ],
)
def test_what_learns_is_what_the_method_reaches(sources, experiment, method, expected):
    """The other branch is as it was, bit for bit: the head's loss does not reach it, nor does a term of weight 0."""
    setup = tiny.tiny_resolved(sources, {"experiment": experiment, "method": method})
    run = CoTraining(
        setup.config, setup.loader.plan, {}, torch.device("cpu"), samples=21, class_weights=setup.class_weights
    )
    before = {name: value.clone() for name, value in run.model.named_parameters()}
    values = run.train_step(tiny.one_batch(setup))
    learned = {name for name, value in run.model.named_parameters() if not torch.equal(value, before[name])}
    assert {part for part in PARTS if any(name.startswith(part) for name in learned)} == expected
    terms = {name.removeprefix("loss/") for name in values if name.startswith("loss/")} - {"parsing"}
    assert {name[0] for name in terms} == {"none": set(), "cmc": {"g"}, "hcmoco": {"g", "d", "s"}}[method]
    assert values["loss"].item() == pytest.approx(
        10 * values["loss/parsing"].item() + sum(values[f"loss/{name}"].item() for name in terms)
    )


@pytest.mark.parametrize(("experiment", "method"), [("missing-modality", "hcmoco"), ("rgb-to-depth", "none")])
def test_a_resumed_run_ends_in_the_same_weights_and_banks(sources, tmp_path, experiment, method):
    over = {"experiment": experiment, "method": method, "train": {"num_checkpoints": 5}}
    whole, _ = tiny.start(sources, over)
    folder = tmp_path / "states"
    tiny.start(sources, over, states=str(folder))
    (folder / "step-00000004" / "COMPLETE").unlink()
    assert States(str(folder)).newest_step == 2
    resumed, host = tiny.start(sources, over, states=str(folder))
    assert [step for step, _ in host.logged] == [4]
    one, other = whole.state_dict(), resumed.state_dict()
    for part in ("model", "optimizer", "bank"):
        assert tiny.same(getattr(one, part), getattr(other, part)), part
    assert bool(one.bank) == (method == "hcmoco")


def test_scores_during_training_survive_and_choose_nothing(sources, tmp_path):
    over = {"data": {"validation": {"path": "test"}}, "num_evals": 2, "num_val_rows": 2}
    watched = tiny.Sources(sources.unlabeled, sources.labeled, sources.test, sources.test)
    run, _ = tiny.start(watched, over, states=str(tmp_path))
    assert [step for step, _ in run.evals] == [2, 4]
    assert States(str(tmp_path)).newest().history["evals"] == [[step, metrics] for step, metrics in run.evals]
    unwatched, _ = tiny.start(sources)
    assert tiny.same(run.model.state_dict(), unwatched.model.state_dict()), "to look changes nothing"


def test_a_state_of_another_method_or_start_is_refused(sources, tmp_path):
    tiny.start(sources, states=str(tmp_path / "states"))
    with pytest.raises(UserError, match=r"another config: method was 'hcmoco', now 'cmc'"):
        tiny.start(sources, {"method": "cmc"}, states=str(tmp_path / "states"))
    with pytest.raises(UserError, match=r"another config: start"):
        tiny.start(sources, {"init": tiny.export(tmp_path / "export")}, states=str(tmp_path / "states"))


def test_encoders_start_as_exported_and_all_else_as_without(tmp_path):
    config = tiny.tiny_config().model
    folder = tiny.export(tmp_path / "export", seed=3)
    exported, scratch, begun = HCMoCo(config, seed=3), CoTrained(config, seed=1), CoTrained(config, seed=1)
    told = load_encoders_init(begun.encoders, folder)
    for name in ("rgb", "depth", "keypoints"):
        assert tiny.same(getattr(begun.encoders, name).state_dict(), getattr(exported, name).state_dict())
    for name in ("global_mappers", "dense_mappers"):
        assert tiny.same(getattr(begun.encoders, name).state_dict(), getattr(scratch.encoders, name).state_dict())
    assert tiny.same(begun.head.state_dict(), scratch.head.state_dict())
    assert told["text"] == f"encoders of {folder} (stage 1, 7 steps)"
    other = load_encoders_init(CoTrained(config, seed=1).encoders, tiny.export(tmp_path / "other", seed=4))
    assert len({told["digest"], other["digest"]}) == 2
    assert load_encoders_init(scratch.encoders, "scratch")["digest"] == ""


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ({"rgb": {"in_chans": 3, "args": {"act_layer": "silu"}}}, r"model\.rgb\.args"),
        ({"skeleton": {"width": 8}}, r"the keypoint encoder of .* has skeleton"),
        ({"embedding": 8}, r"has embedding = 8, model\.embedding is 16"),
    ],
)
def test_encoders_of_another_kind_are_one_line(tmp_path, model, message):
    folder = tiny.export(tmp_path / "export", **model)
    with pytest.raises(UserError, match=message) as raised:
        load_encoders_init(HCMoCo(tiny.tiny_config().model, seed=1), folder)
    assert "\n" not in str(raised.value)


def test_a_folder_that_is_no_run_is_one_line(tmp_path):
    with pytest.raises(UserError, match="neither an export nor a finished run"):
        load_encoders_init(HCMoCo(tiny.tiny_config().model, seed=1), str(tmp_path))


@pytest.mark.parametrize(
    ("over", "message"),
    [
        ({"model": {"rgb": {"init": "timm"}}}, "say where the encoders start with the key init"),
        ({"objective": {"method": "mmv"}}, "a co-training's method is the key method"),
        ({"objective": {"lambda_d": 0, "lambda_s": 0}}, "the key method decides what a method goes without"),
        ({"train": {"workers": 2}}, "a co-training is one process"),
        ({"num_evals": 3}, "num_evals = 3 needs data.validation"),
        ({"experiment": "rgb-to-keypoints"}, "experiment = 'rgb-to-keypoints'"),
        ({"init": None}, "key 'init' is missing"),
        ({"data": {"test": {"scenes": {"count": 3}}}}, "crops of single people are needed"),
    ],
)
def test_a_mistaken_config_is_one_line(over, message):
    with pytest.raises(UserError, match=message) as raised:
        build(CoTrainingConfig, merge(tiny.TINY, over), "tiny")
    assert "\n" not in str(raised.value)
