"""Typed, frozen configs: the base class, and how a recipe file and dotted overrides become one.

Each component declares its own config beside itself, every field with its unit and source. A bad value is one line: key, value, what is
allowed.
"""

from pathlib import Path
from typing import Any, TypeVar, get_args

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from hcmoco.errors import UserError


class Config(BaseModel):
    """Base of all configs: frozen, strict about unknown keys, defaults checked like values."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)


T = TypeVar("T", bound=Config)


def load_recipe(path: str | Path) -> dict:
    """The mapping in a YAML recipe. `extends: other` starts from the recipe `other.yaml` beside it and merges this one over it.

    Raises UserError for a file that is missing, not YAML or not a mapping.
    """
    path = Path(path)
    if not path.is_file():
        known = sorted(each.stem for each in path.parent.glob("*.yaml"))
        raise UserError(f"recipe {path} does not exist; in {path.parent} there are: {', '.join(known) or 'none'}")
    try:
        values = yaml.safe_load(path.read_text())
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"recipe {path} is not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(values, dict):
        raise UserError(f"recipe {path} must be a mapping of keys to values, it is {type(values).__name__}")
    parent = values.pop("extends", None)
    return merge(load_recipe(path.parent / f"{parent}.yaml"), values) if parent else values


def merge(base: dict, over: dict) -> dict:
    """`over` laid over `base`, mapping by mapping; a null removes the key."""
    result = dict(base)
    for key, value in over.items():
        if value is None:
            result.pop(key, None)
        elif isinstance(value, dict) and isinstance(result.get(key), dict):
            result[key] = merge(result[key], value)
        else:
            result[key] = value
    return result


def parse_overrides(overrides: list[str]) -> dict:
    """`["objective.tau_g=0.1", ...]` as a nested mapping; values are read as YAML. Raises UserError for an argument without `=`."""
    values: dict = {}
    for override in overrides:
        key, equals, text = override.partition("=")
        if not equals or not key:
            raise UserError(f"override {override!r} is not of the form key=value, for example optim.lr=0.01")
        try:
            value = yaml.safe_load(text) if text else ""
        except yaml.YAMLError:
            raise UserError(f"override {override!r}: the value is not valid YAML; quote it if it is text") from None
        node: dict = {}
        *parents, leaf = key.split(".")
        inner = node
        for parent in parents:
            inner[parent] = inner = {}
        inner[leaf] = value
        values = merge(values, node) if value is not None else _set_null(values, key.split("."))
    return values


def _set_null(values: dict, path: list[str]) -> dict:
    """`merge` reads null as 'remove', so an override to null is kept as an explicit entry."""
    if len(path) == 1:
        return {**values, path[0]: None}
    inner = values.get(path[0])
    return {**values, path[0]: _set_null(inner if isinstance(inner, dict) else {}, path[1:])}


def build(cls: type[T], values: dict[str, Any], where: str) -> T:
    """A checked config of class `cls`; UserError with one line per run that names the first bad keys, their values and what is allowed."""
    try:
        return cls.model_validate(values)
    except ValidationError as error:
        raise UserError(f"{where}: {'; '.join(_line(cls, each) for each in error.errors()[:3])}") from None


def _line(cls: type[Config], error: Any) -> str:
    key, known = _place(cls, error["loc"])
    if error["type"] == "extra_forbidden":
        return f"unknown key {key!r}" + (f"; allowed here: {', '.join(known)}" if known else "")
    if error["type"] == "missing":
        return f"key {key!r} is missing"
    message = error["msg"].removeprefix("Value error, ")
    if not key:
        return message
    # What is wrong with several keys together names them itself; their whole mapping would bury it.
    return f"{key}: {message}" if isinstance(error["input"], dict) else f"{key} = {error['input']!r}: {message}"


def _place(cls: type[BaseModel], path: tuple) -> tuple[str, list[str]]:
    """The dotted key of `path`, and the keys that are allowed beside its last part, as far as the declared types tell.

    Among the members of a union pydantic goes by a name that is no key: the value that tells them apart.
    """
    options, beside, key = [cls], [cls], []
    for part in path:
        annotation = next((each.model_fields[part].annotation for each in options if part in each.model_fields), None)
        named = [each for each in options if any(part in get_args(field.annotation) for field in each.model_fields.values())]
        if annotation is None and named and len(options) > 1:
            options = named
            continue
        key.append(str(part))
        beside = options
        if annotation is not None:
            options = [each for each in (annotation, *get_args(annotation)) if isinstance(each, type) and issubclass(each, BaseModel)]
    return ".".join(key), list(beside[0].model_fields) if beside else []
