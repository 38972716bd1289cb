"""A container's quota counts as its CPUs: a real control group where one can be made, and folders of both formats."""

import os
import subprocess
import sys
import uuid
from pathlib import Path

import pytest

from hcmoco_ray.cluster.cpus import CpuLimit, cpu_limit, cpus_here

V2 = "30 23 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate"
V1 = "32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct"
V1_OF_DOCKER = "32 31 0:29 /docker/abc /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu"
GROUP_V1 = "4:memory:/x\n3:cpuset:/\n2:cpu,cpuacct:/user/job\n0::/"


@pytest.mark.parametrize(
    ("group", "mounts", "files", "quota"),
    [
        ("0::/", V2, {"cpu.max": "150000 100000"}, 1.5),
        ("0::/", V2, {"cpu.max": "max 100000"}, None),
        ("0::/", V2, {}, None),
        ("0::/pod/one", V2, {"pod/one/cpu.max": "max 100000", "pod/cpu.max": "400000 100000"}, 4.0),
        ("0::/pod/one", V2, {"pod/one/cpu.max": "200000 100000", "pod/cpu.max": "400000 100000"}, 2.0),
        ("0::/kubepods/a/b", V2, {"cpu.max": "50000 100000"}, 0.5),  # the group's path is the host's
        (GROUP_V1, V1, {"cpu,cpuacct/user/job/cpu.cfs_quota_us": "-1"}, None),
        (GROUP_V1, V1, {"cpu,cpuacct/user/cpu.cfs_quota_us": "250000"}, 2.5),
        ("2:cpu:/docker/abc", V1_OF_DOCKER, {"cpu/cpu.cfs_quota_us": "300000"}, 3.0),
        ("2:cpuset:/", V1, {"cpu,cpuacct/cpu.cfs_quota_us": "100000"}, None),
        ("0::/", V2, {"cpu.max": "what is this"}, None),
    ],
)
def test_quotas_in_the_format_of_the_kernel(tmp_path, group, mounts, files, quota):
    (tmp_path / "proc" / "self").mkdir(parents=True)
    (tmp_path / "proc" / "self" / "cgroup").write_text(f"{group}\n")
    (tmp_path / "proc" / "self" / "mountinfo").write_text(
        f"23 1 8:1 / / rw - ext4 /dev/sda1 rw\n{mounts}\n40 23 0:35 / /a\\040b rw - tmpfs tmpfs rw,cpu\n"
    )
    cgroup = tmp_path / "sys" / "fs" / "cgroup"
    for below in ("cpu,cpuacct/user/job", "cpu", "pod/one"):
        (cgroup / below).mkdir(parents=True)
    for name, text in files.items():
        (cgroup / name).write_text(f"{text}\n")
        if name.endswith("quota_us"):
            (cgroup / name).with_name("cpu.cfs_period_us").write_text("100000\n")
    limit = cpu_limit(tmp_path)
    assert (limit and limit.cpus) == quota


@pytest.mark.parametrize(
    ("file", "text", "seconds"),
    [
        ("cpu.stat", "usage_usec 2500000\nuser_usec 2000000\nnr_periods 0", 2.5),
        ("cpuacct.usage", "2500000000", 2.5),
        ("cpuacct.usage", "what is this", None),
        ("tasks", "1", None),
    ],
)
def test_what_a_group_has_used_in_the_format_of_the_kernel(tmp_path, file, text, seconds):
    if file == "cpuacct.usage":  # which has a file of this name too, with other contents
        (tmp_path / "cpu.stat").write_text("nr_periods 5\nnr_throttled 0\n")
    (tmp_path / file).write_text(f"{text}\n")
    assert CpuLimit(1.0, tmp_path).used_seconds() == seconds


def test_no_control_groups(tmp_path):
    assert cpu_limit(tmp_path) is None
    assert 1 <= cpus_here() <= (os.cpu_count() or 1)


@pytest.fixture
def group():
    """A real control group of half a CPU; which version depends on the machine. ENTER puts a process into it."""
    path = None
    for parent, limit in (("/sys/fs/cgroup/cpu", "cpu.cfs_quota_us"), ("/sys/fs/cgroup", "cpu.max")):
        path = Path(parent, f"hcmoco-test-{uuid.uuid4().hex[:8]}")
        try:
            path.mkdir()
        except OSError:
            continue
        if (path / limit).exists():
            (path / limit).write_text("50000" if limit == "cpu.cfs_quota_us" else "50000 100000")
            counting = Path("/sys/fs/cgroup/cpuacct", path.name)  # another hierarchy, on machines that have it apart
            apart = counting.parent.is_dir() and not counting.exists()
            if apart:
                counting.mkdir()
            yield path
            path.rmdir()
            if apart:
                counting.rmdir()
            return
        path.rmdir()
    pytest.skip("no control group with a quota can be made here")


ENTER = """
import os, pathlib, sys
for folder in ("cpu", "cpuacct", ""):
    group = pathlib.Path("/sys/fs/cgroup", folder, pathlib.Path(sys.argv[1]).name)
    if group.is_dir():
        (group / "cgroup.procs").write_text(str(os.getpid()))
"""


def test_a_real_quota(group):
    code = ENTER + ("from hcmoco_ray.cluster.cpus import cpu_limit, cpus_here\nprint(cpu_limit().cpus, cpus_here())")
    done = subprocess.run([sys.executable, "-c", code, group], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["0.5", "1"]


def test_the_share_of_a_real_quota_that_is_used(group):
    """The process is alone in its group, so its own clock of CPU time tells what the group has used."""
    code = f"""{ENTER}
import time
from hcmoco_ray.tracking.system_metrics import NodeUsage
usage, begun, used = NodeUsage(), time.monotonic(), time.process_time()
while time.monotonic() < begun + 1.0:
    pass
percent = usage.sample()["cpu_utilization_percentage"]
print(percent, 100 * (time.process_time() - used) / (0.5 * (time.monotonic() - begun)))
"""
    done = subprocess.run([sys.executable, "-c", code, group], capture_output=True, text=True, check=True)
    found, expected = map(float, done.stdout.split())
    assert found == pytest.approx(expected, rel=0.1)
