"""gloo's interface, and the line of workers that do not meet."""

import os

import psutil
import pytest

from hcmoco_ray.cluster import network, session

GLOO = (
    "Gloo connectFullMesh failed with [../third_party/gloo/gloo/transport/tcp/pair.cc:152] connect "
    "[127.0.0.1]:21530 failed: remote=[127.0.0.1]:21530, errno: 111, Connection refused"
)


def test_every_address_of_this_machine_has_its_interface():
    for name, addresses in psutil.net_if_addrs().items():
        for each in addresses:
            if each.family.name == "AF_INET":
                assert network.interface_of(each.address) == name
    assert network.interface_of("203.0.113.7") is None


def test_workers_have_the_interface_of_their_node_s_address(ray_session):
    import ray

    def ask():
        return os.environ.get("GLOO_SOCKET_IFNAME"), ray.util.get_node_ip_address()

    name, address = ray.get(ray.remote(ask).options(num_cpus=0).remote())
    assert name == network.interface_of(address)


def test_a_chosen_interface_stays(ray_session, monkeypatch):
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "mine")
    network.choose_interface()
    assert os.environ["GLOO_SOCKET_IFNAME"] == "mine"
    assert session.connect() == ray_session


@pytest.mark.parametrize("reason", ["division by zero", "Connection closed by peer [10.0.0.3]:41"])
def test_other_failures_are_not_failed_meetings(reason):
    assert network.failed_meeting(reason, ["10.0.0.1"]) is None


def test_a_failed_meeting_names_the_nodes_and_what_to_set():
    line = network.failed_meeting(GLOO, ["10.0.0.3", "10.0.0.2", "10.0.0.3"])
    assert line.startswith(
        "the workers on 10.0.0.2 and 10.0.0.3 could not connect to each other (one of them tried 127."
    )
    assert line.endswith("GLOO_SOCKET_IFNAME=eth0 in the environment of `ray start` on each node")
    nccl = network.failed_meeting("NCCL error: ncclInternalError", ["10.0.0.3", "10.0.0.2"])
    assert "NCCL_SOCKET_IFNAME==eth0" in nccl
