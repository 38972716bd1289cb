"""Several nodes on one machine: each has its own network, processes, host name, /tmp, /dev/shm and /etc/hosts.

Node 0 is Ray's head. The test process is outside all of them: it starts commands in a node, kills it, pulls its cable.
Everything that is made ends with the test process, also where that is killed.
"""

import json
import os
import secrets
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import psutil

from hcmoco_ray.cluster.session import START_ENV
from tests.helpers.node_command import Command
from tests.helpers.node_machine import ROOT, Machine
from tests.helpers.node_network import Bridge
from tests.helpers.waiting import wait_until

_GCS_PORT = 6379
_START_TRIES = 4

# Prints the addresses of the alive nodes, whenever they change.
_WATCH = """
import json, sys, time
from ray._raylet import GcsClient
from ray.core.generated.gcs_pb2 import GcsNodeInfo
client, before = GcsClient(address=sys.argv[1]), None
while True:
    nodes = client.get_all_node_info().values()
    alive = sorted(node.node_manager_address for node in nodes if node.state == GcsNodeInfo.ALIVE)
    if alive != before:
        print(json.dumps(alive), flush=True)
    before = alive
    time.sleep(0.1)
"""


@dataclass(frozen=True)
class HealthCheck:
    """How Ray's head finds that a node is gone: `failure_threshold` checks in a row fail, each after `timeout_ms`, with
    `period_ms` between them. Ray's own defaults are 5000, 3000, 10000 and 5."""

    initial_delay_ms: int = 1000
    period_ms: int = 1000
    timeout_ms: int = 2000
    failure_threshold: int = 3

    def environment(self) -> dict[str, str]:
        return {f"RAY_health_check_{name}": str(value) for name, value in vars(self).items()}


class Nodes:
    """Nodes with Ray, from `with` on.

    Args:
        cpus: logical CPUs of each node, the head first.
        object_store_bytes: of each node; Ray takes no less than 75 MB.
        health: how a lost node is found.
        dashboard: whether the head has one, for `ray job submit`; it takes 190 MB and 6 s more.
        unshared: nodes that do not reach the folder `shared`.
        environment: variables of all commands in the nodes, Ray's own processes included.

    Attributes:
        shared: a folder that all nodes and the test process see under the same path.
    """

    def __init__(
        self,
        cpus: Sequence[int] = (0, 2, 2, 2),
        *,
        object_store_bytes: int = 150 << 20,
        health: HealthCheck | None = None,
        dashboard: bool = False,
        unshared: Collection[int] = (),
        environment: Mapping[str, str] | None = None,
    ):
        self._cpus = cpus
        self._object_store_bytes = object_store_bytes
        self._dashboard = dashboard
        self._unshared = unshared
        inherited = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("RAY_", "PYTEST_", "HCMOCO_")) and not name.lower().endswith("_proxy")
        }
        self._environment = {
            **inherited,
            "HOME": "/tmp/home",
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)]),
            "PYTHONPATH": str(ROOT),
            "OMP_NUM_THREADS": "1",
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": secrets.token_hex(32),
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_enable_metrics_collection": "0",
            **START_ENV,
            "RAY_memory_monitor_refresh_ms": "0",  # each node would see the memory of all
            **(health or HealthCheck()).environment(),
            **(environment or {}),
        }
        self._machines: dict[int, Machine] = {}
        self._lock = threading.Lock()
        self._starts = 0
        self._watch: Command | None = None

    def __enter__(self) -> "Nodes":
        self.folder = Path(tempfile.mkdtemp(prefix="hcmoco-nodes-", dir="/var/tmp"))
        try:
            self.shared = self.folder / "shared"
            self.shared.mkdir()
            self._bridge = Bridge(self.folder)
            self._start_all()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __len__(self) -> int:
        return len(self._cpus)

    def close(self) -> None:
        """Ends the nodes and takes away all that was made."""
        for node in list(self._machines):
            self.kill_node(node)
        if hasattr(self, "_bridge"):
            self._bridge.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    # What a node is called.

    @property
    def host_address(self) -> str:
        """The address at which the nodes reach a server of the test process."""
        return self._bridge.host_address

    @property
    def ray_address(self) -> str:
        return f"{self.address(0)}:{_GCS_PORT}"

    def has(self, node: int) -> bool:
        """Whether the node was made and not killed."""
        return node in self._machines

    def address(self, node: int) -> str:
        return self._bridge.address(node)

    def hostname(self, node: int) -> str:
        return "head" if node == 0 else f"worker-{node}"

    # Making and losing nodes.

    def _start_all(self) -> None:
        self.start(0)
        with ThreadPoolExecutor() as pool:
            list(pool.map(self.start, range(1, len(self))))
        self.wait_alive(range(len(self)))

    def repair(self) -> None:
        """Ends all commands, and makes every lost node anew, so that all are alive."""
        for node in list(self._machines):
            self.plug(node)
            self.resume(node)
            for command in [each for each in self._machines[node].commands if each is not self._watch]:
                self._machines[node].close(command)
        if 0 in self._machines and self._watch is not None and self._watch.process.poll() is None:
            for node in set(range(len(self))) - self.alive():
                if node in self._machines:
                    self.kill_node(node)
                self.start(node)
            self.wait_alive(range(len(self)))
        else:
            for node in list(self._machines):
                self.kill_node(node)
            self._start_all()

    def start(self, node: int) -> None:
        """Makes a node and starts its Ray. Ray gives that 30 seconds; a busy machine may need another try."""
        for left in reversed(range(_START_TRIES)):
            self.boot(node)
            try:
                self.start_ray(node)
                return
            except AssertionError as error:
                if not left or "timed out during startup" not in str(error):
                    raise
            self.kill_node(node)

    def boot(self, node: int) -> None:
        """Makes a node, with an empty /tmp and without Ray."""
        assert node not in self._machines, f"node {node} is there"
        with self._lock:
            self._starts += 1
            folder = self.folder / f"node-{node}-{self._starts}"
        self._machines[node] = Machine(
            self.hostname(node),
            folder,
            hide=[self.shared] if node in self._unshared else [],
            shm_bytes=self._object_store_bytes + (256 << 20),
        )
        self._bridge.connect(node, self._machines[node].pid)

    def start_ray(self, node: int, env: Mapping[str, str] | None = None) -> None:
        """Starts a node's Ray, and waits until its processes run. The others may not know of it yet.

        Args:
            env: variables of its processes, beside those of all nodes.
        """
        command = ["ray", "start", "--disable-usage-stats", f"--num-cpus={self._cpus[node]}", "--num-gpus=0"]
        command += [f"--object-store-memory={self._object_store_bytes}"]
        if node == 0:
            command += ["--head", f"--port={_GCS_PORT}", f"--include-dashboard={str(self._dashboard).lower()}"]
        else:
            command += [f"--address={self.ray_address}"]
        self.run(node, command, env)
        if node == 0:
            self._watch = self.popen(0, ["python", "-c", _WATCH, self.ray_address])

    def kill_node(self, node: int) -> None:
        """SIGKILL for all processes of a node at once; its network goes too, as with a machine that loses power."""
        self._machines.pop(node).kill()
        self._bridge.disconnect(node)

    def unplug(self, node: int) -> None:
        """Pulls a node's cable: what it sends, and what is sent to it, is lost."""
        self._bridge.set_link(node, up=False)

    def plug(self, node: int) -> None:
        """Puts a node's cable back."""
        self._bridge.set_link(node, up=True)

    def pause(self, node: int) -> None:
        """SIGSTOP for all processes of a node."""
        self._machines[node].pause()

    def resume(self, node: int) -> None:
        """SIGCONT for all processes of a node."""
        self._machines[node].resume()

    # What is in a node.

    def processes(self, node: int) -> list[psutil.Process]:
        """All processes of a node, without those that have ended."""
        return self._machines[node].processes()

    def popen(self, node: int, command: Sequence[str], env: Mapping[str, str] | None = None) -> Command:
        """Starts a command in a node. `python` and `ray` are those of the tests; the working folder is the checkout."""
        return self._machines[node].popen(command, {**self._environment, **(env or {})})

    def run(
        self, node: int, command: Sequence[str], env: Mapping[str, str] | None = None, *, check: bool = True
    ) -> str:
        """Runs a command in a node and returns what it printed. AssertionError where it fails and `check` is true."""
        return self._machines[node].run(command, {**self._environment, **(env or {})}, check=check)

    def alive(self) -> set[int]:
        """The nodes that Ray's head takes for alive. Of two Rays of a node, one dead, the living one counts."""
        assert self._watch is not None
        lines = self._watch.said.splitlines()
        addresses = json.loads(lines[-1]) if lines else []
        return {node for node in range(len(self)) if self.address(node) in addresses}

    def wait_alive(self, nodes: Collection[int]) -> float:
        """Waits until exactly these nodes are alive for Ray's head, and returns the seconds."""
        assert self._watch is not None
        begun = time.monotonic()
        wait_until(lambda: self.alive() == set(nodes), self._watch.process, pause=0.05)
        return time.monotonic() - begun
