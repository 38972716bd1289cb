"""A pre-training whose workers are on different nodes, with its output in a folder that all nodes share."""

import psutil
import pytest

from tests.helpers.node_command import Command
from tests.helpers.nodes import Nodes
from tests.helpers.pretrain_program import RECIPE, differences, newest, write_recipe
from tests.helpers.waiting import wait_until

pytestmark = pytest.mark.cluster

STEPS = RECIPE["stages"]["stage1_steps"] + RECIPE["stages"]["stage2_steps"]


class Run:
    """The program in the head, and the nodes that its workers were seen on."""

    def __init__(self, nodes: Nodes, name: str, *arguments: str):
        self._nodes = nodes
        home = nodes.shared / "home"
        home.mkdir(exist_ok=True)
        self.out = home / "runs" / name
        command = ["python", "pipelines/pretrain.py", "--recipe", str(write_recipe(home)), f"output_dir=runs/{name}"]
        self.command: Command = nodes.popen(
            0, [*command, "train.workers=2", *arguments], {"HCMOCO_HOME": str(home), "RAY_ADDRESS": "auto"}
        )

    def workers(self) -> list[int]:
        """The node of each training worker that runs now."""
        return [node for node in (1, 2, 3) for process in self._nodes.processes(node) if _is_train_worker(process)]

    def workers_together(self) -> list[int]:
        """The same, as soon as there are two."""
        found: list[int] = []

        def both() -> bool:
            found[:] = self.workers()
            return len(found) == 2

        try:
            wait_until(both, self.command.process, pause=0.05)
        except AssertionError:
            raise AssertionError(self.command.said) from None
        return found

    def finish(self) -> "Run":
        assert self.command.wait() == 0, self.command.said
        assert newest(self.out).step == STEPS
        return self


def _is_train_worker(process: psutil.Process) -> bool:
    try:
        return "TrainWorker" in " ".join(process.cmdline())
    except psutil.Error:
        return False


def test_same_bits_on_one_node_and_on_two_and_after_the_loss_of_one(nodes: Nodes):
    packed = Run(nodes, "packed", "train.placement=pack")
    assert len(set(packed.workers_together())) == 1
    packed.finish()

    spread = Run(nodes, "spread", "train.placement=spread")
    assert len(set(spread.workers_together())) == 2
    spread.finish()
    assert not differences(newest(packed.out), newest(spread.out))

    lost = Run(nodes, "lost", "train.placement=spread")
    node = lost.workers_together()[0]
    wait_until(lambda: list(lost.out.glob("states/step-*/COMPLETE")), lost.command.process)
    nodes.kill_node(node)
    lost.finish()
    assert f"node {nodes.address(node)} was lost" in lost.command.said
    assert not differences(newest(packed.out), newest(lost.out))
