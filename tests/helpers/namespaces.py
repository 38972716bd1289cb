"""Whether this machine lets the tests make nodes of namespaces."""

import functools
import os
import shutil
import subprocess
import sys

from tests.helpers.node_network import interface_name

REASON = "this machine cannot make nodes of network and PID namespaces"
UNSHARE = ("unshare", "--net", "--uts", "--ipc", "--pid", "--mount", "--fork", "--kill-child", "--mount-proc")
_TOOLS = ("ip", "mount", "nsenter", "setsid", "unshare")


@functools.cache
def unavailable() -> str | None:
    """Why nodes cannot be made here, None where they can."""
    if sys.platform != "linux":
        return f"{sys.platform} has no namespaces"
    if os.geteuid() != 0:
        return "the tests do not run as root"
    if missing := [tool for tool in _TOOLS if not shutil.which(tool)]:
        return f"programs of iproute2 and util-linux are missing: {', '.join(missing)}"
    name = interface_name()
    for command in ([*UNSHARE, "true"], ["ip", "link", "add", name, "type", "bridge"], ["ip", "link", "delete", name]):
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            return done.stderr.strip() or f"{command[0]} ended with status {done.returncode}"
    return None
