"""A pre-training whose workers are on different nodes, with its output in a folder that all nodes share."""

import re

import psutil
import pytest

from tests.helpers.node_command import Command
from tests.helpers.nodes import Nodes
from tests.helpers.pretrain_program import differences, newest, numbers, write_recipe
from tests.helpers.pretrain_program import tracked as tracked_runs
from tests.helpers.waiting import wait_until

pytestmark = pytest.mark.cluster

STEPS = 43  # enough that a node dies long before the end


class Run:
    """The program in the head, with two workers."""

    def __init__(self, nodes: Nodes, name: str, placement: str):
        self._nodes = nodes
        home = nodes.shared / "home"
        home.mkdir(exist_ok=True)
        self.out = home / "runs" / name
        command = ["python", "pipelines/pretrain.py", "--recipe", str(write_recipe(home)), f"output_dir=runs/{name}"]
        command += ["stages.stage1_steps=3", f"stages.stage2_steps={STEPS - 3}", "probe.every=0"]
        command += ["train.workers=2", f"train.placement={placement}", "tracking.system_metrics_interval=1"]
        self.command: Command = nodes.popen(0, command, {"HCMOCO_HOME": str(home), "RAY_ADDRESS": "auto"})

    def nodes_of_ranks(self) -> list[int]:
        """The node of each rank, as it says; AssertionError where its worker's process is not seen there."""
        line = self.command.until(r"^workers: (.*)$")[1]
        by_rank = {
            int(rank): address
            for ranks, address in re.findall(r"ranks? ([\d, ]+) on ([\d.]+)", line)
            for rank in ranks.split(",")
        }
        found = [next(node for node in (1, 2, 3) if self._nodes.address(node) == by_rank[rank]) for rank in (0, 1)]
        seen = [node for node in (1, 2, 3) for process in self._nodes.processes(node) if _is_train_worker(process)]
        assert sorted(found) == seen
        return found

    def finish(self) -> None:
        assert self.command.wait() == 0, self.command.said
        assert newest(self.out).step == STEPS


def _is_train_worker(process: psutil.Process) -> bool:
    try:
        return "TrainWorker" in " ".join(process.cmdline())
    except psutil.Error:
        return False


@pytest.fixture(scope="module")
def packed(_nodes: Nodes) -> Run:
    """A run with both workers on one node."""
    _nodes.repair()
    run = Run(_nodes, "packed", "pack")
    one, other = run.nodes_of_ranks()
    assert one == other
    run.finish()
    return run


def test_workers_on_two_nodes_end_with_the_bits_of_one_node(packed: Run, nodes: Nodes):
    run = Run(nodes, "spread", "spread")
    one, other = run.nodes_of_ranks()
    assert one != other
    run.finish()
    assert not differences(newest(packed.out), newest(run.out))

    [tracked] = tracked_runs(run.out)
    sampled = {name.split("/")[1] for name in tracked["metrics"] if name.startswith("system/")}
    assert sampled == {nodes.address(node) for node in (0, one, other)}  # the program's node, and each worker's
    for name, points in tracked["metrics"].items():
        steps = [step for step, _ in points]
        assert steps == sorted(set(steps)), name
    (out, spread) = (numbers(each.out) for each in (packed, run))
    assert out == spread


@pytest.mark.parametrize("rank", [0, 1])
def test_a_lost_node_is_named_and_changes_no_bit(packed: Run, nodes: Nodes, rank: int):
    run = Run(nodes, f"lost-{rank}", "spread")
    node = run.nodes_of_ranks()[rank]
    wait_until(lambda: list(run.out.glob("states/step-*/COMPLETE")), run.command.process)
    nodes.kill_node(node)
    run.finish()
    assert re.search(rf"^node {nodes.address(node)} was lost.*; going on from step [1-9]", run.command.said, re.M)
    assert not differences(newest(packed.out), newest(run.out))
