"""A task from outside the package: the one of docs/extending.md, registered and trained for one step."""

import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from hcmoco.config import build, canonical, merge, upgrade
from hcmoco.errors import UserError
from hcmoco.finetuning.config import FinetuneConfig
from hcmoco.inference.adapter import Adapter, PredictOptions
from hcmoco.inference.run import make_adapter
from hcmoco.models.encoders import build_encoder
from hcmoco.rng import make_rng
from hcmoco.tasks.base import TaskConfig
from hcmoco.tasks.registry import REGISTRY, Entry, make_task, register, register_all, task_class
from hcmoco_ray import cli
from hcmoco_ray import config as run_config
from hcmoco_ray.config import FinetuneRecipe
from tests.helpers import local_finetuning

DOCS = Path(__file__).parents[2] / "docs" / "extending.md"
NAME = "visible-joints"
CPU = torch.device("cpu")


@pytest.fixture
def toy(tmp_path, monkeypatch):
    """The task of the docs, in a module of its own, registered under NAME."""
    blocks = re.findall(r"```python\n(.*?)```", DOCS.read_text(), re.DOTALL)
    (module,) = [block for block in blocks if "class VisibleJoints(Task" in block]
    (tmp_path / "visible_joints.py").write_text(module)
    monkeypatch.syspath_prepend(str(tmp_path))
    register(NAME, Entry("visible_joints:VisibleJoints"))
    yield
    del REGISTRY[NAME]
    sys.modules.pop("visible_joints", None)


def values(**task) -> dict:
    return merge(local_finetuning.TINY, {"task": {"size": None, "name": NAME, **task}})


def test_a_registered_task_is_configured_trained_and_scored(toy, people_shards):
    config = build(FinetuneConfig, values(flip_probability=1.0), "toy")
    assert (config.task.name, config.task.size) == (NAME, 96)
    cls = task_class(NAME)
    task = make_task(config.task, people_shards.manifest)
    assert (type(task), cls.__module__) == (cls, "visible_joints")
    rows = people_shards.read_group(0, cls.columns).to_pylist()[:4]
    torch.manual_seed(0)
    model = task.make_model(build_encoder(config.encoder))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    batch = task.make_batch(rows, [make_rng(0, "test", number) for number in range(4)])
    before = task.losses(model, batch, CPU)["loss"]
    before.backward()
    optimizer.step()
    assert task.losses(model, batch, CPU)["loss"] < before

    whole = task.make_batch(rows, None)
    np.testing.assert_array_equal(batch.image, whole.image[:, :, ::-1])
    parts = [task.metric(), task.metric()]
    predictions = task.predict(model.eval(), whole, CPU)
    parts[0].update(whole, predictions)
    parts[1].merge(parts[0].state())
    result = parts[1].compute()
    right = np.mean([p["visible"] == truth for p, truth in zip(predictions, whole.visible, strict=True)])
    assert result.metrics[cls.primary_metric] == pytest.approx(right)
    assert result.rows == 4


def test_its_config_round_trips_and_has_an_identity(toy):
    config = build(FinetuneConfig, values(size=64), "toy")
    dumped = config.model_dump(mode="json")
    assert FinetuneConfig.model_validate(dumped) == config
    assert FinetuneConfig.model_validate(upgrade(FinetuneConfig, canonical(FinetuneConfig, dumped))) == config
    assert config.identity()["task"] == {"name": NAME, "size": 64, "flip_probability": 0.5}


@pytest.mark.parametrize(
    ("task", "line"),
    [
        ({"name": "poes"}, f"task.name = 'poes': must be one of parsing-rgb, parsing-depth, pose, densepose, {NAME}"),
        ({"name": ["pose"]}, "task.name = ['pose']: must be one of "),
        ({"sice": 3}, "unknown key 'task.sice'; allowed here: name, size, flip_probability"),
        ({"flip_probability": 2}, "task.flip_probability = 2: "),
        ({"name": "parsing-rgb", "augment": {"zoom": 1}}, "unknown key 'task.augment.zoom'; allowed here: geometry, "),
    ],
)
def test_a_mistake_is_one_line(toy, task, line):
    with pytest.raises(UserError, match=f"^toy: {re.escape(line)}"):
        build(FinetuneConfig, values(**task), "toy")


def test_a_task_has_to_be_named():
    without = merge(local_finetuning.TINY, {"task": {"name": None}})
    with pytest.raises(UserError, match=r"^toy: key 'task\.name' is missing$"):
        build(FinetuneConfig, without, "toy")
    with pytest.raises(UserError, match=r"^toy: task = 3: "):
        build(FinetuneConfig, merge(local_finetuning.TINY, {"task": 3}), "toy")


def test_the_old_key_of_the_name():
    line = "^toy: 'task.task' is now called 'task.name'$"
    with pytest.raises(UserError, match=line):
        build(FinetuneConfig, merge(local_finetuning.TINY, {"task": {"name": None, "task": "pose"}}), "toy")
    with pytest.raises(UserError, match=line):
        build(FinetuneConfig, merge(local_finetuning.TINY, {"task": {"task": "pose"}}), "toy")


def test_files_with_the_old_key_load_and_have_the_same_digest():
    config = local_finetuning.tiny_config({"task": {"augment": {"shift": 0.2}}})
    today = config.model_dump(mode="json")
    old = merge(today, {"task": {"name": None, "task": "parsing-rgb"}})
    assert FinetuneConfig.model_validate(upgrade(FinetuneConfig, old)) == config
    assert upgrade(FinetuneConfig, {"task": old["task"]}) == {"task": today["task"]}
    assert canonical(FinetuneConfig, today)["task"] == old["task"]


def test_the_command_line_knows_it(toy):
    assert cli.task_parser("").parse_args([NAME, "init=scratch"]).task == NAME


def test_it_has_no_adapter(toy, people_shards):
    task = make_task(build(FinetuneConfig, values(), "toy").task, people_shards.manifest)
    with pytest.raises(UserError, match=f"predict does not know the task {NAME}"):
        make_adapter(task, PredictOptions())


def test_its_recipe_is_a_file_anywhere(toy, tmp_path):
    (recipe,) = re.findall(r"```yaml\n(.*?)```", DOCS.read_text(), re.DOTALL)
    (tmp_path / "recipes").symlink_to(cli.RECIPES)
    path = tmp_path / f"{NAME}.yaml"
    path.write_text(recipe)
    config = run_config.check(FinetuneRecipe, cli.task_values(NAME, str(path), ["init=scratch"]), "docs")
    assert (config.name, config.task.name, config.task.flip_probability) == (f"{NAME}-people-cpu", NAME, 0.5)


def test_the_program_of_the_docs_knows_it(tmp_path):
    blocks = re.findall(r"```python\n(.*?)```", DOCS.read_text(), re.DOTALL)
    (program,) = [block for block in blocks if "run_command" in block]
    (module,) = [block for block in blocks if "class VisibleJoints(Task" in block]
    (tmp_path / "programs.py").write_text(program)
    (tmp_path / "visible_joints.py").write_text(module)
    (tmp_path / "wrong.yaml").write_text("{init: scratch, output_dir: out, task: {sice: 3}}")
    done = subprocess.run(
        [sys.executable, tmp_path / "programs.py", "finetune", NAME, "--recipe", str(tmp_path / "wrong.yaml")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "unknown key 'task.sice'; allowed here: name, size, flip_probability" in done.stderr


def test_the_command_line_needs_no_torch_for_the_names():
    code = "import sys, hcmoco_ray.cli; print([n for n in ('torch', 'pydantic', 'numpy') if n in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_name_is_taken_once(toy):
    with pytest.raises(ValueError, match="registered already"):
        register("pose", Entry("visible_joints:VisibleJoints"))
    before = REGISTRY["pose"]
    register_all({"pose": Entry("visible_joints:VisibleJoints")})
    assert REGISTRY["pose"] == before


def test_an_entry_has_to_be_a_task():
    with pytest.raises(TypeError, match="TaskConfig is not a Task"):
        Entry("hcmoco.tasks.base:TaskConfig").load()


@pytest.mark.parametrize("name", list(REGISTRY))
def test_every_task_is_registered_under_its_own_name(name):
    cls = task_class(name)
    assert cls.name == name
    assert TaskConfig.variant({"name": name}) is cls.config_class
    assert issubclass(pkgutil.resolve_name(REGISTRY[name].adapter), Adapter)
