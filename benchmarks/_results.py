"""What a benchmark has left: on which machine, and whether it has become slower since the last committed result."""

import json
import os
import platform
import re
import subprocess
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
PACKAGES = ("torch", "torchvision", "triton", "timm", "opencv-python-headless", "pyarrow", "ray")

# What decides how fast a processor computes, the strongest first: a name, and how Linux lists it.
_FEATURES = (
    ("AMX", "amx_bf16"),
    ("AVX512-BF16", "avx512_bf16"),
    ("AVX-512", "avx512f"),
    ("AVX2", "avx2"),
    ("BF16", "bf16"),
    ("NEON", "asimd"),
)
_GPU_STATE = (
    *("name", "driver_version", "pstate", "clocks.sm", "clocks.mem", "clocks.max.sm", "clocks.max.mem"),
    *("power.draw", "power.limit", "temperature.gpu", "memory.total"),
)
_SMALLER_UNITS = ("s", "ms", "min", "ms a person", "MB", "GB", "bytes")


def describe_machine(gpu: bool) -> dict[str, Any]:
    """Return what the figures depend on: processor, cores this process may use, GPU if one took part, versions."""
    import torch

    from hcmoco.training.precision import linux_features

    cpu = platform.processor() or platform.machine()
    if Path("/proc/cpuinfo").exists():
        names = re.findall(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
        cpu = names[0] if names else cpu
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    features = linux_features()
    return {
        "cpu": cpu,
        "features": next((name for name, flag in _FEATURES if flag in features), ""),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gb": round(memory / 1e9, 1),
        "gpu": torch.cuda.get_device_name() if gpu else None,
        "python": platform.python_version(),
        **{name: _version(name) for name in PACKAGES},
    }


def gpu_state() -> dict[str, Any]:
    """Return how the GPU that PyTorch takes by default is at this moment, as nvidia-smi says: card, driver, clocks,
    power, temperature; and the versions of CUDA and cuDNN. An entry `error` says why nvidia-smi did not tell."""
    import torch

    state: dict[str, Any] = {"cuda": torch.version.cuda, "cudnn": torch.backends.cudnn.version()}
    query = ["nvidia-smi", f"--query-gpu={','.join(_GPU_STATE)}", "--format=csv,noheader"]
    try:
        query.append(f"--id=GPU-{torch.cuda.get_device_properties(torch.cuda.current_device()).uuid}")
        line = subprocess.run(query, capture_output=True, text=True, check=True, timeout=60).stdout.splitlines()[0]
    except (OSError, subprocess.SubprocessError, IndexError, AttributeError, AssertionError, RuntimeError) as error:
        return {**state, "error": f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"}
    return {**state, **dict(zip(_GPU_STATE, (each.strip() for each in line.split(",")), strict=True))}


def title(machine: Mapping[str, Any]) -> str:
    """Return the name of a machine: its GPU, or its processor with its features and cores."""
    if machine["gpu"]:
        return machine["gpu"]
    cpu = re.sub(r"\(R\)|\bprocessor\b", "", machine["cpu"], flags=re.IGNORECASE)
    features = f" with {machine['features']}" if machine.get("features") else ""
    return f"{' '.join(cpu.split())}{features}, {machine['cores']} cores"


def file_name(benchmark: str, machine: Mapping[str, Any]) -> str:
    """Return the name of a result's file."""
    slug = re.sub(r"[^a-z0-9]+", "-", f"{benchmark} {title(machine)}".lower().replace(" with ", " ")).strip("-")
    return f"{slug}.json"


def commit() -> str:
    """Hash of the checkout, with `+` where files of the product differ from it; "unknown" outside a checkout."""
    try:
        head = _git("rev-parse", "--short=12", "HEAD").strip()
        return head + ("+" if _git("status", "--porcelain", "--", "hcmoco", "hcmoco_ray", "pipelines") else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def committed(name: str) -> dict[str, Any] | None:
    """Return the committed result in `benchmarks/results` of a file name; None if there is none."""
    try:
        return json.loads(_git("show", f"HEAD:{(RESULTS / name).relative_to(ROOT)}"))
    except (OSError, subprocess.CalledProcessError):
        return None


def better(row: Mapping[str, Any]) -> str | None:
    """Return whether "higher" or "lower" values of a row are better; None if the row does not tell."""
    if row.get("better"):
        return row["better"]
    if row["target"]:
        return "higher" if row["target"].startswith(">") else "lower"
    if row["unit"].endswith("/s"):
        return "higher"
    return "lower" if row["unit"] in _SMALLER_UNITS else None


def slower(rows: Sequence[Mapping[str, Any]], before: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Compare a result with an earlier one of the same machine.

    Args:
        rows: of the new result.
        before: of the earlier one.

    Returns:
        For each row whose median is worse than the worst value of the earlier range: that range, as a phrase.
    """
    earlier = {row["what"]: row for row in before}
    found = {}
    for row in rows:
        old, direction = earlier.get(row["what"]), better(row)
        if old is None or direction is None:
            continue
        least, most = old["range"]
        if row["median"] < least if direction == "higher" else row["median"] > most:
            found[row["what"]] = f"was {number(old['median'])} ({number(least)} to {number(most)})"
    return found


def number(value: float) -> str:
    """Format a figure with three digits."""
    if value == int(value) and abs(value) < 1e6:
        return str(int(value))
    return f"{value:.3g}" if abs(value) < 100 else f"{value:,.0f}"


def _git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True).stdout


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
