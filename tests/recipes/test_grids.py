"""The grids: what they name is there, their programs share what they can, and the comparisons are fair."""

import itertools
from pathlib import Path

import pytest

from hcmoco.errors import UserError
from hcmoco.storage import Folder
from hcmoco_ray import config
from hcmoco_ray.config import PretrainRecipe
from hcmoco_ray.experiments.grid.config import GRIDS, load_grid
from hcmoco_ray.experiments.grid.experiments import make_experiments
from hcmoco_ray.experiments.pretrained import resolve_init, resolve_inits
from hcmoco_ray.experiments.results import read_results
from hcmoco_ray.experiments.versatility import run
from hcmoco_ray.experiments.versatility.experiments import START

ROOT = Path(__file__).parents[2]

ALL = sorted(path.stem for path in GRIDS.glob("*.yaml"))
NAMES = [name for name in ALL if "people" in name]  # the others need the published data sets
PUBLISHED = [name for name in ALL if name not in NAMES]


@pytest.mark.parametrize("name", NAMES)
def test_pre_trainings_differ_in_their_objective_alone(name):
    """The same encoders, data, order, batch and number of steps for all."""
    found = [each.config for each in resolve_inits(load_grid(name)).values() if each.config]
    assert len(found) >= 3
    identities = [each.identity() for each in found]
    models = [each.pop("model") for each in identities]
    objectives = [each.pop("objective") for each in identities]
    optims = [each.pop("optim") for each in identities]
    assert all(each == identities[0] for each in identities)
    assert all(optim | {"lr": 0} == optims[0] | {"lr": 0} for optim in optims), (
        "each may have the learning rate that suits it"
    )
    assert len({str(each) for each in zip(objectives, models, strict=True)}) == len(found), "and none is there twice"
    assert len({str(each) for each in models}) == (2 if name.startswith("backbones") else 1)
    assert all(each.data == found[0].data and each.stages.steps == found[0].stages.steps for each in found)
    assert len({each.output_dir for each in found}) == len({each.name for each in found}) == len(found)


@pytest.mark.parametrize("name", [name for name in PUBLISHED if not name.startswith("backbones")])
def test_published_pre_trainings_differ_in_their_method_alone(name):
    grid = load_grid(name)
    recipes = {
        label: config.load(PretrainRecipe, init.pretrain, list(init.overrides))
        for label, init in grid.inits.items()
        if not isinstance(init, str)
    }
    assert {label: each.objective.method for label, each in recipes.items()} == {
        "cmc": "cmc",
        "mmv": "mmv",
        "hcmoco": "hcmoco",
    }
    plain = [each.identity() for each in recipes.values()]
    for each in plain:
        each["objective"].pop("method")
    assert plain[0] == plain[1] == plain[2]
    starts = {each.model.rgb.init for each in recipes.values()} | {each.model.depth.init for each in recipes.values()}
    assert len(starts) == 1
    assert starts.pop().endswith("scratch" if "star" in name else "data/hrnetv2_w18_imagenet_pretrained.pth")


def test_table_8_as_published():
    """HRNet-W32 on 10 % of DensePose, PointNet++ on 20 % of NTURGBD-Parsing-4K; only the method differs."""
    grid = load_grid("backbones-paper")
    trained = {
        label: config.load(PretrainRecipe, init.pretrain, list(init.overrides))
        for label, init in grid.inits.items()
        if not isinstance(init, str)
    }
    for ending, recipe in (("", "paper-w32"), ("-points", "paper-w18-points")):
        whole = config.load(PretrainRecipe, recipe, [])
        assert trained[f"hcmoco{ending}"] == whole
        usual, cmc = whole.identity(), trained[f"cmc{ending}"].identity()
        assert (usual["objective"].pop("method"), cmc["objective"].pop("method")) == ("hcmoco", "cmc")
        assert cmc == usual
    assert [(each.tasks, each.labels) for each in grid.experiments] == [
        (("densepose",), {"fraction": 0.1}),
        (("parsing-depth",), {"fraction": 0.2}),
    ]


def test_published_grids_have_the_columns_of_the_papers_tables():
    """Tables 1, 2, 4 and 5, shares of the labels in percent."""
    columns = {
        "densepose": {"100%", "10%"},
        "parsing-rgb": {"100%", "20%", "10%", "1%"},
        "parsing-depth": {"100%", "20%"},
        "pose": {"100%", "itop-10%", "itop-1%", "itop-0.5%", "itop-0.2%", "itop-0.1%"},
    }
    for name, tasks in (("paper-w18", tuple(columns)), ("paper-w18-star", ("densepose", "parsing-rgb"))):
        found: dict[str, set] = {}
        for block in load_grid(name).experiments:
            for task in block.tasks:
                found.setdefault(task, set()).add(
                    block.labels.get("subset") or f"{100 * float(block.labels['fraction']):g}%"
                )
        assert found == {task: columns[task] for task in tasks}


@pytest.mark.parametrize("recipe", ["people-cpu", "people-gpu"])
def test_the_ablation_shares_pre_trainings_and_experiments(recipe):
    grid, ablation = load_grid(recipe), load_grid(f"ablation-{recipe}")
    assert (grid.recipe, grid.output_dir, grid.results) == (ablation.recipe, ablation.output_dir, ablation.results)
    for name in ("cmc", "hcmoco"):
        assert grid.inits[name] == ablation.inits[name]
    wanted = {
        (task, str(some.labels), seed) for some in ablation.experiments for task in some.tasks for seed in some.seeds
    }
    assert wanted <= {
        (task, str(some.labels), seed) for some in grid.experiments for task in some.tasks for seed in some.seeds
    }
    objectives = {name: spec.config.objective for name, spec in resolve_inits(ablation).items()}
    assert objectives["cmc"].method == "cmc"
    assert (objectives["hard"].dense_target, objectives["hard"].lambda_s) == ("hard", 0)
    assert (objectives["soft"].dense_target, objectives["soft"].lambda_s) == ("soft", 0)
    assert objectives["soft"].model_copy(update={"lambda_s": 1.0}) == objectives["hcmoco"]


@pytest.mark.parametrize(("recipe", "backbone"), [("people-cpu", "hrnet_w18_small_v2"), ("people-gpu", "hrnet_w32")])
def test_another_backbone_is_all_that_differs_from_the_grid_of_the_labels(recipe, backbone, tmp_path):
    """The same fine-tuning of DensePose, and the pre-trainings of the recipe, with another encoder in all of them."""
    grid, other = load_grid(recipe), load_grid(f"backbones-{recipe}")
    plain, larger = resolve_inits(grid), resolve_inits(other)
    names = {"": [backbone] * 2, "-points": [config.load(PretrainRecipe, recipe, []).model.rgb.name, "pointnet2_msg"]}
    for name, ending in itertools.product(("cmc", "hcmoco"), names):
        trained = larger[name + ending]
        usual = config.load(PretrainRecipe, recipe, [f"objective.method={name}"]).identity()
        differing = {key: values for key, values in trained.config.identity().items() if values != usual[key]}
        assert differing.keys() == {"model"}
        assert [differing["model"][each]["name"] for each in ("rgb", "depth")] == names[ending]
        assert trained.record not in {each.record for each in plain.values()}, "their records have one folder"
        assert trained.key not in {each.key for each in plain.values()}
    before, after = (
        next(
            each
            for each in make_experiments(which, {"scratch": specs["scratch"]}, [], str(tmp_path), Folder(str(tmp_path)))
            if (each.task, each.labels) == ("densepose", "10%")
        )
        for which, specs in ((grid, plain), (other, larger))
    )
    assert after.config.encoder.name == backbone
    assert (
        after.config.model_copy(update={"encoder": before.config.encoder, "output_dir": before.config.output_dir})
        == before.config
    )


@pytest.mark.parametrize(("grid", "recipe"), [("people-cpu", "people-cpu-tables"), ("people-gpu", "people-gpu")])
def test_hcmoco_is_what_the_recipe_of_that_name_trains(grid, recipe):
    made = resolve_inits(load_grid(grid))["hcmoco"].config
    assert made == config.load(PretrainRecipe, recipe, [])


@pytest.mark.parametrize("name", NAMES)
def test_every_experiment_is_there_once(name, tmp_path):
    """Before anything is pre-trained its starts are not known, and so neither are the keys."""
    grid = load_grid(name)
    found = {
        name: spec for name, spec in resolve_inits(grid).items() if name != "imagenet"
    }  # which may be on the network
    experiments = make_experiments(grid, found, [], str(tmp_path), Folder(str(tmp_path)))
    assert len(experiments) == len({(each.task, each.init, each.labels, each.config.seed) for each in experiments})
    assert all(bool(each.key) == (each.init == "scratch") for each in experiments)


@pytest.mark.parametrize("asked", ["auto", "float32", "bfloat16"])
def test_the_committed_results_are_those_of_the_recipes_under_either_precision(asked, tmp_path, monkeypatch):
    """Nobody's weights are needed, and nothing is trained, on whatever processor."""
    monkeypatch.setenv("HCMOCO_HOME", str(tmp_path))
    folder, override = Folder(str(ROOT / "results" / "people-cpu")), [f"train.precision={asked}"]
    recipe = run.load("people-cpu", override)
    made = {"versatility": run._experiments(recipe, resolve_init(START, recipe.init, recipe.tracking), folder)}
    made["experiments"] = []
    for name in ("people-cpu", "ablation-people-cpu", "backbones-people-cpu"):
        grid = load_grid(name)
        found = {
            name: spec for name, spec in resolve_inits(grid).items() if name != "imagenet"
        }  # whose weights are not ours to commit
        made["experiments"] += make_experiments(grid, found, override, str(tmp_path), folder)
    for below, experiments in made.items():
        results = read_results(folder, below, experiments)
        done = {name.removesuffix(".json") for name in folder.sizes(below) if name.endswith(".json")}
        assert done == results.keys(), "no file is of something else"
        # Not all fine-tunings on points have been run.
        wanted = {each.name for each in experiments if below == "versatility" or not each.config.encoder.is_points}
        assert wanted <= done
        assert {each["precision"] for each in results.values()} <= {"float32", "bfloat16"}
        assert all(each["commit"] for each in results.values())


@pytest.mark.parametrize("recipe", ["people-cpu", "people-gpu"])
def test_versatility_starts_from_the_same_sample_level_run(recipe):
    assert run.load(recipe, []).init == load_grid(recipe).inits["cmc"]


def test_a_block_compares_what_it_names(tmp_path):
    grid = load_grid("backbones-people-cpu")
    made = make_experiments(grid, resolve_inits(grid), [], str(tmp_path), Folder(str(tmp_path)))
    assert {(each.task, each.init) for each in made} == {
        *(("densepose", init) for init in ("scratch", "cmc", "hcmoco")),
        *(("parsing-depth", init) for init in ("scratch", "cmc-points", "hcmoco-points")),
    }


def test_a_block_that_names_no_init_of_the_grid_is_refused(tmp_path):
    text = (GRIDS / "backbones-people-cpu.yaml").read_text().replace("[scratch, cmc, hcmoco]", "[scratch, cmv]")
    (tmp_path / "mine.yaml").write_text(text)
    with pytest.raises(UserError, match=r"inits: 'cmv' is not among the grid's: scratch, cmc, hcmoco"):
        load_grid(str(tmp_path / "mine.yaml"))
