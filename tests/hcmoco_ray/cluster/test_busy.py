"""The share of the CPUs that a program holds."""

import time

import pytest

from hcmoco_ray.cluster.busy import BusyShare


def test_it_weighs_by_time_and_follows_the_nodes():
    busy = BusyShare()
    assert busy.text == ""
    busy.add(10.0, 4, 4)
    busy.add(20.0, 4, 4)  # 40 of 40
    busy.add(25.0, 2, 8)  # 10 of 40: a node came
    assert (busy.held, busy.offered) == (50, 80)
    assert busy.text == "busy: 62 % of the CPUs that the nodes offered"


def test_what_ray_says(ray_session):
    import ray

    @ray.remote(num_cpus=2)
    def hold() -> None:
        time.sleep(3)

    task, busy = hold.remote(), BusyShare()
    deadline = time.monotonic() + 120
    while ray.available_resources().get("CPU", 0) != 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    busy.sample()
    time.sleep(0.3)
    busy.sample()
    ray.get(task)
    assert busy.held / busy.offered == pytest.approx(0.5)
