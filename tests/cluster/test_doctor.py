"""The doctor on a head and two workers: without a fault, with one worker that is broken in five ways, and with one that
has stopped."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers import other_torch, skewed_clock
from tests.helpers.mlflow_server import MlflowServer
from tests.helpers.namespaces import REASON, unavailable
from tests.helpers.nodes import Nodes
from tests.helpers.waiting import wait_until

pytestmark = pytest.mark.cluster

BROKEN = 2
SKEW_S = 40


_dirty: set[int] = set()


@pytest.fixture(scope="module")
def _trio() -> Iterator[Nodes]:
    if why := unavailable():
        pytest.skip(f"{REASON}: {why}")
    with Nodes((0, 1, 1)) as nodes:
        name_itself(nodes, 0)
        name_itself(nodes, 2)
        _dirty.add(1)
        yield nodes


@pytest.fixture
def trio(_trio: Nodes) -> Nodes:
    """A head and two workers whose names resolve to the addresses by which other nodes reach them. The first worker
    announces its end. What a test has broken is made anew."""
    for node in sorted(_dirty):
        remake(_trio, node)
        if node == 1:
            command = ["python", "-m", "hcmoco_ray", "node", "--grace", "45", "--", "ray", "start", "--block"]
            command += [f"--address={_trio.ray_address}", "--num-cpus=1", "--num-gpus=0"]
            _trio.popen(node, [*command, f"--object-store-memory={150 << 20}"])
        else:
            _trio.start_ray(node)
        name_itself(_trio, node)
    _trio.wait_alive(range(3))
    _dirty.clear()
    return _trio


def remake(nodes: Nodes, node: int) -> None:
    """Makes a node anew, without Ray, once the head knows that it was lost."""
    nodes.kill_node(node)
    wait_until(lambda: node not in nodes.alive(), pause=0.05)
    nodes.boot(node)


def name_itself(nodes: Nodes, node: int) -> None:
    """Lets a node's own name resolve to its address."""
    line = f"127.0.0.1 localhost\\n{nodes.address(node)} {nodes.hostname(node)}\\n"
    nodes.run(node, ["sh", "-c", f"printf '{line}' > /etc/hosts"])


def ask(nodes: Nodes, *arguments: str, timeout: float = 900, **environment: str) -> tuple[int, str, dict]:
    """Runs the doctor on the head; returns its status, what it said, and its JSON by address and row."""
    found = nodes.shared / "found.json"
    found.unlink(missing_ok=True)
    command = ["python", "-m", "hcmoco_ray", "doctor", f"--timeout={timeout:g}", f"--json={found}", *arguments]
    env = {"RAY_ADDRESS": nodes.ray_address, "HCMOCO_HOME": str(nodes.shared), **environment}
    started = nodes.popen(0, command, env)
    status, said = started.wait(), started.said
    return status, said, json.loads(found.read_text())


def faults(found: dict) -> set[tuple[str, str]]:
    return {(node["address"], row) for node in found["nodes"] for row, each in node["rows"].items() if "fault" in each}


def values(found: dict, check: str) -> list[dict]:
    return [node["answers"][check]["value"] for node in found["nodes"]]


def test_nodes_without_a_fault(trio: Nodes, tmp_path: Path, capsys):
    with MlflowServer(tmp_path, trio.host_address) as server:
        status, said, found = ask(trio, MLFLOW_TRACKING_URI=server.uri)
    with capsys.disabled():
        print(f"\n{said}")
    assert (status, faults(found)) == (0, set()), said
    assert [node["address"] for node in found["nodes"]] == [trio.address(node) for node in range(3)]
    assert [node["is_head"] for node in found["nodes"]] == [True, False, False]
    # They are one machine, with one clock.
    assert all(abs(each["offset_s"]) <= each["uncertainty_s"] for each in values(found, "clock"))
    assert all(each["sees_token"] and each["write_mb_s"] > 0 for each in values(found, "storage"))
    assert all(each["median_ms"] > 0 for each in values(found, "mlflow"))
    assert all(each["gb_per_s"] > 0 and each["interface"] == "eth0" for each in values(found, "gloo"))
    assert {each["own name"]["text"] for each in (node["rows"] for node in found["nodes"])} == {
        trio.address(node) for node in range(3)
    }
    assert [node["rows"]["end announced"]["text"] for node in found["nodes"]] == ["none", "45 s", "none"]
    assert not list(trio.shared.glob(".hcmoco*"))
    assert max(len(line) for line in said.split("\n\n")[0].splitlines()) <= 120


def break_node(nodes: Nodes) -> None:
    """Makes a worker anew: its clock is ahead, its name resolves to loopback, it has another folder in place of the
    shared one, another PyTorch, and the disk of Ray's temporary files is nearly full."""
    # Not in the shared folder, which it will not see.
    programs = other_torch.make_environment(nodes.folder / "other")
    _dirty.add(BROKEN)
    remake(nodes, BROKEN)  # its /etc/hosts is Debian's, with 127.0.1.1
    nodes.run(BROKEN, ["mkdir", "/tmp/ray"])
    nodes.run(BROKEN, ["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", "/tmp/ray"])
    path = f"{programs}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    nodes.start_ray(BROKEN, {"PATH": path, **skewed_clock.environment(nodes.folder, SKEW_S)})
    nodes.wait_alive(range(len(nodes)))
    # Over the share at which Ray refuses objects; where nothing at all is free, it starts no process either.
    nodes.run(BROKEN, ["fallocate", "-l", "62M", "/tmp/ray/much"])
    nodes.run(BROKEN, ["mount", "-t", "tmpfs", "tmpfs", str(nodes.shared)])


def test_a_worker_that_is_broken_in_five_ways(trio: Nodes, capsys):
    if why := skewed_clock.unavailable():
        pytest.skip(f"{skewed_clock.REASON}: {why}")
    break_node(trio)
    status, said, found = ask(trio)
    with capsys.disabled():
        print(f"\n{said}")
    address = trio.address(BROKEN)
    rows = {"clock", "own name", "storage", "PyTorch", "Ray's disk"}
    assert (status, faults(found)) == (1, {(address, row) for row in rows}), said
    lines = [line for line in said.splitlines() if line.startswith(f"fault: node {address} (worker-{BROKEN}): ")]
    assert len(lines) == 5
    assert "5 faults on 3 nodes" in said
    assert abs(values(found, "clock")[BROKEN]["offset_s"] - SKEW_S) <= values(found, "clock")[BROKEN]["uncertainty_s"]
    for part in (
        f"it has PyTorch {other_torch.VERSION}, and the others have ",
        "ahead of the head's; let a time service run there",
        "resolves to 127.0.1.1",
        "hcmoco's own workers are not affected: gloo takes eth0",
        f"{trio.shared} there is not the folder that this machine has",
        "the disk of Ray's temporary files is 9",
    ):
        assert any(part in line for line in lines), part
    assert all(each["gb_per_s"] > 0 for each in values(found, "gloo"))


def test_workers_that_start_nothing_do_not_keep_the_doctor(trio: Nodes, capsys):
    """On one Ray has stopped, on the other its disk is wholly full."""
    _dirty.update({1, BROKEN})
    remake(trio, BROKEN)
    trio.run(BROKEN, ["mkdir", "/tmp/ray"])
    trio.run(BROKEN, ["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", "/tmp/ray"])
    trio.start_ray(BROKEN)
    trio.wait_alive(range(3))
    trio.run(BROKEN, ["sh", "-c", "cat /dev/zero > /tmp/ray/much"], check=False)
    (raylet,) = [process for process in trio.processes(1) if process.name() == "raylet"]
    raylet.suspend()
    try:
        status, said, found = ask(trio, timeout=20)
    finally:
        raylet.resume()
    with capsys.disabled():
        print(f"\n{said}")
    assert status == 1
    full = trio.address(BROKEN)
    assert faults(found) == {(trio.address(1), "answers"), (full, "answers"), (full, "Ray's disk")}, said
    assert "the disk of Ray's temporary files is 100% full" in said
