"""Let each GPU of a node compute, in a process of its own that sees all of them.

A process of Ray may see only those that Ray has given to it. `python -m hcmoco_ray.doctor.gpus` prints the result of
the machine's GPUs as JSON.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

_SIZE = 256
_LONGEST_S = 240.0
_KERNEL_MODULE = re.compile(r"Kernel Module(?:\s+for\s+\S+)?\s+(\d+(?:\.\d+)+)")


def gpus(num_gpus: float) -> dict[str, Any]:
    """Find the NVIDIA driver of this node, and whether PyTorch computes rightly on each GPU.

    Args:
        num_gpus: that Ray counts on this node.

    Returns:
        `driver`, its version, None where there is none; `devices`, for each GPU that PyTorch sees its `name`,
        `capability` and `error`, None where its result is right; `problem`, why PyTorch sees none, else None.
    """
    driver = driver_version()
    if driver is None and not num_gpus:
        return {"driver": None, "devices": [], "problem": None}
    command = [sys.executable, "-m", "hcmoco_ray.doctor.gpus"]
    path = os.pathsep.join(filter(None, [str(Path(__file__).resolve().parents[2]), os.environ.get("PYTHONPATH")]))
    environment = {**os.environ, "PYTHONPATH": path}
    # What `ray start` was given, not what Ray has made of it for this process.
    environment.pop("CUDA_VISIBLE_DEVICES", None)
    if (visible := _visible_to_ray()) is not None:
        environment["CUDA_VISIBLE_DEVICES"] = visible
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=_LONGEST_S)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or [f"status {done.returncode}"])[-1]
        return {"driver": driver, "devices": [], "problem": f"the process that used the GPUs ended: {last}"}
    return {"driver": driver, **json.loads(done.stdout.splitlines()[-1])}


def driver_version() -> str | None:
    """Return the version of this machine's NVIDIA driver; None if there is none."""
    try:
        found = parse_driver(Path("/proc/driver/nvidia/version").read_text())
    except OSError:
        found = None
    if found or not shutil.which("nvidia-smi"):
        return found
    ask = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(ask, capture_output=True, text=True, timeout=120)
    except subprocess.TimeoutExpired:
        return None
    lines = done.stdout.split()
    return lines[0] if done.returncode == 0 and lines and re.fullmatch(r"\d+(\.\d+)+", lines[0]) else None


def parse_driver(text: str) -> str | None:
    """Return the version in the text of /proc/driver/nvidia/version; None if it has none."""
    found = _KERNEL_MODULE.search(text) or re.search(r"^NVRM version:.*?\s(\d{3}\.\d+(?:\.\d+)?)\s", text, re.MULTILINE)
    return found[1] if found else None


def _visible_to_ray() -> str | None:
    """Return CUDA_VISIBLE_DEVICES of the process that started this one, Ray's own on this node; None if not set."""
    import psutil

    try:
        return psutil.Process(os.getppid()).environ().get("CUDA_VISIBLE_DEVICES")
    except psutil.Error:
        return None


def compute() -> dict[str, Any]:
    """Compute on each GPU that this process sees; see `gpus`."""
    import torch

    if torch.version.cuda is None:
        return {"devices": [], "problem": f"PyTorch {torch.__version__} is a build without CUDA"}
    try:
        torch.cuda.init()
    except RuntimeError as failure:
        return {"devices": [], "problem": " ".join(str(failure).split())}
    # Products of small whole numbers are exact in every precision that a GPU may choose: the results must be equal.
    draw = torch.Generator().manual_seed(0)
    first, second = (torch.randint(-8, 9, (_SIZE, _SIZE), generator=draw).float() for _ in range(2))
    expected = first @ second
    devices = []
    for number in range(torch.cuda.device_count()):
        name, capability, error = f"GPU {number}", "unknown", None
        try:
            name = torch.cuda.get_device_name(number)
            capability = ".".join(map(str, torch.cuda.get_device_capability(number)))
            result = (first.to(f"cuda:{number}") @ second.to(f"cuda:{number}")).cpu()
            if not torch.equal(result, expected):
                error = f"{int((result != expected).sum())} of {_SIZE**2} elements of a matrix product are wrong"
        except RuntimeError as failure:
            error = " ".join(str(failure).split())[:300]
        devices.append({"name": name, "capability": capability, "error": error})
    return {"devices": devices, "problem": None}


if __name__ == "__main__":
    print(json.dumps(compute()))
