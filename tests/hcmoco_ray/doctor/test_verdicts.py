"""What a measured value is taken for: closed cases, a row of the table each."""

import pytest

from hcmoco_ray.doctor import checks, gpu_verdicts, verdicts
from hcmoco_ray.doctor.verdicts import NodeFacts

GIB = 1 << 30
HEAD = NodeFacts("10.0.0.5", "head", is_head=True, num_gpus=0, object_store_bytes=2 * GIB)
WORKER = NodeFacts("10.0.0.6", "worker-1", is_head=False, num_gpus=0, object_store_bytes=2 * GIB)


def machine(**changed) -> dict:
    """A machine without a fault, with what a test changes."""
    return {
        "name": "worker-1",
        "resolves": ["10.0.0.6"],
        "memory_used": 10 * GIB,
        "memory_total": 64 * GIB,
        "disk_ray": (50 * GIB, 100 * GIB),
        "disk_home": (50 * GIB, 100 * GIB),
        "shm_total": 4 * GIB,
        "plasma_folder": "/dev/shm",
        "open_files": (65536, 65536),
        "settings": {},
        "announced_s": None,
        **changed,
    }


def test_a_name_that_resolves_to_loopback_is_a_fault_among_several_nodes():
    settings = {"GLOO_SOCKET_IFNAME": "eth0"}
    found = verdicts.name(machine(resolves=["127.0.1.1", "10.0.0.6"], settings=settings), WORKER, 2)
    assert found.is_fault
    assert found.text == "127.0.1.1"
    assert "gloo takes eth0" in found.line
    assert "`10.0.0.6 worker-1` into /etc/hosts" in found.line
    assert verdicts.name(machine(resolves=["::1"]), WORKER, 2).is_fault
    assert "not affected" not in verdicts.name(machine(resolves=["::1"]), WORKER, 2).line
    assert verdicts.name(machine(resolves=[]), WORKER, 2).is_fault
    assert not verdicts.name(machine(resolves=["fe80::1%eth0"]), WORKER, 2).line
    assert not verdicts.name(machine(), WORKER, 2).line
    assert not verdicts.name(machine(resolves=["127.0.1.1"]), WORKER, 1).line
    assert not verdicts.name(machine(resolves=[]), WORKER, 1).line


LIMIT = "RAY_local_fs_capacity_threshold"


@pytest.mark.parametrize(
    ("judge", "values", "faulty"),
    [
        (verdicts.memory, {"memory_used": 60 * GIB}, False),
        (verdicts.memory, {"memory_used": 61 * GIB}, True),  # 95.3 %
        (verdicts.memory, {"memory_used": 61 * GIB, "settings": {"RAY_memory_usage_threshold": "0.98"}}, False),
        (verdicts.ray_disk, {"disk_ray": (5 * GIB, 100 * GIB)}, False),
        (verdicts.ray_disk, {"disk_ray": (4 * GIB, 100 * GIB)}, True),
        (verdicts.ray_disk, {"disk_ray": (4 * GIB, 100 * GIB), "settings": {LIMIT: "0.99"}}, False),
        (verdicts.home_disk, {"disk_home": (2 * GIB, 1000 * GIB)}, False),
        (verdicts.home_disk, {"disk_home": (GIB - 1, 1000 * GIB)}, True),
        (verdicts.home_disk, {"disk_home": None}, False),
        (verdicts.open_files, {"open_files": (1024, 1048576)}, True),
        (verdicts.open_files, {"open_files": (4096, 4096)}, False),
        (verdicts.open_files, {"open_files": (-1, -1)}, False),
        (verdicts.open_files, {"open_files": None}, False),
    ],
)
def test_limits_of_a_machine(judge, values, faulty):
    assert judge(machine(**values)).is_fault == faulty


def test_a_low_hard_limit_of_open_files_is_named():
    assert "hard limit is 1024" in verdicts.open_files(machine(open_files=(1024, 1024))).line
    assert "hard" not in verdicts.open_files(machine(open_files=(1024, 1048576))).line


def test_shared_memory_beside_the_object_store():
    small = verdicts.shared_memory(machine(shm_total=64 << 20), WORKER)
    assert small.is_fault
    assert small.text == "64 MiB, store 2.0 GiB"
    assert "remount,size=2458M /dev/shm" in small.line
    assert verdicts.shared_memory(machine(plasma_folder="/tmp/ray"), WORKER).is_fault
    assert not verdicts.shared_memory(machine(), WORKER).line
    assert not verdicts.shared_memory(machine(shm_total=None), WORKER).line


def test_a_late_notice_of_a_loss_is_advice_for_the_head_of_several_nodes():
    found = verdicts.node_loss(machine(), HEAD, 3, {})
    assert (found.text, found.level, found.is_fault) == ("65 s", "advice", False)
    quick = {"period_ms": "1000", "timeout_ms": "2000", "failure_threshold": "3"}
    settings = {f"RAY_health_check_{name}": value for name, value in quick.items()}
    assert verdicts.node_loss(machine(settings=settings), HEAD, 3, {}) == verdicts.Verdict("9 s")
    assert verdicts.node_loss(machine(), HEAD, 3, {"health_check_timeout_ms": 1000}).text == "20 s"
    assert not verdicts.node_loss(machine(), HEAD, 1, {}).line
    assert verdicts.node_loss(machine(), WORKER, 3, {}).text == "-"


def test_how_long_a_job_may_take_to_end():
    assert verdicts.stop_wait(machine(), HEAD, 2).level == "advice"
    assert "RAY_JOB_STOP_WAIT_TIME_S=15" in verdicts.stop_wait(machine(), HEAD, 2).line
    settings = {"RAY_JOB_STOP_WAIT_TIME_S": "15"}
    assert verdicts.stop_wait(machine(settings=settings), HEAD, 2) == verdicts.Verdict("15 s")
    assert verdicts.stop_wait(machine(), WORKER, 2).text == "-"


def test_idle_processes():
    assert "threshold_ms=20000" in verdicts.idle_processes(machine(), 2).line
    settings = {"RAY_idle_worker_killing_time_threshold_ms": "20000"}
    assert verdicts.idle_processes(machine(settings=settings), 2) == verdicts.Verdict("20 s")


RAY_START = ["/venv/bin/python", "/venv/bin/ray", "start", "--block", "--address=10.0.0.5:6379"]


@pytest.mark.parametrize(
    ("command", "grace"),
    [
        (["python", "-m", "hcmoco_ray", "node", "--grace", "120", "--", *RAY_START], "120"),
        (["python", "-m", "hcmoco_ray", "node", "--spot", "aws", "--grace=45", "--", *RAY_START], "45"),
        (["/venv/bin/python", "/venv/bin/hcmoco", "node", "--", *RAY_START], "30"),
        (["/opt/hcmoco/bin/python", "/opt/hcmoco/bin/ray", "start", "--labels", "node"], None),
        (RAY_START, None),
        (["node", "server.js", "hcmoco"], None),
        (["sh", "-c", "true"], None),
    ],
)
def test_the_service_is_found_among_the_processes_above(command, grace):
    assert checks.announced_grace([["raylet", "--x=node"], command]) == grace


def test_an_end_that_is_not_announced_is_advice_for_several_nodes():
    assert verdicts.notice(machine(), 2).level == "advice"
    assert not verdicts.notice(machine(), 1).line
    assert verdicts.notice(machine(announced_s="120"), 2) == verdicts.Verdict("120 s")


def test_versions():
    assert verdicts.usual(["1", "2", "2"], "1") == "2"
    assert verdicts.usual(["1", "2"], "2") == "2"
    assert verdicts.usual(["1", "2"], None) == "1"
    assert verdicts.version("2", "2", "PyTorch", "install it") == verdicts.Verdict("2")
    found = verdicts.version("2.14.0", "2.15.0", "PyTorch", "install it")
    assert found.line == "it has PyTorch 2.14.0, and the others have 2.15.0; install it"


H100 = {"name": "NVIDIA H100", "capability": "9.0", "error": None}


def gpus(driver: str | None = "580.65.06", devices=(H100,), problem: str | None = None) -> dict:
    return {"driver": driver, "devices": list(devices), "problem": problem}


@pytest.mark.parametrize(
    ("own", "cuda", "faulty"),
    [
        ("580.65.06", "13.2", False),
        ("580.64", "13.2", True),
        ("575.57.08", "13.0", True),
        ("525.60.13", "12.8", False),
        ("470.82.01", "12.6", True),
        ("590.44.01", "12.6", False),
        ("470.82.01", "11.8", False),
        ("470.82.01", None, False),  # said by the GPUs' own row
    ],
)
def test_the_driver_beside_the_build(own, cuda, faulty):
    found = gpu_verdicts.driver(gpus(own), cuda, "2.15.0")
    assert found.is_fault == faulty
    assert own in found.text


def test_a_node_without_a_driver():
    assert gpu_verdicts.driver(gpus(None, ()), "13.2", "2.15.0").text == "-"
    assert gpu_verdicts.driver(gpus(None, (), "Found no NVIDIA driver"), "13.2", "2.15.0").is_fault
    assert gpu_verdicts.devices(gpus(None, ()), 0).text == "-"


def test_gpus():
    assert gpu_verdicts.devices(gpus(devices=[H100, H100]), 2) == verdicts.Verdict("2 x H100")
    assert gpu_verdicts.devices(gpus(devices=[H100]), 0) == verdicts.Verdict("1 x H100")
    assert "--num-gpus=1" in gpu_verdicts.devices(gpus(devices=[H100]), 2).line
    assert "without CUDA" in gpu_verdicts.devices(gpus(devices=[], problem="a build without CUDA"), 1).line
    wrong = {**H100, "error": "3 of 65536 elements of a matrix product are wrong"}
    found = gpu_verdicts.devices(gpus(devices=[H100, wrong]), 2)
    assert (found.is_fault, found.text) == (True, "1 of 2 fail")
    assert "GPU 1, NVIDIA H100 of compute capability 9.0, fails: 3 of 65536" in found.line


@pytest.mark.parametrize(
    ("offset", "uncertainty", "faulty", "said"),
    [
        (0.0004, 0.0002, False, "+0.4 ms +- 0.2 ms"),
        (-0.00001, 0.0002, False, "+0.0 ms +- 0.2 ms"),
        (1.05, 0.1, False, "+1.1 s +- 100.0 ms"),  # it may be less than a second
        (1.2, 0.1, True, "1.2 s ahead of the head's"),
        (-3600.0, 2.0, True, "3600.0 s behind the head's"),
    ],
)
def test_clocks(offset, uncertainty, faulty, said):
    found = verdicts.clock({"offset_s": offset, "uncertainty_s": uncertainty})
    assert found.is_fault == faulty
    assert said in (found.line or found.text)


def test_storage():
    speeds = {"write_mb_s": 123.4, "read_mb_s": 2.34}
    assert verdicts.storage({**speeds, "sees_token": None}, "s3://b") == verdicts.Verdict("w 123 r 2.3 MB/s")
    assert verdicts.storage({**speeds, "sees_token": True}, "/data").text == "w 123 r 2.3 MB/s"
    assert verdicts.storage({**speeds, "sees_token": False}, "/data").is_fault
