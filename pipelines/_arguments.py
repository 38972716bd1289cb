"""What the command lines of the programs have in common: `--recipe NAME [key=value ...]`, read without importing PyTorch."""

import argparse
from pathlib import Path

from hcmoco.config import load_recipe, merge, parse_overrides

TASK_NAMES = ("parsing-rgb", "parsing-depth", "pose", "densepose")
RECIPES = Path(__file__).resolve().parents[1] / "recipes"


def parser(description: str) -> argparse.ArgumentParser:
    """A parser of `--recipe NAME [key=value ...]`."""
    known = ", ".join(sorted(path.stem for path in RECIPES.glob("*.yaml")))
    arguments = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
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
        help="dotted keys of the recipe, for example optim.lr=0.002 stages.full=200 out=runs/other",
    )
    return arguments


def task_parser(description: str) -> argparse.ArgumentParser:
    """A parser of `TASK --recipe NAME [key=value ...]`."""
    arguments = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("task", choices=TASK_NAMES, metavar="TASK", help=", ".join(TASK_NAMES))
    arguments.add_argument(
        "--recipe", default="people-cpu", metavar="NAME", help="a recipe in recipes/TASK/, or a path to a YAML file (default people-cpu)"
    )
    arguments.add_argument("overrides", nargs="*", metavar="key=value", help="dotted keys of the recipe, for example fraction=0.1 seed=1")
    return arguments


def task_values(task: str, recipe: str, overrides: list[str]) -> dict:
    """The keys of a task's recipe with the overrides on top, not yet checked; see `values`."""
    path = Path(recipe) if recipe.endswith((".yaml", ".yml")) else RECIPES / task / f"{recipe}.yaml"
    return merge(merge(load_recipe(path), {"task": {"task": task}}), parse_overrides(overrides))


def values(recipe: str, overrides: list[str]) -> dict:
    """The recipe's keys with the overrides on top, not yet checked.

    Raises UserError for a recipe that is missing, not YAML or not a mapping, and for an override without `=`.
    """
    path = Path(recipe) if recipe.endswith((".yaml", ".yml")) else RECIPES / f"{recipe}.yaml"
    return merge(load_recipe(path), parse_overrides(overrides))
