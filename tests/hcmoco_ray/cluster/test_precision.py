"""train.precision: auto under Ray: decided once, said, kept, and asked of every node."""

import os
import subprocess
import sys

import pytest
import yaml

from hcmoco.training.precision import chosen, native_bfloat16
from hcmoco_ray.cluster.precision import slow_line
from tests.helpers.pretrain_program import ROOT, call, interrupted_at, newest, tracked, tree

HERE = chosen([native_bfloat16("cpu")])
OTHER = {"float32": "bfloat16", "bfloat16": "float32"}[HERE]


def kept(folder) -> str:
    return yaml.safe_load((folder / "config.yaml").read_text())["train"]["precision"]


def test_auto_is_decided_printed_and_recorded(ray_session, tiny_home):
    done = call(
        tiny_home,
        "train.precision=auto",
        "stages={stage1_steps: 1, stage2_steps: 1}",
        "data.held_out=null",
        "output_dir=runs/auto",
    )
    assert done.status == 0, done
    assert f"precision: {HERE}" in done.out
    assert "precision: auto" not in done.out
    assert kept(done.folder) == newest(done.folder).identity["train"]["precision"] == HERE
    assert tracked(done.folder)[0]["params"]["train.precision"] == HERE


def test_a_run_begun_on_another_kind_of_machine_goes_on_as_it_was(ray_session, tiny_home):
    short = ("stages={stage1_steps: 2, stage2_steps: 2}", "data.held_out=null", "output_dir=runs/moved")
    out = tiny_home / "runs" / "moved"
    with interrupted_at(out / "states" / "step-00000002" / "COMPLETE"):
        assert call(tiny_home, *short, f"train.precision={OTHER}").status == 130
    done = call(tiny_home, *short, "train.precision=auto")
    assert done.status == 0, done
    assert kept(out) == newest(out).identity["train"]["precision"] == OTHER
    assert ("the run was started in it and keeps it" in done.out) == (OTHER == "bfloat16")
    before = tree(out)
    assert call(tiny_home, *short, "train.precision=auto").out.splitlines()[0] == f"{out} is finished"
    assert tree(out) == before
    assert f"train.precision was '{OTHER}', now '{HERE}'" in call(tiny_home, *short, f"train.precision={HERE}").error


def test_emulation_is_one_line():
    assert slow_line([False], begun=True) == (
        "train.precision is bfloat16, which this processor only emulates: steps take several times as long as in "
        "float32 (the run was started in it and keeps it; a new one, with another output_dir=..., takes float32)"
    )
    assert "which 1 of 3 nodes only emulate" in slow_line([True, False, True], begun=False)


NODES = """
import json, sys
import ray
from ray.cluster_utils import Cluster
from hcmoco_ray.cluster.precision import ask_nodes

cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 2})
for cpus in (2, 1):
    cluster.add_node(num_cpus=cpus)
ray.init(address=cluster.address, log_to_driver=False)
print(json.dumps([ask_nodes({"CPU": cpus}) for cpus in (1, 2, 3)]))
ray.shutdown()
cluster.shutdown()
"""


@pytest.mark.long
@pytest.mark.slow
def test_every_node_that_can_hold_a_worker_is_asked():
    environment = {key: value for key, value in os.environ.items() if not key.startswith("RAY_")} | {
        "PYTHONPATH": str(ROOT)
    }
    done = subprocess.run(
        [sys.executable, "-c", NODES], env=environment, capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, done.stderr
    native = native_bfloat16("cpu")
    assert done.stdout.splitlines()[-1] == str([[native] * 3, [native] * 2, []]).lower()
