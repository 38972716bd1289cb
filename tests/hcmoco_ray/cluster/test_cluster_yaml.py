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


@pytest.mark.parametrize(("on_demand", "spot"), [(4, 0), (0, 4), (2, 2)])
def test_ray_accepts_it(config, on_demand, spot):
    assert config["available_node_types"]["gpu"]["max_workers"] == config["max_workers"]
    assert config["available_node_types"]["gpu-spot"]["max_workers"] == 0
    config["available_node_types"]["gpu"]["max_workers"] = on_demand
    config["available_node_types"]["gpu-spot"]["max_workers"] = spot
    ready = prepared(config)
    kinds = ready["available_node_types"]
    assert ready["head_node_type"] == "head"
    assert kinds["head"]["resources"] == {"CPU": 0}
    spot_config = dict(kinds["gpu-spot"]["node_config"])
    assert spot_config.pop("InstanceMarketOptions") == {"MarketType": "spot"}
    assert spot_config == kinds["gpu"]["node_config"]
    assert "IamInstanceProfile" in spot_config
    assert all(kinds[kind]["min_workers"] == 0 for kind in ("gpu", "gpu-spot"))


def test_the_commented_file_of_mlflow_can_be_used():
    text = (ROOT / "cluster.yaml").read_text()
    ready = prepared(yaml.safe_load(re.sub(r"^  # (/home/hcmoco/)", r"  \1", text, flags=re.MULTILINE)))
    assert ready["file_mounts"]["/home/hcmoco/.mlflow/credentials"] == "~/.mlflow/credentials"


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
    assert ready["file_mounts"]["/home/hcmoco/.ray/auth_token"] == "~/.ray/auth_token"


def test_a_node_installs_nothing_but_docker(config):
    """The environment is the image's; the provider's default commands would put another Ray on the nodes."""
    ready = prepared(config)
    commands = [each for key in ready if key.endswith("setup_commands") for each in ready[key]]
    assert not [each for each in commands if "pip" in each or "conda" in each]
    targets = re.findall(r"^FROM .* AS (\S+)$", (ROOT / "deploy" / "Dockerfile").read_text(), re.MULTILINE)
    images = [ready["docker"][f"{kind}_image"].partition(":")[2] for kind in ("head", "worker")]
    assert images == ["cpu", "cuda"]
    assert set(images) <= set(targets)


def test_ray_starts_in_the_images_checkout_with_the_settings_of_several_nodes(config):
    ready = prepared(config)
    (head,) = [each for each in ready["head_start_ray_commands"] if "ray start" in each]
    (worker,) = [each for each in ready["worker_start_ray_commands"] if "ray start" in each]
    workdirs = set(re.findall(r"^WORKDIR (\S+)$", (ROOT / "deploy" / "Dockerfile").read_text(), re.MULTILINE))
    assert workdirs == {"/opt/hcmoco"}
    assert all(each.startswith("cd /opt/hcmoco;") for each in (head, worker))
    for setting in ("RAY_JOB_STOP_WAIT_TIME_S=15", "--num-cpus=0", *health_check()):
        assert setting in head
    assert "python -m hcmoco_ray node --spot aws --grace 120 -- ray start --block " in worker


def health_check() -> list[str]:
    """The settings that docs/failures.md names."""
    text = (ROOT / "docs" / "failures.md").read_text()
    found = re.findall(r"RAY_health_check_\w+=\d+", text)
    assert len(found) == 4
    return found


def test_what_it_names_exists(config):
    from hcmoco_ray.config import PretrainRecipe, load

    assert (ROOT / "constraints.txt").is_file()
    header = (ROOT / "cluster.yaml").read_text().split("cluster_name:")[0]
    command = re.search(r"pipelines/pretrain\.py --recipe (\S+)((?: [\w.]+=\S+)+)", header)
    assert command, "the header shows how to start a run"
    recipe = load(PretrainRecipe, command[1], command[2].split())
    assert 1 < recipe.train.workers <= config["max_workers"]
    assert recipe.tracking.uri
