"""Keys of earlier versions, in recipes and in the folders of runs."""

import importlib
import uuid

import pytest
import yaml

from hcmoco.config import merge
from hcmoco.errors import UserError
from hcmoco.storage import Folder, join
from hcmoco_ray import cli
from hcmoco_ray import config as run_config
from hcmoco_ray.config import FinetuneRecipe, PretrainRecipe
from hcmoco_ray.prepare.reader import from_arguments
from hcmoco_ray.train.run_dir import CONFIG, load_saved_config
from tests.helpers import finetune_program, pretrain_program


@pytest.mark.parametrize(
    ("override", "line"),
    [
        ("out=x", "'out' is now called 'output_dir'"),
        ("restarts=1", "'restarts' is now called 'max_restarts'"),
        ("ingest.threads=1", "'ingest.threads' is now called 'ingest.num_threads'"),
        ("ingest.ahead=1", "'ingest.ahead' is now called 'ingest.prefetch'"),
    ],
)
@pytest.mark.parametrize("recipe", ["pretraining", "finetuning"])
def test_an_old_key_is_told_its_new_name(tmp_path, recipe, override, line):
    values = pretrain_program.RECIPE if recipe == "pretraining" else finetune_program.RECIPES["parsing-rgb"]
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(values))
    if recipe == "pretraining":
        cls, keys = PretrainRecipe, cli.values(str(path), [override])
    else:
        cls, keys = FinetuneRecipe, cli.task_values("parsing-rgb", str(path), ["init=scratch", override])
    with pytest.raises(UserError) as caught:
        run_config.check(cls, keys, "mine")
    assert line in str(caught.value)


def test_the_config_of_a_folder_from_before_the_renames_is_read(tmp_path):
    config = run_config.check(PretrainRecipe, merge(pretrain_program.RECIPE, {"output_dir": str(tmp_path)}), "mine")
    text = run_config.as_yaml(config)
    old = text.replace("output_dir:", "out:").replace("max_restarts:", "restarts:").replace("num_threads:", "threads:")
    assert old != text
    (tmp_path / CONFIG).write_text(old)
    assert load_saved_config(config)[1] == config


def test_a_recipe_is_read_from_a_uri_with_the_one_that_it_extends():
    folder = Folder(f"memory://{uuid.uuid4()}/recipes")
    folder.write("base.yaml", b"seed: 1\ntrain: {lanes: 2, workers: 1}\n")
    folder.write("mine.yaml", b"extends: base\ntrain: {workers: 2}\n")
    assert cli.values(join(folder.uri, "mine.yaml"), ["seed=3"]) == {"seed": 3, "train": {"lanes": 2, "workers": 2}}
    absent = join(folder.uri, "absent.yaml")
    with pytest.raises(UserError, match=f"recipe {absent} does not exist"):
        cli.task_values("pose", absent, [])


@pytest.mark.parametrize(
    ("override", "line"),
    [
        ("train.workers=two", "train.workers = 'two': must be a whole number or a list"),
        ("train.workers=[1,2,3]", "train.workers = [1, 2, 3]: must be a whole number or have at most 2 entries"),
        ("augment.scale=3", "augment.scale = 3: must be a list"),
        ("objective=3", "objective = 3: must be a mapping of keys to values"),
        ("seed=1.5", "seed = 1.5: must be a whole number"),
        ("output_dir=true", "output_dir = true: must be text; put it in double quotes"),
        ("train.precision=tf32", "train: train.precision = tf32 is an arithmetic of GPUs, and train.gpu is false"),
        ("train.precision=half", "train.precision = 'half': must be 'auto', 'float32', 'tf32' or 'bfloat16'"),
        ("train.placement=", "train.placement = '': must be 'pack' or 'spread'"),
        ("train.window_steps=0", "train.window_steps = 0: must be at least 1"),
    ],
)
def test_a_value_that_is_not_allowed_is_told_what_is(override, line):
    with pytest.raises(UserError) as caught:
        run_config.load(PretrainRecipe, "people-cpu", [override])
    assert str(caught.value).startswith(f"recipe people-cpu: {line}")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("key", ["objective.bank_rows", "seed", "optim.lr", "train.workers", "train.wait_minutes"])
@pytest.mark.parametrize("value", ["true", "False", "[2, true]"])
def test_true_is_not_the_number_1(key, value):
    with pytest.raises(UserError, match=f"{key} = .*: must be a number, not true or false"):
        run_config.load(PretrainRecipe, "people-cpu", [f"{key}={value}"])


def test_a_key_that_is_true_or_false_is_still_that():
    assert run_config.load(PretrainRecipe, "people-cpu", ["train.global_batch=true"]).train.global_batch is True


@pytest.mark.parametrize("name", ["base", "base.yaml"])
def test_extends_takes_a_name_with_or_without_its_suffix(tmp_path, name):
    (tmp_path / "base.yaml").write_text("seed: 1\n")
    (tmp_path / "mine.yaml").write_text(f"extends: {name}\n")
    assert cli.values(str(tmp_path / "mine.yaml"), []) == {"seed": 1}


def test_a_recipe_that_is_a_folder_is_told_as_one(tmp_path):
    with pytest.raises(UserError, match=f"recipe {tmp_path} is a folder; give a YAML file in it"):
        cli.values(str(tmp_path), [])


@pytest.mark.parametrize("uri", ["http://", "https:///", "http://user:password@/"])
def test_a_tracking_server_without_a_host(monkeypatch, uri):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    with pytest.raises(UserError, match=r"MLFLOW_TRACKING_URI=.* must name a host, for example http"):
        run_config.load(PretrainRecipe, "people-cpu", [])


@pytest.mark.parametrize("option", ["-h", "--help"])
def test_the_help_of_all_programs(capsys, option):
    assert cli.run_command([option], "hcmoco") == 0
    said = capsys.readouterr().out
    assert said.startswith("usage: hcmoco PROGRAM")
    assert all(name in said for name in cli.PROGRAMS)


@pytest.mark.parametrize(
    ("program", "arguments", "line"),
    [
        ("report", ["x", "--out", "a", "--out", "b"], "--out is given twice, as a and as b; keep one of them"),
        ("report", ["x", "--out", "a", "--output-dir=b"], "--output-dir is given twice, as a and as b"),
        ("predict", ["x", "--weights", "a", "--weights", "b"], "--weights is given twice, as a and as b"),
        ("pretrain", ["--recipe", "a", "seed=1", "--recipe", "b"], "--recipe is given twice, as a and as b"),
        ("sweep", ["--cpus", "1", "--cpus", "2"], "--cpus is given twice, as 1.0 and as 2.0"),
        ("prepare", ["people", "--count", "1", "--count", "2"], "--count is given twice, as 1 and as 2"),
        ("evaluate", ["m", "--data", "d", "--workers", "1_0"], "argument --workers: '1_0' is not a whole number"),
        ("evaluate", ["m", "--data", "d", "--cpus", "nan"], "argument --cpus: 'nan' is not a number"),
        ("node", ["--grace", "1_0", "--", "sleep", "1"], "argument --grace: '1_0' is not a number"),
    ],
)
def test_an_option_is_taken_once_and_a_number_as_it_is_typed(capsys, program, arguments, line):
    with pytest.raises(SystemExit) as ended:
        importlib.import_module(f"hcmoco_ray.commands.{program}").main(arguments)
    assert ended.value.code == 2
    assert line in capsys.readouterr().err


def test_an_option_may_have_leading_zeros():
    given = (
        importlib.import_module("hcmoco_ray.commands.evaluate").parser().parse_args(["m", "--data=d", "--workers=010"])
    )
    assert given.workers == 10


@pytest.mark.parametrize(
    ("arguments", "values"),
    [
        (["people", "--count", "1", "--seed", "010", "--size", "064"], {"seed": 10, "size": 64}),
        (["people", "--count", "1", "--split", "2024_01"], {"split": "2024_01"}),
        (["people", "--count", "1", "--split", "no"], {"split": "no"}),
        (["ntu", "--source", "010", "--setups", "010", "--dataset", "60"], {"source": "010", "setups": (10,)}),
        (["ntu", "--source", "a #1", "--setups", "001,012"], {"source": "a #1", "setups": (1, 12)}),
        (["h36m-parsing", "--source", "x", "--subjects", "S1,S5"], {"subjects": ("S1", "S5")}),
    ],
)
def test_an_option_of_prepare_is_read_as_typed(arguments, values):
    given = importlib.import_module("hcmoco_ray.commands.prepare").parser().parse_args(arguments)
    config = from_arguments(given.kind, given).config
    assert {name: getattr(config, name) for name in values} == values


@pytest.mark.parametrize(("option", "text"), [("--seed", "1:30"), ("--seed", "2024_01"), ("--size", "no")])
def test_an_option_of_prepare_that_is_no_number_is_refused(option, text):
    given = (
        importlib.import_module("hcmoco_ray.commands.prepare")
        .parser()
        .parse_args(["people", "--count=1", option, text])
    )
    with pytest.raises(UserError, match=f"{option[2:]} = {text!r}: must be a"):
        from_arguments(given.kind, given)
