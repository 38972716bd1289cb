"""cluster.yaml: Ray accepts it, it is secured, and what it names exists."""

import copy
import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[3]


@pytest.fixture
def config():
    return yaml.safe_load((ROOT / "cluster.yaml").read_text())


def prepared(config):
    """Return the config as `ray up` completes and checks it before it talks to AWS."""
    from ray.autoscaler._private.util import prepare_config, validate_config

    config = prepare_config(copy.deepcopy(config))
    validate_config(config)
    return config


def test_ray_accepts_it(config):
    ready = prepared(config)
    assert ready["head_node_type"] in ready["available_node_types"]
    assert ready["available_node_types"]["gpu"]["min_workers"] == 0
    assert ready["available_node_types"]["gpu"]["max_workers"] == ready["max_workers"]


def test_the_check_would_see_a_mistake(config):
    with pytest.raises(Exception, match="max_worker"):
        prepared({**config, "max_worker": 4})
    with pytest.raises(Exception, match="head_node_type"):
        prepared({**config, "head_node_type": "nosuch"})


def test_every_ray_process_authenticates_and_the_dashboard_is_on_loopback(config):
    ready = prepared(config)
    starts = [
        each for kind in ("head", "worker") for each in ready[f"{kind}_start_ray_commands"] if "ray start" in each
    ]
    assert len(starts) == 2
    assert all("RAY_AUTH_MODE=token " in each for each in starts)
    assert "--dashboard-host=127.0.0.1" in starts[0]
    assert ready["file_mounts"]["/home/ubuntu/.ray/auth_token"] == "~/.ray/auth_token"


def test_none_of_the_providers_default_commands_is_left(config):
    """They would put another Ray on the nodes, with the system's pip."""
    ready = prepared(config)
    commands = [each for key in ready if key.endswith("setup_commands") for each in ready[key]]
    assert commands
    assert all("~/env/bin/pip" in each for each in commands if "pip install" in each)
    assert any("hcmoco[run]" in each and "constraints.txt" in each for each in commands)


def test_what_it_names_exists(config):
    from hcmoco_ray.config import PretrainRecipe, load

    assert (ROOT / "constraints.txt").is_file()
    header = (ROOT / "cluster.yaml").read_text().split("cluster_name:")[0]
    command = re.search(r"pipelines/pretrain\.py --recipe (\S+)((?: [\w.]+=\S+)+)", header)
    assert command, "the header shows how to start a run"
    recipe = load(PretrainRecipe, command[1], command[2].split())
    assert 1 < recipe.train.workers <= config["max_workers"]
