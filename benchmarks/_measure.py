"""Compare programs: run them in turns, take medians, print a table, and write it with its conditions."""

import argparse
import json
import os
import platform
import re
import statistics
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"


def arguments(description: str | None, *, rounds: int, quick: str) -> argparse.ArgumentParser:
    """A parser with what every benchmark takes."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=rounds, help=f"turns of each thing compared (default {rounds})")
    parser.add_argument("--quick", action="store_true", help=f"{quick}; the figures are a smoke test, not a result")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the JSON (default benchmarks/results)")
    return parser


def in_turns(arms: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, list]:
    """Run all arms in each round, and return what each of them returned.

    The order is reversed in every other round, so that drifts (clocks, heat, other programs) affect all arms alike.
    """
    results: dict[str, list] = {name: [] for name in arms}
    for number in range(rounds):
        for name in list(arms)[:: 1 if number % 2 == 0 else -1]:
            results[name].append(arms[name]())
            print(
                f"\r\x1b[Kround {number + 1} of {rounds}: {name}" if sys.stderr.isatty() else ".",
                end="",
                file=sys.stderr,
                flush=True,
            )
    print("\r\x1b[K" if sys.stderr.isatty() else "", end="\n", file=sys.stderr, flush=True)
    return results


def ratios(over: Sequence[float], under: Sequence[float]) -> list[float]:
    """over / under, round by round: neighbors in time share their conditions."""
    return [a / b for a, b in zip(over, under, strict=True)]


@dataclass(frozen=True)
class Row:
    """One line of the table. `limit` is what the median must not exceed, or, with `floor`, not fall below."""

    what: str
    values: list[float]
    unit: str = ""
    limit: float | None = None
    floor: bool = False
    note: str = ""

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    @property
    def target(self) -> str:
        return "" if self.limit is None else f"{'>=' if self.floor else '<='} {_number(self.limit)}"

    @property
    def met(self) -> bool | None:
        if self.limit is None:
            return None
        return self.median >= self.limit if self.floor else self.median <= self.limit

    def to_json(self) -> dict:
        return {
            "what": self.what,
            "unit": self.unit,
            "median": self.median,
            "range": [min(self.values), max(self.values)],
            "values": self.values,
            "target": self.target or None,
            "met": self.met,
            "note": self.note,
        }


@dataclass
class Table:
    """The rows of one benchmark.

    Args:
        name: of the benchmark; the file is `<name>-<machine>.json`.
        settings: what was measured: sizes, counts.
        gpu: whether a GPU took part.
    """

    name: str
    settings: dict
    gpu: bool = False
    rows: list[Row] = field(default_factory=list)
    load_before: tuple[float, ...] = field(default_factory=os.getloadavg)

    def add(self, what: str, values: Sequence[float] | float, unit: str = "", **more) -> None:
        values = [float(values)] if isinstance(values, int | float) else [float(each) for each in values]
        self.rows.append(Row(what, values, unit, **more))

    def show(self) -> None:
        """Prints the table."""
        lines = [("what", "median", "range", "target", "")]
        for row in self.rows:
            spread = (
                f"{_number(min(row.values))} to {_number(max(row.values))}, n={len(row.values)}"
                if len(row.values) > 1
                else ""
            )
            verdict = {None: "", True: "met", False: "MISSED"}[row.met]
            lines.append(
                (
                    row.what,
                    f"{_number(row.median)} {row.unit}".rstrip(),
                    spread,
                    row.target,
                    " ".join(filter(None, [verdict, row.note])),
                )
            )
        widths = [max(len(line[k]) for line in lines) for k in range(4)]
        print(f"\n{self.name}: {', '.join(f'{key} {value}' for key, value in self.settings.items())}")
        for line in lines:
            print("  ".join(text.ljust(width) for text, width in zip(line, [*widths, 0], strict=True)).rstrip())

    def write(self, folder: Path) -> Path:
        """Writes the JSON and returns where it lies."""
        machine = describe_machine(self.gpu)
        slug = re.sub(r"[^a-z0-9]+", "-", f"{machine['gpu'] or machine['cpu']} {machine['cores']} cores".lower()).strip(
            "-"
        )
        path = folder / f"{self.name}-{slug}.json"
        content = {
            "benchmark": self.name,
            "date": datetime.now(UTC).isoformat(timespec="minutes"),
            "commit": commit(),
            "machine": machine,
            "load_average": {"before": self.load_before, "after": os.getloadavg()},
            "settings": self.settings,
            "rows": [row.to_json() for row in self.rows],
        }
        folder.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content, indent=1) + "\n")
        print(f"written to {path}; load average before {self.load_before[0]:.2f}, after {os.getloadavg()[0]:.2f}")
        return path


def describe_machine(gpu: bool) -> dict:
    """What the figures depend on: processor, cores this process may use, GPU if one took part, versions."""
    import torch

    cpu = platform.processor() or platform.machine()
    if Path("/proc/cpuinfo").exists():
        names = re.findall(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
        cpu = names[0] if names else cpu
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "cpu": cpu,
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gb": round(memory / 1e9, 1),
        "gpu": torch.cuda.get_device_name() if gpu else None,
        "python": platform.python_version(),
        **{name: _version(name) for name in ("torch", "timm", "opencv-python-headless", "pyarrow", "ray")},
    }


def commit() -> str:
    """Hash of the checkout, with `+` where files of the product differ from it; "unknown" outside a checkout."""
    try:
        run = {"cwd": ROOT, "capture_output": True, "text": True, "check": True}
        head = subprocess.run(["git", "rev-parse", "--short=12", "HEAD"], **run).stdout.strip()
        return head + (
            "+" if subprocess.run(["git", "status", "--porcelain", "--", "hcmoco", "pipelines"], **run).stdout else ""
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _number(value: float) -> str:
    if value == int(value) and abs(value) < 1e6:
        return str(int(value))
    return f"{value:.3g}" if abs(value) < 100 else f"{value:,.0f}"
