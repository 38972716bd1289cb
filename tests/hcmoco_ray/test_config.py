"""Keys of earlier versions, in recipes and in the folders of runs."""

import uuid

import pytest
import yaml

from hcmoco.config import merge
from hcmoco.errors import UserError
from hcmoco.storage import Folder, join
from hcmoco_ray import cli
from hcmoco_ray import config as run_config
from hcmoco_ray.config import FinetuneRecipe, PretrainRecipe
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
