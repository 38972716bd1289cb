"""A Slurm cluster of Debian's packages on machines of `node_machine.py`: a controller, and nodes that run jobs.

Each machine has its own network, processes, host name and /tmp. MUNGE runs once, in the controller: its socket is a
file that all of them see.
"""

import os
import secrets
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.helpers import namespaces
from tests.helpers.node_command import Command
from tests.helpers.node_machine import Machine
from tests.helpers.node_network import Bridge
from tests.helpers.waiting import wait_until

REASON = "this machine cannot run Slurm"
_DAEMONS = ("slurmctld", "slurmd", "munged", "sbatch", "srun")
_CONFIG = """\
ClusterName=test
SlurmctldHost=controller({controller})
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket
SlurmUser=root
SlurmdUser=root
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerType=sched/builtin
ReturnToService=2
KillWait=30
MessageTimeout=60
SlurmdTimeout=300
{nodes}
PartitionName=test Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


def unavailable() -> str | None:
    """Why Slurm cannot run here, None where it can."""
    if missing := [name for name in _DAEMONS if not shutil.which(name)]:
        return f"programs of Slurm and MUNGE are missing: {', '.join(missing)}"
    return namespaces.unavailable()


class Slurm:
    """A cluster, from `with` on.

    Args:
        nodes: how many run jobs.
        cpus: of each of them.

    Attributes:
        shared: a folder that all machines and the test process see under the same path.
    """

    def __init__(self, nodes: int = 2, cpus: int = 2):
        self._cpus = cpus
        self._names = [f"slurm-{number}" for number in range(1, nodes + 1)]
        self._machines: list[Machine] = []

    def __enter__(self) -> "Slurm":
        self.folder = Path(tempfile.mkdtemp(prefix="hcmoco-slurm-", dir="/var/tmp"))
        try:
            self._start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends the cluster and all of its jobs."""
        for machine in self._machines:
            machine.kill()
        if hasattr(self, "_bridge"):
            self._bridge.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _start(self) -> None:
        for name in ("shared", "state", "munge"):
            (self.folder / name).mkdir()
        self.shared = self.folder / "shared"
        os.chmod(self.folder, 0o755)  # MUNGE wants to know who can write above its socket
        (self.folder / "munge").chmod(0o755)
        self._bridge = Bridge(self.folder)
        for number, name in enumerate(["controller", *self._names]):
            self._machines.append(Machine(name, self.folder / name, hide=[], shm_bytes=1 << 30))
            self._bridge.connect(number, self._machines[number].pid)
        self._config = self.folder / "slurm.conf"
        self._config.write_text(
            _CONFIG.format(
                folder=self.folder,
                controller=self._bridge.address(0),
                nodes="\n".join(
                    f"NodeName={name} NodeHostname={name} NodeAddr={self._bridge.address(number)} CPUs={self._cpus}"
                    for number, name in enumerate(self._names, 1)
                ),
            )
        )
        munge = self.folder / "munge"
        (munge / "key").write_bytes(secrets.token_bytes(128))
        (munge / "key").chmod(0o600)
        places = {"key-file": "key", "socket": "socket", "pid-file": "pid", "log-file": "log", "seed-file": "seed"}
        options = [f"--{name}={munge / file}" for name, file in places.items()]
        self._daemon(0, ["munged", "--foreground", "--force", *options])
        wait_until((munge / "socket").exists, pause=0.05)
        controller = self._daemon(0, ["slurmctld", "-D", "-c", "-f", str(self._config)])
        for number, name in enumerate(self._names, 1):
            self._daemon(number, ["slurmd", "-D", "-N", name, "-f", str(self._config)])
        wait_until(
            lambda: self.run(["sinfo", "-h", "-t", "idle", "-o", "%D"], check=False).strip() == str(len(self._names)),
            controller.process,
            pause=0.5,
        )

    def _environment(self, more: Mapping[str, str] | None = None) -> dict[str, str]:
        kept = ("LANG", "LC_ALL", "TERM")
        return {
            **{name: os.environ[name] for name in kept if name in os.environ},
            "HOME": "/tmp/home",
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)]),
            "SLURM_CONF": str(self._config),
            **(more or {}),
        }

    def _daemon(self, machine: int, command: Sequence[str]) -> Command:
        return self._machines[machine].popen(command, self._environment())

    @contextmanager
    def hidden(self, node: int, folder: Path) -> Iterator[None]:
        """A node (1, 2, ...) that does not see a folder, as one that does not mount its disk."""
        machine, environment = self._machines[node], self._environment()
        machine.run(["mount", "-t", "tmpfs", "none", str(folder)], environment, check=True)
        try:
            yield
        finally:
            machine.run(["umount", str(folder)], environment, check=True)

    def run(self, command: Sequence[str], env: Mapping[str, str] | None = None, *, check: bool = True) -> str:
        """Runs a command on the controller, in the checkout's folder, and returns what it printed."""
        return self._machines[0].run(command, self._environment(env), check=check)
