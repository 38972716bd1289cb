"""What the command lines of the programs have in common: `--recipe NAME [key=value ...]`, read without importing PyTorch."""

import argparse
from pathlib import Path

from hcmoco.config import load_recipe, merge, parse_overrides

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


def values(recipe: str, overrides: list[str]) -> dict:
    """The recipe's keys with the overrides on top, not yet checked.

    Raises UserError for a recipe that is missing, not YAML or not a mapping, and for an override without `=`.
    """
    path = Path(recipe) if recipe.endswith((".yaml", ".yml")) else RECIPES / f"{recipe}.yaml"
    return merge(load_recipe(path), parse_overrides(overrides))
