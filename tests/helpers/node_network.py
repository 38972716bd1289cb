"""A bridge on this machine, and a cable (a veth pair) from it into each node's network namespace."""

import fcntl
import ipaddress
import itertools
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

RANGES = ipaddress.ip_network("10.98.0.0/16")
INSIDE = "eth0"
_LOCK = Path("/var/tmp/hcmoco-nodes.lock")
_numbers = itertools.count()

# Waits for the end of its stdin, which comes with the end of the test process, however that ends. The nodes end then
# too, and may still write for a moment.
_KEEPER = """
import os, shutil, subprocess, sys, time
sys.stdin.read()
subprocess.run(["ip", "link", "delete", sys.argv[1]], capture_output=True)
for _ in range(100):
    shutil.rmtree(sys.argv[2], ignore_errors=True)
    if not os.path.exists(sys.argv[2]):
        break
    time.sleep(0.1)
"""


def ip(*arguments: str) -> str:
    """Runs `ip` and returns what it printed. AssertionError with its message where it fails."""
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True)
    assert done.returncode == 0, f"ip {' '.join(arguments)}: {done.stderr.strip()}"
    return done.stdout


def interface_name() -> str:
    """A name that no other test process gives; Linux allows 15 characters."""
    return f"hc{os.getpid():x}-{next(_numbers)}"


class Bridge:
    """A network of its own range. Node i has the address .(i + 2), this machine has .1.

    Args:
        folder: a folder of the nodes' files, which is removed with the bridge.
    """

    def __init__(self, folder: Path) -> None:
        self.name = interface_name()
        self._cables: dict[int, str] = {}
        self._keeper = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", _KEEPER, self.name, str(folder)],
            stdin=subprocess.PIPE,
            start_new_session=True,
        )
        with _one_at_a_time():
            self.network = _free_range()
            third = self.network.network_address.packed[2]
            # A fixed address: a bridge otherwise takes that of its cables, and neighbors would ask the wrong one.
            self._mac = f"02:98:{third:02x}:00:00:"
            ip("link", "add", self.name, "address", f"{self._mac}01", "type", "bridge")
            ip("address", "add", f"{self.host_address}/24", "dev", self.name)
            ip("link", "set", self.name, "up")

    @property
    def host_address(self) -> str:
        return str(self.network[1])

    def address(self, node: int) -> str:
        return str(self.network[node + 2])

    def connect(self, node: int, pid: int) -> None:
        """Gives the network namespace of process `pid` a cable to the bridge, with the node's address and a default
        route, as a real machine has one: programs find their own address by it."""
        self.disconnect(node)
        outside = interface_name()
        mac = f"{self._mac}{node + 2:02x}"
        ip("link", "add", outside, "type", "veth", "peer", "name", INSIDE, "address", mac, "netns", str(pid))
        self._cables[node] = outside
        ip("link", "set", outside, "master", self.name, "up")
        inside = ["nsenter", "--target", str(pid), "--net", "ip"]
        for arguments in (
            ["address", "add", f"{self.address(node)}/24", "dev", INSIDE],
            ["link", "set", INSIDE, "up"],
            ["route", "add", "default", "via", self.host_address],
        ):
            subprocess.run([*inside, *arguments], check=True)

    def disconnect(self, node: int) -> None:
        """Takes a node's cable away for good; the kernel may have done so with the node."""
        if outside := self._cables.pop(node, None):
            subprocess.run(["ip", "link", "delete", outside], capture_output=True)

    def set_link(self, node: int, *, up: bool) -> None:
        """Pulls a node's cable, or puts it back. What is sent meanwhile is lost."""
        ip("link", "set", self._cables[node], "up" if up else "down")

    def close(self) -> None:
        for node in list(self._cables):
            self.disconnect(node)
        self._keeper.communicate()


def _free_range() -> ipaddress.IPv4Network:
    """The first range of 256 addresses that no route of this machine reaches, the default route aside."""
    taken = [
        ipaddress.ip_network(route["dst"])
        for route in json.loads(ip("-json", "-4", "route", "show", "table", "all"))
        if route["dst"] != "default"
    ]
    return next(each for each in RANGES.subnets(new_prefix=24) if not any(each.overlaps(network) for network in taken))


@contextmanager
def _one_at_a_time() -> Iterator[None]:
    with _LOCK.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
