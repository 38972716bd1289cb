"""From answers to what is shown."""

import json

from hcmoco_ray.doctor.judge import Examined, judge
from hcmoco_ray.doctor.table import as_json, render
from hcmoco_ray.doctor.verdicts import NodeFacts
from tests.hcmoco_ray.doctor.test_verdicts import machine

VERSIONS = {"python": "3.11.7", "ray": "2.60.0", "torch": "2.15.0", "cuda": "13.2", "hcmoco": "0.2.0", "code": "abc"}


def answers(**changed) -> dict:
    return {
        "machine": {"value": machine()},
        "versions": {"value": VERSIONS},
        "clock": {"value": {"offset_s": 0.0, "uncertainty_s": 0.001}},
        "gpus": {"value": {"driver": None, "devices": [], "problem": None}},
        "storage": {"value": {"write_mb_s": 100.0, "read_mb_s": 200.0, "sees_token": True}},
        **changed,
    }


def report(*of_nodes: dict):
    examined = [
        Examined(NodeFacts(f"10.0.0.{5 + number}", f"worker-{number}", number == 0, 0, 1e9), each)
        for number, each in enumerate(of_nodes)
    ]
    return judge(examined, storage="/data", system_config={})


def test_a_fault_is_in_its_node_s_column_and_in_a_line():
    old = {"value": {**VERSIONS, "torch": "2.14.0"}}
    shown = render(report(answers(), answers(versions=old), answers()))
    (row,) = [line for line in shown.splitlines() if line.startswith("PyTorch")]
    assert row.split() == ["PyTorch", "2.15.0", "FAULT", "2.14.0", "2.15.0"]
    faults = [line for line in shown.splitlines() if line.startswith("fault: ")]
    assert len(faults) == 1
    assert faults[0].startswith("fault: node 10.0.0.6 (worker-1): it has PyTorch 2.14.0, and the others have 2.15.0; ")
    assert shown.endswith("1 fault on 3 nodes")


def test_rows_that_say_nothing_are_left_out():
    rows = report(answers(), answers()).rows
    assert "GPUs" not in rows
    assert "MLflow" not in rows
    assert "MLflow" in report(answers(), answers(mlflow={"value": {"median_ms": 4.0}})).rows
    assert "GPUs" in report(answers(gpus={"error": "x"}), answers()).rows


def test_a_check_that_failed_is_a_fault():
    of_store = report(answers(storage={"error": "storage s3://b: the bucket b does not exist; create it."}))
    ((_, line),) = of_store.lines("fault")
    assert "the bucket b does not exist; create it; " in line
    assert "storage             FAULT failed" in render(of_store)


def test_a_node_that_does_not_answer_is_one_fault():
    silent = {check: {"silent": "nothing came for 60 s"} for check in ("clock", "versions", "gpus")}
    found = report(answers(), {"machine": {"value": machine()}, **silent})
    ((where, line),) = found.lines("fault")
    assert where == "node 10.0.0.6 (worker-1)"
    assert line.startswith("it does not answer: nothing came for 60 s (asked for: versions, clock, gpus); ")


def test_a_full_disk_that_keeps_a_node_from_answering_is_said():
    agent = {"value": {"disk_ray": (0, 64 << 20), "settings": {}}}
    found = report(answers(), {"agent": agent, **{check: {"silent": "its process ended"} for check in answers()}})
    lines = [line for _, line in found.lines("fault")]
    assert len(lines) == 2
    assert lines[1].startswith("the disk of Ray's temporary files is 100% full")
    assert "FAULT 0 MiB of 64 MiB free" in render(found)


def test_advice_is_given_once_and_is_no_fault():
    found = report(*[answers()] * 5)
    assert not found.lines("fault")
    advice = {line: where for where, line in found.lines("advice")}
    (where,) = [advice[line] for line in advice if "its end is not announced" in line]
    assert where == "nodes 10.0.0.5, 10.0.0.6, 10.0.0.7 and 2 more"
    skipped = report(answers(nccl={"skipped": "no GPU was free"}), answers())
    assert ("node 10.0.0.5", "no GPU was free") in skipped.lines("advice")
    assert not skipped.lines("fault")


def test_many_nodes_are_in_blocks_of_the_width():
    shown = render(report(*[answers()] * 20), width=120)
    blocks = shown.split("\n\n")[:-1]
    assert len(blocks) > 2
    in_blocks = [line for block in blocks for line in block.splitlines()]
    assert max(map(len, in_blocks)) <= 120
    assert [name for line in in_blocks if line.startswith("node") for name in line.split()[1:] if name != "(head)"] == [
        f"worker-{number}" for number in range(20)
    ]


def test_json_holds_what_was_measured_and_what_it_means():
    old = {"value": {**VERSIONS, "torch": "2.14.0"}}
    found = json.loads(json.dumps(as_json(report(answers(), answers(versions=old), answers()))))
    assert [each["answers"]["versions"]["value"]["torch"] for each in found["nodes"]] == ["2.15.0", "2.14.0", "2.15.0"]
    assert found["nodes"][1]["rows"]["PyTorch"]["fault"] == found["fault"][0]["line"]
    assert "fault" not in found["nodes"][0]["rows"]["PyTorch"]
