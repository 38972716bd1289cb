"""Run a node of a Ray cluster as a service that announces its end.

A machine that is taken away is told so some time before: Kubernetes and Slurm send SIGTERM, a batch script may send
SIGUSR1, a spot instance of AWS finds a notice in its metadata. `ray start --block` alone ends at once then, and what
trains there is lost up to its last state. This service tells Ray first that the node will go: trainings save a state
and move to other nodes, and nothing new is placed here.
"""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from datetime import datetime
from types import FrameType

_POLL_S = 1.0
_METADATA = "http://169.254.169.254"
_TOKEN_S = 300
# Seconds before the end at which Ray is stopped in order.
_STOP_S = 5.0


class SpotNotice:
    """The notice of AWS that a spot instance will be taken away, from the instance's metadata service (IMDSv2).

    The address is that of the variable AWS_EC2_METADATA_SERVICE_ENDPOINT, which AWS's own tools read too.
    """

    def __init__(self) -> None:
        self._base = os.environ.get("AWS_EC2_METADATA_SERVICE_ENDPOINT", _METADATA).rstrip("/")
        self._token, self._until = "", float("-inf")

    def seconds_left(self) -> float | None:
        """Return the seconds until this machine is taken away; None if there is no notice, or nobody answers."""
        try:
            if time.monotonic() > self._until:
                headers = {"X-aws-ec2-metadata-token-ttl-seconds": str(_TOKEN_S)}
                self._token = self._ask("PUT", "latest/api/token", headers).decode()
                self._until = time.monotonic() + _TOKEN_S / 2
            headers = {"X-aws-ec2-metadata-token": self._token}
            notice = json.loads(self._ask("GET", "latest/meta-data/spot/instance-action", headers))
            end = datetime.fromisoformat(notice["time"].replace("Z", "+00:00"))
        except (OSError, ValueError, KeyError):
            return None  # 404: there is no notice
        return max(0.0, end.timestamp() - time.time())

    def _ask(self, method: str, path: str, headers: dict[str, str]) -> bytes:
        request = urllib.request.Request(f"{self._base}/{path}", method=method, headers=headers)
        with urllib.request.urlopen(request, timeout=2) as answer:
            return answer.read()


def serve(command: Sequence[str], grace: float, notice: Callable[[], float | None] = lambda: None) -> int:
    """Run a command that starts Ray and stays, and announce this node's end before it ends.

    Args:
        command: such as `ray start --block --address=HEAD:6379`.
        grace: seconds between a signal and the end of this machine.
        notice: returns the seconds that this machine has left, None as long as nothing is known; asked every second.

    Returns:
        The exit status: that of the command, 0 where this service has ended it.
    """
    signals: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        signals.append(number)

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1):
        signal.signal(number, note)
    # In a session of its own: a signal to the whole group must not end Ray before it was announced.
    child = subprocess.Popen(command, start_new_session=True)
    left: float | None = None
    while left is None:
        if child.poll() is not None:
            return child.returncode
        left = grace if signals else notice()
        time.sleep(0 if signals else _POLL_S)
    end = time.monotonic() + left
    print(f"this node will be taken away in {left:.0f} s: Ray is told", file=sys.stderr, flush=True)
    announce = [
        sys.executable,
        "-m",
        "ray.scripts.scripts",
        "drain-node",
        "--reason",
        "DRAIN_NODE_REASON_PREEMPTION",
        "--reason-message",
        "taken away",
    ]
    subprocess.run([*announce, "--deadline-remaining-seconds", str(max(1, round(left)))], check=False)
    while child.poll() is None and time.monotonic() < end - _STOP_S:
        time.sleep(0.2)
    child.terminate()
    try:
        child.wait(_STOP_S)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()
    return 0
