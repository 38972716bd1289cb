"""A sweep whose trials have two workers on three nodes: a node is lost, and the program is interrupted."""

import json
import signal

import pytest

from tests.helpers import sweep_program
from tests.helpers.waiting import wait_until

pytestmark = [pytest.mark.cluster, pytest.mark.long]

SWEEP = {
    "num_trials": 5,
    "space": {"objective.lambda_d": {"loguniform": [0.1, 10]}},
    "fixed": {
        "probe": {"every": 8},
        "stages": {"stage1_steps": 10, "stage2_steps": 30},
        "train": {"lanes": 2, "batch_size_per_lane": 2, "workers": 2, "placement": "spread"},
    },
}
# What the cluster holds: the states of its placement groups, and the CPUs that are not free.
HELD = """
import json, ray
from ray.util import placement_group_table
ray.init(address="auto", logging_level="ERROR", log_to_driver=False)
states = sorted({group["state"] for group in placement_group_table().values()} - {"REMOVED"})
print("held " + json.dumps([states, ray.cluster_resources()["CPU"] - ray.available_resources().get("CPU", 0)]))
"""


def records(home) -> dict[str, dict]:
    trials = {path.name: json.loads(path.read_text()) for path in (home / "runs/sweep/trials").glob("*.json")}
    return {name: {key: each[key] for key in ("values", "score", "metrics", "status")} for name, each in trials.items()}


def test_a_node_and_the_program_are_lost_and_nothing_stays_held(nodes, capsys):
    def nothing_is_held() -> bool:
        return "held [[], 0.0]" in nodes.run(0, ["python", "-c", HELD])

    command = ["python", "tuning/sweep.py", "--sweep", str(sweep_program.write(nodes.shared, SWEEP))]
    alone, together = nodes.shared / "alone-workers", nodes.shared / "together-workers"
    nodes.run(1, command, env={"HCMOCO_HOME": str(alone)})  # a Ray of its own, one trial at a time
    environment = {"RAY_ADDRESS": nodes.ray_address, "HCMOCO_HOME": str(together)}
    first = nodes.popen(0, command, env=environment)
    first.until(r"3 at a time with 2 workers each")
    wait_until(lambda: list(together.glob("runs/sweep/work/*/states-0/*/COMPLETE")), first.process)
    nodes.kill_node(2)
    first.until(r"^2/5  trial")
    first.send_signal(signal.SIGINT)
    assert first.wait() == 130, first.said
    wait_until(nothing_is_held, pause=1)
    nodes.start(2)
    second = nodes.popen(0, command, env=environment)
    status = second.wait()
    with capsys.disabled():
        print(f"\n{first.said}\n{second.said}")
    assert status == 0, second.said
    assert "Traceback" not in second.said
    assert records(together) == records(alone)
    wait_until(nothing_is_held, pause=1)
