"""The first process of a node of `nodes.py`: makes the machine private, then reaps what ends.

Runs with the standard library alone, in new namespaces. Its argument is JSON, see `main`. It says "ready" on stdout and
ends when its stdin does, that is with the process that made the node; the kernel then ends the whole node.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import threading


def _mount(*arguments: str) -> None:
    subprocess.run(["mount", *arguments], check=True)


def _bind_file(text: str, folder: str, target: str) -> None:
    """Shows `text` as the file `target`, where this machine has such a file."""
    if os.path.exists(target):
        source = os.path.join(folder, os.path.basename(target))
        with open(source, "w") as file:
            file.write(text)
        _mount("--bind", source, target)


def main() -> None:
    """Args, by name: `hostname`; `folder` for the node's files; `keep`, paths that stay visible although they lie in
    /tmp; `hide`, folders that the node does not reach; `shm_bytes`, the size of /dev/shm."""
    given = json.loads(sys.argv[1])
    hostname, folder = given["hostname"], given["folder"]
    socket.sethostname(hostname)
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)

    # As Debian's installer writes it: the machine's own name is a loopback address.
    _bind_file(f"127.0.0.1\tlocalhost\n127.0.1.1\t{hostname}\n", folder, "/etc/hosts")
    _bind_file(f"{hostname}\n", folder, "/etc/hostname")
    _bind_file("", folder, "/etc/resolv.conf")  # there is no network behind the bridge: a name fails at once
    _mount("-t", "tmpfs", "-o", f"size={given['shm_bytes']}", "tmpfs", "/dev/shm")
    empty = os.path.join(folder, "empty")
    os.mkdir(empty)
    for path in given["hide"]:
        _mount("--bind", empty, path)
    tmp = os.path.join(folder, "tmp")
    os.mkdir(tmp)
    os.chmod(tmp, 0o1777)
    for path in given["keep"]:
        inside = os.path.join(tmp, os.path.relpath(path, "/tmp"))
        os.makedirs(inside, exist_ok=True)
        _mount("--rbind", path, inside)
    _mount("--rbind", tmp, "/tmp")
    os.mkdir("/tmp/home")

    def end_with_the_maker() -> None:
        sys.stdin.read()
        os._exit(0)

    threading.Thread(target=end_with_the_maker, daemon=True).start()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
    print("ready", flush=True)
    while True:
        signal.sigwait({signal.SIGCHLD})
        while True:
            try:
                if os.waitpid(-1, os.WNOHANG)[0] == 0:
                    break
            except ChildProcessError:
                break


if __name__ == "__main__":
    main()
