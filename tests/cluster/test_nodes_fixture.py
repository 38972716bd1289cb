"""The nodes are what they are taken for: machines of their own, whose loss Ray notices."""

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tests.helpers.nodes import Nodes
from tests.helpers.waiting import wait_until

pytestmark = pytest.mark.cluster

RAY_NODES = """
import json, ray
ray.init("auto", log_to_driver=False)
print(json.dumps([
    [node["NodeManagerAddress"], node["NodeManagerHostname"], node["Resources"].get("CPU", 0)]
    for node in ray.nodes() if node["Alive"]
]))
"""

ALL_REDUCE = """
import datetime, torch, torch.distributed as dist
dist.init_process_group("gloo", timeout=datetime.timedelta(seconds=20))
total = torch.ones(1) + dist.get_rank()
dist.all_reduce(total)
print("sum", total.item())
dist.destroy_process_group()
"""


def test_nodes_are_machines_of_their_own(nodes: Nodes):
    for node in range(len(nodes)):
        nodes.run(node, ["sh", "-c", "hostname > /tmp/mine; hostname > /dev/shm/mine"])
    (nodes.shared / "all").write_text("seen\n")
    for node in range(len(nodes)):
        name = nodes.hostname(node)
        assert nodes.run(node, ["cat", "/tmp/mine", "/dev/shm/mine", "/proc/sys/kernel/hostname"]).split() == [name] * 3
        assert nodes.run(node, ["getent", "hosts", name]).split() == ["127.0.1.1", name]
        assert nodes.run(node, ["cat", str(nodes.shared / "all")]) == "seen\n"
        assert f"inet {nodes.address(node)}/24" in nodes.run(node, ["ip", "address"])
        seen = nodes.run(node, ["sh", "-c", "cat /proc/[0-9]*/comm"], check=False).split()  # `cat` itself has gone
        assert (seen.count("raylet"), seen.count("gcs_server")) == (1, node == 0)
    assert not Path("/dev/shm/mine").exists()


def test_a_node_reaches_a_server_of_the_test_process(nodes: Nodes):
    with socket.create_server((nodes.host_address, 0)) as server:
        connect = "import socket, sys; socket.create_connection((sys.argv[1], int(sys.argv[2]))).sendall(b'hello')"
        said = nodes.popen(1, ["python", "-c", connect, nodes.host_address, str(server.getsockname()[1])])
        connection, (address, _) = server.accept()
        with connection:
            assert (connection.recv(16), address) == (b"hello", nodes.address(1))
        assert said.wait() == 0


def test_ray_has_all_nodes_with_their_cpus(nodes: Nodes):
    found = json.loads(nodes.run(0, ["python", "-c", RAY_NODES]).splitlines()[-1])
    cpus = {0: 0, 1: 2, 2: 2, 3: 2}
    assert sorted(found) == [[nodes.address(node), nodes.hostname(node), cpus[node]] for node in cpus]


def test_ray_asks_for_the_token(nodes: Nodes):
    ask = ["python", "-c", f"from ray._raylet import GcsClient; GcsClient('{nodes.ray_address}').get_all_node_info()"]
    nodes.run(1, ask)
    assert "Unauthenticated" in nodes.run(1, ask, {"RAY_AUTH_TOKEN": "wrong" * 8}, check=False)


def test_a_killed_node_is_lost_and_another_start_joins(nodes: Nodes):
    pids = [each.pid for each in nodes.processes(3)]
    nodes.run(3, ["touch", "/tmp/before"])
    nodes.kill_node(3)
    assert not [pid for pid in pids if psutil.pid_exists(pid)]
    nodes.wait_alive([0, 1, 2])
    nodes.start(3)
    nodes.wait_alive(range(4))
    assert "before" not in nodes.run(3, ["ls", "/tmp"])


def test_a_pulled_cable_is_noticed_and_another_start_joins(nodes: Nodes):
    nodes.unplug(2)
    nodes.wait_alive([0, 1, 3])
    assert len(nodes.processes(2)) > 1
    nodes.kill_node(2)
    nodes.start(2)
    nodes.wait_alive(range(4))


def test_a_cable_back_in_time_costs_nothing(nodes: Nodes):
    raylet = [each for each in nodes.processes(1) if each.name() == "raylet"]
    knock = ["python", "-c", f"import socket; socket.create_connection(('{nodes.address(1)}', 22), timeout=1)"]
    assert "refused" in nodes.run(0, knock, check=False)  # nothing listens there
    nodes.unplug(1)
    assert "refused" not in nodes.run(0, knock, check=False)
    nodes.plug(1)
    assert "refused" in nodes.run(0, knock, check=False)
    assert nodes.alive() == {0, 1, 2, 3}
    assert [each.is_running() for each in raylet] == [True]


def test_a_stopped_node_is_noticed(nodes: Nodes):
    waiting = nodes.popen(1, ["sleep", "1000"])
    nodes.pause(1)
    assert {each.status() for each in nodes.processes(1)} == {psutil.STATUS_STOPPED}
    nodes.wait_alive([0, 2, 3])
    nodes.resume(1)
    waiting.send_signal(signal.SIGTERM)
    assert waiting.wait() == -signal.SIGTERM


@pytest.mark.parametrize("interface", [None, "eth0"])
def test_gloo_meets_only_at_the_address_of_the_cable(nodes: Nodes, interface: str | None):
    """As on Debian: by default gloo takes the address that the machine's name resolves to, which is loopback."""
    env = {"MASTER_ADDR": nodes.address(1), "MASTER_PORT": "29500", "WORLD_SIZE": "2"}
    if interface:
        env["GLOO_SOCKET_IFNAME"] = interface
    ranks = [nodes.popen(rank + 1, ["python", "-c", ALL_REDUCE], env | {"RANK": str(rank)}) for rank in range(2)]
    if interface:
        assert [each.wait() for each in ranks] == [0, 0]
        assert all("sum 3.0" in each.said for each in ranks)
    else:
        wait_until(
            lambda: any(each.process.poll() for each in ranks)
        )  # the other rank waits for it until its time is up
        assert any("remote=[127.0.1.1]" in each.said for each in ranks)
    for each in ranks:
        each.close()


def test_a_killed_test_run_leaves_nothing_and_two_do_not_collide(nodes: Nodes):
    program = (
        "import sys; from tests.helpers.nodes import Nodes\n"
        "with Nodes((1,)) as nodes:\n"
        "    print(nodes._bridge.name, nodes.host_address, nodes.folder, *(p.pid for p in nodes.processes(0)))\n"
        "    sys.stdout.flush(); sys.stdin.read()\n"
    )
    other = subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    with other:
        bridge, address, folder, *pids = other.stdout.readline().split()
        assert address != nodes.host_address
        assert bridge in os.listdir("/sys/class/net")
        other.kill()
    wait_until(lambda: not [pid for pid in pids if psutil.pid_exists(int(pid))])
    wait_until(lambda: bridge not in os.listdir("/sys/class/net"))
    wait_until(lambda: not Path(folder).exists())
    assert nodes.alive() == {0, 1, 2, 3}
