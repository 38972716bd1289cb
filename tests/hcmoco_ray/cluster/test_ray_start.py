"""Each test fails where a new release of Ray has changed what hcmoco_ray/cluster/ray_start.py builds on."""

import shutil
import subprocess
import time

import psutil
import pytest

from hcmoco_ray.cluster import ray_start


@pytest.mark.parametrize("left", [False, True])
def test_a_node_that_comes_up_late_is_waited_for_while_its_process_lives(tmp_path, monkeypatch, left):
    """`ray.init` asks for its node until it gives up; a process of the raylet's name stands for a slow one."""
    from ray._private import services

    asked, said = [], []

    def ask(*arguments):
        asked.append(arguments)
        if len(asked) < 4:
            raise RuntimeError("not known yet")
        return "the node"

    monkeypatch.setattr(services, "get_node", ask)
    monkeypatch.setattr(ray_start, "RAYS_WAIT_S", 0.2)
    raylet = tmp_path / "raylet"
    raylet.symlink_to(shutil.which("sleep"))
    with ray_start.patient_start(60, lambda: said.append("waiting")):
        assert services.get_node is not ask
        process = subprocess.Popen([raylet, "60"])
        try:
            if left:
                process.kill()
                while psutil.Process(process.pid).status() != psutil.STATUS_ZOMBIE:
                    time.sleep(0.01)
                with pytest.raises(RuntimeError, match="not known yet"):
                    services.get_node("address", "id")
            else:
                assert services.get_node("address", "id") == "the node"
        finally:
            process.kill()
            process.wait()
    assert services.get_node is ask
    assert said == ([] if left else ["waiting"])


def test_ray_asks_for_its_node_where_patient_start_waits():
    """Ray's own limit is a constant of `Node`, which asks this function of this module until then."""
    import inspect

    from ray._private import node

    source = inspect.getsource(node.Node.__init__)
    assert f"raylet_start_wait_time_s = {ray_start.RAYS_WAIT_S}" in source
    assert "ray._private.services.get_node(" in source
    assert "except RuntimeError" in source
