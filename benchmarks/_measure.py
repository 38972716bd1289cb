"""Compare programs: run them in turns, take medians, print a table, and write it with its conditions."""

import argparse
import json
import os
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from benchmarks._results import RESULTS, commit, committed, describe_machine, file_name, number, slower
from hcmoco.errors import UserError


def arguments(description: str | None, *, rounds: int, quick: str) -> argparse.ArgumentParser:
    """A parser with what every benchmark takes."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=rounds, help=f"turns of each thing compared (default {rounds})")
    parser.add_argument("--quick", action="store_true", help=f"{quick}; the figures are a smoke test, not a result")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the JSON (default benchmarks/results)")
    return parser


def run(main: Callable[[], object]) -> None:
    """Run a benchmark and end its program; a user's mistake is one line and status 2."""
    try:
        main()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


def in_turns(arms: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, list]:
    """Run all arms in each round, and return what each of them returned.

    The order is reversed in every other round, so that drifts (clocks, heat, other programs) affect all arms alike.
    """
    results: dict[str, list] = {name: [] for name in arms}
    for turn in range(rounds):
        for name in list(arms)[:: 1 if turn % 2 == 0 else -1]:
            results[name].append(arms[name]())
            print(
                f"\r\x1b[Kround {turn + 1} of {rounds}: {name}" if sys.stderr.isatty() else ".",
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
    """One line of the table.

    `limit` is what the median must not exceed, or, with `floor`, not fall below. `better` is "higher" or "lower", where
    neither a limit nor the unit tells it.
    """

    what: str
    values: list[float]
    unit: str = ""
    limit: float | None = None
    floor: bool = False
    note: str = ""
    better: str | None = None

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    @property
    def target(self) -> str:
        return "" if self.limit is None else f"{'>=' if self.floor else '<='} {number(self.limit)}"

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
            "better": self.better,
            "note": self.note,
        }


@dataclass
class Table:
    """The rows of one benchmark.

    Args:
        name: of the benchmark; the file is `<name>-<machine>.json`.
        settings: what was measured: sizes, counts.
        gpu: whether a GPU took part.

    Attributes:
        facts: what else the file says, by name.
    """

    name: str
    settings: dict
    gpu: bool = False
    rows: list[Row] = field(default_factory=list)
    facts: dict = field(default_factory=dict)
    load_before: tuple[float, ...] = field(default_factory=os.getloadavg)

    def add(self, what: str, values: Sequence[float] | float, unit: str = "", **more) -> None:
        assert what not in {row.what for row in self.rows}, f"two rows are called {what!r}"
        values = [float(values)] if isinstance(values, int | float) else [float(each) for each in values]
        self.rows.append(Row(what, values, unit, **more))

    def show(self) -> None:
        """Print the table. What is slower than the committed result of this machine says so."""
        lines = [("what", "median", "range", "target", "")]
        earlier = committed(file_name(self.name, describe_machine(self.gpu)))
        worse = slower([row.to_json() for row in self.rows], earlier["rows"]) if earlier else {}
        for row in self.rows:
            spread = (
                f"{number(min(row.values))} to {number(max(row.values))}, n={len(row.values)}"
                if len(row.values) > 1
                else ""
            )
            verdict = {None: "", True: "met", False: "MISSED"}[row.met]
            before = f"SLOWER: {worse[row.what]}" if row.what in worse else ""
            lines.append(
                (
                    row.what,
                    f"{number(row.median)} {row.unit}".rstrip(),
                    spread,
                    row.target,
                    " ".join(filter(None, [verdict, before, row.note])),
                )
            )
        widths = [max(len(line[k]) for line in lines) for k in range(4)]
        print(f"\n{self.name}: {', '.join(f'{key} {value}' for key, value in self.settings.items())}")
        for line in lines:
            print("  ".join(text.ljust(width) for text, width in zip(line, [*widths, 0], strict=True)).rstrip())
        if earlier:
            print(f"compared with {earlier['commit']} of {earlier['date'][:10]}: {len(worse)} rows are slower")

    def write(self, folder: Path) -> Path:
        """Write the JSON and return where it lies."""
        machine = describe_machine(self.gpu)
        path = folder / file_name(self.name, machine)
        content = {
            "benchmark": self.name,
            "date": datetime.now(UTC).isoformat(timespec="minutes"),
            "commit": commit(),
            "machine": machine,
            "load_average": {"before": self.load_before, "after": os.getloadavg()},
            "settings": self.settings,
            **self.facts,
            "rows": [row.to_json() for row in self.rows],
        }
        folder.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content, indent=1) + "\n")
        print(f"written to {path}; load average before {self.load_before[0]:.2f}, after {os.getloadavg()[0]:.2f}")
        return path
