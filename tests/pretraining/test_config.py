import pytest
import yaml

from hcmoco.config import build, merge, parse_overrides
from hcmoco.errors import UserError
from hcmoco.pretraining.config import PretrainConfig
from tests.helpers import local_pretraining as tiny


@pytest.mark.parametrize(
    ("override", "line"),
    [
        ("train.workers=3", r"train.workers = 3 does not divide train.lanes = 2; allowed are \[1, 2\]"),
        ("data.sources.room.weight=-1", r"data.sources.room.weight = -1: .*greater than 0"),
        ("data.sources.room.weight=0", r"data.sources.room.weight = 0: .*greater than 0"),
        ("data.sources.room.weight=.inf", r"data.sources.room.weight = inf: .*finite"),
        ("data.sources.room=null data.sources.street=null", r"data.sources.*: .*at least 1 entry"),
        ("data.sources.room.path=", r"data.sources.room.path = ''"),
        ("train.rows=3", r"unknown key 'train.rows'; allowed here: .*batch_size_per_lane"),
        ("optim.learning_rate=3", r"unknown key 'optim.learning_rate'; allowed here: .*lr"),
        ("stages.sample=3", "'stages.sample' is now called 'stages.stage1_steps'"),
        ("stages.full=3", "'stages.full' is now called 'stages.stage2_steps'"),
        ("train.keep=3", "'train.keep' is now called 'train.num_checkpoints'"),
        ("epochs=3", r"unknown key 'epochs'; allowed here: .*stages"),
        ("augment.size=100", r"augment.size = 100: must be a positive multiple of 32, for example 96"),
        ("augment.size=32", r"augment.size = 32: must be at least 64"),
        ("augment.size=large", r"augment.size = 'large'"),
        ("augment.scale=[1.0,2.0]", r"augment.scale"),
        ("optim.lr=0", r"optim.lr = 0: .*greater than 0"),
        ("optim.lr=.nan", r"optim.lr = nan"),
        ("optim.lr=.inf", r"optim.lr = inf"),
        ("optim.clip_norm=.inf", r"optim.clip_norm = inf"),
        ("optim.momentum=1", r"optim.momentum = 1"),
        ("optim.name=lion", r"optim.name = 'lion': .*'sgd', 'adam', 'adamw' or 'muon'"),
        (
            "stages={stage1_steps: 0, stage2_steps: 0}",
            r"stages.stage1_steps \+ stages.stage2_steps must be at least 1 step",
        ),
        ("stages.stage2_steps=-1", r"stages.stage2_steps = -1"),
        ("stages.stage2_steps=1.5", r"stages.stage2_steps = 1.5"),
        ("train.precision=float16", r"train.precision = 'float16': .*'auto', 'float32', 'tf32' or 'bfloat16'"),
        ("train.num_checkpoints=0", r"train.num_checkpoints = 0"),
        ("train.save_every=0", r"train.save_every = 0"),
        ("train.lanes=0", r"train.lanes = 0"),
        ("train.lanes=1000000000", r"train.lanes = 1000000000: .*at most 65536"),
        ("model.joint_set=people-31", r"model.joint_set = 'people-31': allowed are"),
        ("model.rgb.name=hrnet_w17", r"model.rgb.name = 'hrnet_w17': timm has no such model"),
        ("objective.num_negatives=-1", r"objective.num_negatives = -1"),
        ("seed=-1", r"seed = -1"),
        ("name=a b", r"name = 'a b'"),
        ("output_dir=", r"output_dir = ''"),
    ],
)
def test_a_bad_value_is_one_line_with_key_value_and_what_is_allowed(override, line):
    with pytest.raises(UserError, match=rf"^recipe tiny: .*{line}") as caught:
        build(
            PretrainConfig,
            merge(tiny.TINY, parse_overrides(override.split() if "null" in override else [override])),
            "recipe tiny",
        )
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("key", ["output_dir", "data", "stages", "train"])
def test_a_missing_key_is_named(key):
    with pytest.raises(UserError, match=rf"key '{key}' is missing"):
        build(PretrainConfig, {name: value for name, value in tiny.TINY.items() if name != key}, "recipe tiny")


def test_a_config_survives_its_own_yaml():
    config = tiny.tiny_config(augment={"scale": [1.0, 1.2]}, optim={"lr": 1e-5})
    again = build(PretrainConfig, yaml.safe_load(yaml.safe_dump(config.model_dump(mode="json"))), "saved")
    assert again == config
    assert again.identity() == config.identity()


FREE = {
    "name": "other",
    "output_dir": "elsewhere",
    "train.workers": 2,
    "train.micro_rows": 2,
    "train.concurrent_encoders": True,
    "train.gpu": True,
    "train.cpus_per_worker": 3.0,
    "train.threads_per_worker": 4,
    "train.log_every": 7,
    "train.save_every": 7,
    "train.num_checkpoints": 7,
    "probe.every": 7,
    "data.held_out": {"path": "held"},
}
DECIDES = {
    "seed": 6,
    "augment.size": 96,
    "augment.rotation": 1.0,
    "model.embedding": 8,
    "objective.tau_d": 0.2,
    "stages.stage1_steps": 5,
    "optim.lr": 0.2,
    "train.lanes": 4,
    "train.batch_size_per_lane": 4,
    "train.window_steps": 4,
    "train.precision": "bfloat16",
    "train.global_batch": True,
}


@pytest.mark.parametrize(("key", "value"), [*FREE.items(), *DECIDES.items()])
def test_what_decides_the_result_is_part_of_the_runs_identity_and_nothing_else(key, value):
    over = parse_overrides([f"{key}={yaml.safe_dump(value, default_flow_style=True).removesuffix('...').strip()}"])
    config = build(PretrainConfig, merge(tiny.TINY, over), "test")
    assert config != tiny.tiny_config()
    assert (config.identity() == tiny.tiny_config().identity()) == (key in FREE)


def test_micro_batches_decide_where_a_step_is_promised_to_be_one_function():
    both = [tiny.tiny_config(train={"global_batch": True, **more}).identity() for more in ({}, {"micro_rows": 2})]
    assert both[0] != both[1]


def test_the_smallest_batch_that_a_norm_sees():
    def smallest(**train) -> int:
        return tiny.tiny_config(train={"lanes": 4, "batch_size_per_lane": 5, **train}).train.smallest_batch

    assert smallest() == 20
    assert smallest(workers=4) == 5
    assert smallest(workers=4, global_batch=True) == 20
    assert smallest(workers=2, micro_rows=2) == 1
    assert smallest(workers=2, micro_rows=7) == 5
