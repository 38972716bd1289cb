"""A pre-training of two workers on several nodes, and what happens to it."""

import re
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass

import psutil
import yaml

from hcmoco.storage import join
from hcmoco.training.checkpoint import States, TrainState
from tests.helpers.node_command import Command
from tests.helpers.nodes import Nodes
from tests.helpers.overrides import last_of_each
from tests.helpers.pretrain_program import RECIPE
from tests.helpers.waiting import wait_until

SAVE_EVERY = 4
# Two workers that take whole nodes: of three, one is to spare.
ARGUMENTS = (
    "train.workers=2",
    "train.cpus_per_worker=2",
    "train.placement=spread",
    "train.batch_size_per_lane=16",  # a step of about 60 ms
    f"train.save_every={SAVE_EVERY}",
    "data.held_out=null",
)


class Training:
    """The program on the head.

    Args:
        nodes: where it runs.
        name: of its folder.
        arguments: beside ARGUMENTS, or in their place.
        steps: of the training; it must not end before the test has done what it does.
        environment: of the program.
        out: URI of its folder, where it is not in the shared one.
    """

    def __init__(
        self,
        nodes: Nodes,
        name: str,
        *arguments: str,
        steps: int = 400,
        environment: dict[str, str] | None = None,
        out: str | None = None,
    ):
        self.steps = steps
        self.nodes, self.environment = nodes, environment or {}
        self.out = out or str(nodes.shared / "runs" / name)
        self.states = States(join(self.out, "states"))
        recipe = nodes.shared / "tiny.yaml"
        recipe.write_text(yaml.safe_dump(RECIPE, sort_keys=False))
        overrides = [*ARGUMENTS, f"stages={{stage1_steps: {steps // 2}, stage2_steps: {steps // 2}}}", *arguments]
        self._command = ["python", "pipelines/pretrain.py", "--recipe", str(recipe)]
        self._command += last_of_each([*overrides, f"output_dir={self.out}"])
        self._before = ""
        self.program = self._start()

    def _start(self) -> Command:
        environment = {"RAY_ADDRESS": self.nodes.ray_address, "HCMOCO_HOME": str(self.nodes.shared)}
        return self.nodes.popen(0, self._command, env=environment | self.environment)

    @property
    def said(self) -> str:
        return self._before + self.program.said

    def start_again(self) -> None:
        """Start the same command once more."""
        self._before = self.said
        self.program = self._start()

    def wait_for_step(self, step: int) -> None:
        """Wait until the state of a step, or a later one, is complete."""
        wait_until(lambda: self.states.newest_step >= step, self.program.process, pause=0.05)

    def end(self) -> TrainState:
        """Wait for the end and return the last state."""
        status = self.program.wait()
        assert status == 0, self.said
        state = self.states.newest()
        assert state is not None
        assert state.step == self.steps
        return state

    def stop(self) -> None:
        """End it after a further state, where nothing more is to be seen."""
        self.wait_for_step(self.states.newest_step + 1)
        self.program.send_signal(signal.SIGTERM)
        assert self.program.wait() == 128 + signal.SIGTERM, self.said

    def places(self) -> list[int]:
        """Return the node of each rank, as the program said last."""
        line = re.findall(r"^workers: (.*)$", self.said, re.MULTILINE)[-1]
        by_address = {self.nodes.address(node): node for node in range(len(self.nodes))}
        found = {
            int(rank): by_address[address]
            for ranks, address in re.findall(r"ranks? ([\d, ]+) on ([\d.]+)", line)
            for rank in ranks.split(",")
        }
        return [found[rank] for rank in sorted(found)]

    def worker(self, rank: int) -> psutil.Process:
        """Return the process of a rank."""
        named = [each for each in self.nodes.processes(self.places()[rank]) if "RayTrainWorker" in _name(each)]
        assert len(named) == 1, named
        return named[0]


def _name(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


@dataclass(frozen=True)
class Event:
    """Something that happens to a training, and what is done about it.

    Attributes:
        name: for the table.
        strike: does it, to the rank that is given.
        mend: afterwards, once the training goes on.
    """

    name: str
    strike: Callable[[Training, int], None]
    mend: Callable[[Training], None] = lambda training: None


@dataclass(frozen=True)
class Measured:
    """What an event cost.

    Attributes:
        event: its name.
        step: newest state when it happened.
        resumed: step that the training went on from; the same as `step` where it was not interrupted.
        seconds: until a newer state than at the event was complete.
        line: what the user was told.
    """

    event: str
    step: int
    resumed: int
    seconds: float
    line: str


def suffer(training: Training, event: Event, rank: int) -> Measured:
    """Let an event happen, and wait until the training has gone on."""
    seen, step, began = len(training.said), training.states.newest_step, time.monotonic()
    event.strike(training, rank)
    wait_until(lambda: training.states.newest_step > step, training.program.process, pause=0.05)
    seconds = time.monotonic() - began
    event.mend(training)
    new = training.said[seen:]
    line = next((each for each in new.splitlines() if re.search(r"lost|taken away|stood still|so far", each)), "")
    resumed = re.search(r"going on from step (\d+)|resuming from step (\d+)", new)
    return Measured(event.name, step, int(resumed[1] or resumed[2]) if resumed else step, seconds, line)


def first_start(training: Training, began: float) -> Measured:
    """Wait for the first state of a training whose program started at `began`, as time.monotonic() tells it."""
    training.wait_for_step(1)
    return Measured("first start", 0, 0, time.monotonic() - began, "")


def kill_worker(training: Training, rank: int) -> None:
    training.worker(rank).kill()


def kill_node(training: Training, rank: int) -> None:
    training.nodes.kill_node(training.places()[rank])


def pull_cable(training: Training, rank: int) -> None:
    training.nodes.unplug(training.places()[rank])


def drain(training: Training, rank: int) -> None:
    """Announce that a node is taken away in 30 seconds, as a cloud does."""
    node = training.places()[rank]
    announce = ["ray", "drain-node", "--address", training.nodes.ray_address, "--deadline-remaining-seconds", "30"]
    announce += ["--reason", "DRAIN_NODE_REASON_PREEMPTION", "--reason-message", "spot"]
    training.nodes.run(node, announce)


def stop_worker(training: Training, rank: int) -> None:
    """SIGSTOP for 25 seconds."""
    process = training.worker(rank)
    process.suspend()
    time.sleep(25)
    process.resume()


def kill_job(training: Training, rank: int) -> None:
    """SIGKILL for the program; somebody gives the same command again."""
    training.program.send_signal(signal.SIGKILL)
    training.program.wait()
    training.start_again()


def repair(training: Training) -> None:
    """Make nodes anew that were lost. Ray ends by itself on one whose cable is put back too late."""
    nodes = training.nodes
    for node in set(range(len(nodes))) - nodes.alive():
        if nodes.has(node):
            nodes.plug(node)
            nodes.kill_node(node)
        nodes.start(node)
    wait_until(lambda: nodes.alive() == set(range(len(nodes))), training.program.process)


EVENTS = {
    each.name: each
    for each in (
        Event("worker killed", kill_worker),
        Event("node killed", kill_node, repair),
        Event("node taken away", drain, lambda training: None),
        Event("cable pulled", pull_cable, repair),
        Event("worker stopped for 25 s", stop_worker),
        Event("job killed", kill_job),
    )
}


def table(measured: list[Measured]) -> str:
    """Return what the events cost as a Markdown table."""
    lines = ["| event | at state | steps lost | s until a newer state | what the user is told |"]
    lines += ["|---|--:|--:|--:|---|"]
    for each in measured:
        lost = max(0, each.step - each.resumed)
        lines.append(f"| {each.event} | {each.step} | {lost} | {each.seconds:.0f} | {each.line} |")
    return "\n".join(lines)
