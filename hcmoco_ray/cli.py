"""Parse what the programs' command lines share, `--recipe NAME [key=value ...]`, without importing PyTorch."""

import argparse
import importlib
import math
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from hcmoco.masking import masked
from hcmoco.tasks.registry import REGISTRY
from hcmoco_ray.cluster import interrupts
from hcmoco_ray.unread_output import end_quietly

PROGRAMS = (
    *("prepare", "pretrain", "finetune", "evaluate", "predict", "embed", "report", "export"),
    *("sweep", "label_fractions", "ablation", "backbones", "versatility", "node", "doctor"),
)
# A wheel carries the recipes inside the package; in a checkout they lie on top, where people look.
_INSTALLED = Path(__file__).resolve().parent / "recipes"
RECIPES = _INSTALLED if _INSTALLED.is_dir() else _INSTALLED.parents[1] / "recipes"


class Parser(argparse.ArgumentParser):
    """A parser that takes an option once, and numbers as they are typed. Its errors show no password of an argument."""

    def __init__(self, **settings: Any):
        super().__init__(**{"formatter_class": argparse.RawDescriptionHelpFormatter, **settings})
        self.register("action", None, _Once)
        self.register("type", int, whole_number)
        self.register("type", float, number)

    def error(self, message: str) -> NoReturn:
        super().error(masked(message))


class CommandParser(Parser):
    """A parser of one command of a program: it shows its own usage where an option is unknown, not the program's."""

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> tuple[Any, list[str]]:
        """Parse as argparse does, and refuse what is left over."""
        found, unknown = super().parse_known_args(args, namespace)
        if unknown:
            self.error(f"unrecognized arguments: {' '.join(unknown)}")
        return found, unknown


class _Once(argparse._StoreAction):
    """Store a value; a second one, which would replace it without a word, is an error."""

    def __call__(
        self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: Any, option_string: Any = None
    ) -> None:
        if option_string is not None:
            given = vars(namespace).setdefault("_given", {})
            if self.dest in given:
                parser.error(f"{option_string} is given twice, as {given[self.dest]} and as {values}; keep one of them")
            given[self.dest] = values
        super().__call__(parser, namespace, values, option_string)


def whole_number(text: str) -> int:
    """Return the whole number of an option. Python's own int() reads 1_0 as 10."""
    if not re.fullmatch(r"[-+]?[0-9]+", text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number")
    return int(text)


def number(text: str) -> float:
    """Return the number of an option. Python's own float() reads 1_0 as 10, and takes nan."""
    try:
        value = math.nan if "_" in text else float(text)
    except ValueError:
        value = math.nan
    if math.isnan(value):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number")
    return value


def parser(description: str) -> argparse.ArgumentParser:
    """Return a parser of `--recipe NAME [key=value ...]`."""
    known = ", ".join(sorted(path.stem for path in RECIPES.glob("*.yaml")))
    arguments = Parser(description=description)
    arguments.add_argument(
        "--recipe",
        default="people-cpu",
        metavar="NAME",
        help=f"a recipe in recipes/ ({known}), or a path to a YAML file (default people-cpu)",
    )
    arguments.add_argument(
        "overrides",
        nargs="*",
        metavar="key=value",
        help="dotted keys of the recipe, for example optim.lr=0.002 stages.stage2_steps=200 output_dir=runs/other",
    )
    return arguments


def task_parser(description: str) -> argparse.ArgumentParser:
    """Return a parser of `TASK --recipe NAME [key=value ...]`."""
    arguments = Parser(description=description)
    arguments.add_argument("task", choices=tuple(REGISTRY), metavar="TASK", help=", ".join(REGISTRY))
    arguments.add_argument(
        "--recipe",
        default="people-cpu",
        metavar="NAME",
        help="a recipe in recipes/TASK/, or a path to a YAML file (default people-cpu)",
    )
    arguments.add_argument(
        "overrides", nargs="*", metavar="key=value", help="dotted keys of the recipe, for example fraction=0.1 seed=1"
    )
    return arguments


def recipe_file(name: str, folder: Path) -> str:
    """Return the place of a recipe: `name` if it is a URI, a path with a slash to a folder or ends in .yaml.

    Else it is a recipe of that name in `folder`.
    """
    if "/" in name and os.path.isdir(name):
        return name  # whoever reads it says that it is a folder
    return name if "://" in name or name.endswith((".yaml", ".yml")) else str(folder / f"{name}.yaml")


def task_values(task: str, recipe: str, overrides: Sequence[str], *, below: Sequence[str] = ()) -> dict:
    """Load a task's recipe with the overrides on top, not yet checked; see `values`."""
    from hcmoco.config import load_recipe, merge

    path = recipe_file(recipe, RECIPES / task)
    return with_overrides(with_overrides(merge(load_recipe(path), {"task": {"name": task}}), below), overrides)


def values(recipe: str, overrides: Sequence[str], *, below: Sequence[str] = ()) -> dict:
    """Load a recipe's keys with the overrides on top, not yet checked.

    Args:
        recipe: its name, path or URI.
        overrides: dotted keys with values. None may set a key twice.
        below: further ones, which the overrides may replace.

    Raises:
        UserError: the recipe is missing, not YAML or not a mapping, or an override has no `=`.
    """
    from hcmoco.config import load_recipe

    return with_overrides(with_overrides(load_recipe(recipe_file(recipe, RECIPES)), below), overrides)


def with_overrides(values: dict, overrides: Sequence[str]) -> dict:
    """Lay dotted overrides over a recipe's keys. A null removes a key, but `tracking.uri=null` stays: it has a meaning.

    Raises:
        UserError: an override has no `=`, its value is not YAML, or two set the same key.
    """
    from hcmoco.config import merge, parse_overrides

    given = parse_overrides(list(overrides))
    merged, tracking = merge(values, given), given.get("tracking")
    if isinstance(tracking, dict) and "uri" in tracking and tracking["uri"] is None:
        merged["tracking"] = {**merged.get("tracking", {}), "uri": None}
    return merged


def run_script(name: str, script: str) -> int:
    """Run program `name` for a script of a checkout; returns its exit status.

    A script runs the packages of its own checkout. If Python finds those of another place, it prints an error:
    otherwise a change in the checkout would silently have no effect.

    Args:
        name: one of PROGRAMS.
        script: `__file__` of the script.
    """
    own, imported = Path(script).resolve().parents[1] / "hcmoco_ray", Path(__file__).resolve().parent
    if own.is_dir() and not os.path.samefile(own, imported):
        print(
            f"error: {script} would run the packages of {imported.parent}, not those of its own checkout; "
            f"run `pip install -e .` in {own.parent}, or set PYTHONPATH={own.parent}",
            file=sys.stderr,
        )
        return 2
    return run_command([name, *sys.argv[1:]])


def run_command(arguments: Sequence[str], called: str = "python -m hcmoco_ray") -> int:
    """Run the program that the first argument names, with the others; returns its exit status.

    Args:
        arguments: name and arguments of the program.
        called: how a message names what comes before them.
    """
    return end_quietly(lambda: _run_command(arguments, called))


def _run_command(arguments: Sequence[str], called: str) -> int:
    if arguments and arguments[0] in ("--help", "-h"):
        print(f"usage: {called} PROGRAM ...\n\nprograms: {', '.join(PROGRAMS)}\n\n{called} PROGRAM --help tells more.")
        return 0
    if not arguments or arguments[0] not in PROGRAMS:
        given = (
            f"{arguments[0]!r} is not a program" if arguments and not arguments[0].startswith("-") else "name a program"
        )
        print(f"{given}: {called} {'|'.join(PROGRAMS)} --help", file=sys.stderr)
        return 2
    if arguments[0] != "node":  # it passes signals on in its own way
        interrupts.listen()  # before imports that take long
    from hcmoco_ray.cluster import entrypoint

    sys.excepthook = entrypoint.print_masked
    return importlib.import_module(f"hcmoco_ray.commands.{arguments[0]}").main(list(arguments[1:]))
