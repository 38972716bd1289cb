"""The doctor on the tests' own Ray, and what it refuses."""

import json
import socket

import pytest
from pyarrow import fs

from hcmoco_ray.commands.doctor import main
from hcmoco_ray.doctor import all_reduce, gpus, run


def test_a_node_without_faults(ray_session, s3, tmp_path, capsys, monkeypatch):
    """Storage on S3, and a tracking server at which nobody listens, which is the only fault."""
    monkeypatch.setenv("HCMOCO_HOME", str(tmp_path))
    with socket.create_server(("127.0.0.1", 0)) as server:
        nobody = f"http://127.0.0.1:{server.getsockname()[1]}"
    found = tmp_path / "found.json"
    common = ["--timeout", "900", "--json", str(found)]
    assert main([*common, "--storage", s3.uri("bucket/doctor"), "--tracking-uri", nobody]) == 1
    said = capsys.readouterr().out
    assert said.rstrip().endswith("1 fault on 1 node"), said
    (line,) = [line for line in said.splitlines() if line.startswith("fault: ")]
    assert "MLflow does not answer it" in line
    (node,) = json.loads(found.read_text())["nodes"]
    values = {check: answer.get("value") for check, answer in node["answers"].items()}
    assert values["mlflow"] is None
    assert values["storage"]["write_mb_s"] > 0
    assert values["storage"]["read_mb_s"] > 0
    assert abs(values["clock"]["offset_s"]) <= values["clock"]["uncertainty_s"]  # the same clock
    store, _ = fs.FileSystem.from_uri(s3.uri("bucket"))
    assert not store.get_file_info(fs.FileSelector("bucket/doctor", recursive=True, allow_not_found=True))


def test_an_all_reduce_of_two_processes(ray_session):
    """Both on this node; on several it is tested in tests/cluster."""
    import ray

    from hcmoco_ray.doctor.verdicts import NodeFacts

    (node,) = ray.nodes()
    facts = NodeFacts(node["NodeManagerAddress"], "here", is_head=True, num_gpus=0, object_store_bytes=0)
    probes = [run._Probe(facts, node["NodeID"]) for _ in range(2)]
    try:
        run._reduce_all(probes, 900)
    finally:
        for each in probes:
            each.close()
    assert all(each.answers["gloo"]["value"]["gb_per_s"] > 0 for each in probes), [each.answers for each in probes]
    assert all(set(each.answers) == {"gloo"} for each in probes)


def test_a_rank_that_does_not_find_the_first_says_so(ray_session):
    import ray

    from hcmoco_ray.doctor.verdicts import NodeFacts

    (node,) = ray.nodes()
    facts = NodeFacts(node["NodeManagerAddress"], "here", is_head=True, num_gpus=0, object_store_bytes=0)
    probe = run._Probe(facts, node["NodeID"])
    try:
        # Nobody listens at port 1.
        probe.ask("all_reduce", "gloo", node["NodeManagerAddress"], 1, 1, 2, 1024, 5.0, name="group")
        run._collect([probe], 900)
    finally:
        probe.close()
    answer = run._meeting(probe.answers["group"], ["10.0.0.5"], ["10.0.0.6"])
    assert answer["error"].startswith("its all-reduce with 10.0.0.5 fails: ")
    assert "refused; let every port between these nodes through" in answer["error"]
    silent = run._meeting({"silent": "nothing came for 10 s"}, ["10.0.0.5", "10.0.0.6"], ["10.0.0.6"])
    assert silent == {"skipped": "an all-reduce was not measured: it waited in vain for 10.0.0.6"}
    alone = run._meeting({"silent": "nothing came for 10 s"}, ["10.0.0.5", "10.0.0.6"], [])
    assert "let every port" in alone["error"]


DIED = (
    "The actor died unexpectedly before finishing this task. class_name: Probe actor_id: 91 pid: 117 ip: 10.0.0.6 "
    "The actor is dead because its "
)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            f"{DIED}worker process has died. Worker exit type: SYSTEM_ERROR Worker exit detail: Worker unexpectedly "
            "exits with a connection error code 2. End of file. Some common causes include: (1) the process was killed",
            "its process ended at once (Worker unexpectedly exits with a connection error code 2. End of file)",
        ),
        (
            f"{DIED}node has died. Node Id: 3f the actor's node was terminated: no heartbeat The actor never ran",
            "its node has died. the actor's node was terminated: no heartbeat",
        ),
        ("Failed to unpickle", "Failed to unpickle"),
    ],
)
def test_why_an_actor_was_lost(text, said):
    assert run._why_lost(text) == said


def test_bus_bandwidth():
    assert all_reduce.bus_bandwidth(8, 2, 2.0) == 4
    assert all_reduce.bus_bandwidth(8, 4, 2.0) == 6


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.15  Tue Mar  5 22:23:56 UTC 2024\n", "550.54.15"),
        (
            "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.65.06  Release Build  (dvs-builder@U22)\n"
            "GCC version:  gcc version 12.3.0 (Ubuntu 12.3.0-1ubuntu1~22.04)\n",
            "580.65.06",
        ),
        ("GCC version: 12.3.0", None),
    ],
)
def test_the_driver_s_version(text, version):
    assert gpus.parse_driver(text) == version


def test_a_gpu_that_ray_counts_and_nobody_sees():
    import torch

    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    found = gpus.gpus(1.0)
    assert found["devices"] == []
    assert found["problem"]


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--timeout", "0"], "--timeout 0: must be more than 0 s"),
        (["--storage", "nosuch://x/y"], "nosuch"),
        (["--storage", "s3://key:secret@bucket"], "holds a password or a secret key"),
        (["--tracking-uri", "http://me:secret@mlflow:5000"], "holds a password or a secret key"),
        (["--tracking-uri", "mlruns"], "give a server that nodes can reach"),
        (["--json", "/nowhere/found.json"], "there is no folder /nowhere"),
    ],
)
def test_mistakes(arguments, line, capsys):
    assert main(arguments) == 2
    said = capsys.readouterr().err
    assert line in said
    assert said.count("\n") == 1
    assert "secret@" not in said
