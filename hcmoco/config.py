"""Typed, frozen configs: the base class, and how a recipe file and dotted overrides become one.

Each component declares its own config beside itself, every field with its unit and source. A bad value is one line:
key, value, what is allowed.
"""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError, ValidationInfo, field_validator

from hcmoco import yaml_core
from hcmoco.config_errors import lines, models_of, renamed_keys, variant_of
from hcmoco.config_types import as_typed
from hcmoco.credentials import refuse_secrets
from hcmoco.errors import UserError, one_line
from hcmoco.masking import masked
from hcmoco.storage import join, read_file, split_file

FREE: dict[str, Any] = {"affects_result": False}
"""`Field(..., json_schema_extra=FREE)`.

A field that decides nothing about the result of a run, see `Config.identity`.
"""


def _identity(value: Any, dumped: Any) -> Any:
    if isinstance(value, Config):
        return value.identity()
    if isinstance(value, Mapping):
        return {str(key): _identity(item, dumped[str(key)]) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [_identity(item, plain) for item, plain in zip(value, dumped, strict=True)]
    return dumped


class Config(BaseModel):
    """Base of all configs: frozen, strict about unknown keys, defaults checked like values."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)

    renamed: ClassVar[Mapping[str, str]] = {}
    """Keys of earlier versions: old key -> what it is called now, or "removed: " and why. A subclass adds to its bases'
    entries.

    An old key in a recipe is refused in one line that names the new one. `upgrade` renames the keys of files that
    programs wrote, and `canonical` goes the other way: what a digest is taken over keeps its first names."""

    renamed_values: ClassVar[Mapping[str, Mapping[str, str]]] = {}
    """Values of earlier versions, by today's key.

    Old value -> what it is called now. `upgrade` and `canonical` follow them too.
    """

    first_defaults: ClassVar[Mapping[str, Any]] = {}
    """What was done before a key existed, where that is not what today's default does. It tells what a file that lacks
    the key was written with."""

    @field_validator("*", mode="before")
    @classmethod
    def _as_typed(cls, value: Any, info: ValidationInfo) -> Any:
        return as_typed(cls.model_fields[str(info.field_name)].annotation, value)

    def identity(self) -> dict[str, Any]:
        """Return what decides the result of a run, as JSON values: every field but those declared with `FREE`.

        A resumed run must have the same; what is left out (folders, workers, threads, how often something is logged or
        saved) may change.
        """
        dumped = self.model_dump(mode="json")
        return {
            name: _identity(getattr(self, name), dumped[name])
            for name, field in type(self).model_fields.items()
            if name in dumped and field.json_schema_extra != FREE
        }

    @classmethod
    def variant(cls, values: Mapping[str, Any]) -> "type[Config]":
        """Return the class that `values` are checked by where a field declares `cls`.

        It is `cls` itself, unless a value tells which of several subclasses is meant, as a task's name does.
        """
        return cls


T = TypeVar("T", bound=Config)


def load_recipe(path: str | Path) -> dict:
    """The mapping in a YAML recipe at a path or URI. `extends: other` starts from the recipe `other.yaml` beside it and
    merges this one over it; `extends: other.yaml` is the same.

    Raises UserError for a file that is missing, not YAML or not a mapping.
    """
    place = str(path)
    try:
        values = yaml_core.load(_recipe_bytes(place).decode())
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"recipe {path} is not valid YAML: {one_line(error)}") from None
    if not isinstance(values, dict):
        raise UserError(f"recipe {path} must be a mapping of keys to values, it is {type(values).__name__}")
    parent = values.pop("extends", None)
    if not parent:
        return values
    name = str(parent) if str(parent).endswith((".yaml", ".yml")) else f"{parent}.yaml"
    beside = join(split_file(place)[0], name) if "://" in place else Path(place).parent / name
    return merge(load_recipe(beside), values)


def _recipe_bytes(place: str) -> bytes:
    if "://" in place:
        try:
            return read_file(place)
        except OSError:
            raise UserError(f"recipe {place} does not exist") from None
    path = Path(place)
    if path.is_dir():
        raise UserError(f"recipe {path} is a folder; give a YAML file in it, or the name of a recipe")
    if not path.is_file():
        known = sorted(each.stem for each in path.parent.glob("*.yaml") if each.is_file())
        raise UserError(f"recipe {path} does not exist; in {path.parent} there are: {', '.join(known) or 'none'}")
    return path.read_bytes()


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
    """`["objective.tau_g=0.1", ...]` as a nested mapping; values are read as `yaml_core.load_argument` says.

    Raises UserError for an argument without `=`, and for a key that two arguments set.
    """
    values: dict = {}
    given: dict[tuple[str, ...], tuple[int, str]] = {}
    for number, override in enumerate(overrides):
        key, equals, text = override.partition("=")
        if not equals or not key:
            raise UserError(f"override {masked(override)!r} is not of the form key=value, for example optim.lr=0.01")
        try:
            value = yaml_core.load_argument(text)
        except yaml.YAMLError as error:
            said = one_line(error)
            why = said if "appears twice" in said else "the value is not valid YAML; quote it if it is text"
            raise UserError(f"override {masked(override)!r}: {why}") from None
        path = tuple(key.split("."))
        for leaf in _leaves(path, value):
            for other, (earlier, before) in given.items():
                if earlier < number and leaf[: len(other)] == other[: len(leaf)]:
                    twice = ".".join(leaf if len(leaf) > len(other) else other)
                    raise UserError(
                        f"{twice} is given twice, by {masked(before)!r} and by {masked(override)!r}; keep one of them"
                    )
            given[leaf] = number, override
        values = merge(values, nest(path, value)) if value is not None else _set_null(values, list(path))
    return values


def _leaves(path: tuple[str, ...], value: Any) -> list[tuple[str, ...]]:
    """Return the keys that a value sets: that of the value itself, or those of a mapping's values."""
    if not isinstance(value, dict) or not value:
        return [path]
    return [leaf for key, item in value.items() for leaf in _leaves((*path, str(key)), item)]


def _set_null(values: dict, path: list[str]) -> dict:
    """`merge` reads null as 'remove', so an override to null is kept as an explicit entry."""
    if len(path) == 1:
        return {**values, path[0]: None}
    inner = values.get(path[0])
    return {**values, path[0]: _set_null(inner if isinstance(inner, dict) else {}, path[1:])}


def build(cls: type[T], values: dict[str, Any], where: str) -> T:
    """A checked config of class `cls`; UserError with one line per run that names the first bad keys, their values and
    what is allowed. A URI with a password or a secret key in it is refused too."""
    refuse_secrets(values, where)
    try:
        return cls.model_validate(values)
    except ValidationError as error:
        raise UserError(f"{where}: {lines(cls, values, error.errors())}") from None


def upgrade(cls: type[BaseModel], values: Any) -> Any:
    """Give a mapping that an earlier version wrote the keys of this one.

    For files that programs write (exports, saved models, manifests); recipes are people's, and are told instead.

    Args:
        cls: the config whose values these are, as `model_dump` gave them.
        values: the mapping; anything else is returned as it is.
    """
    if not isinstance(values, dict):
        return values
    result: dict = {}
    for old, value in values.items():
        *parents, key = str(_moved_keys(cls).get(old, old)).split(".")
        value = _renamed_value(cls, key, value, back=False)
        field = cls.model_fields.get(parents[0] if parents else key)
        models = models_of(field.annotation) if field else []
        if not parents and models:
            value = _below(upgrade, models, value)
        result = merge(result, nest([*parents, key], value)) if parents else {**result, key: value}
    return result


def canonical(cls: type[BaseModel], values: Any) -> Any:
    """Give a mapping with this version's keys the names that they had first: the inverse of `upgrade`.

    A digest of the canonical form stays the same when a key or a value is only renamed, or moves into a group of its
    own.

    Args:
        cls: the config whose values these are, as `model_dump` gave them; keys may be left out.
        values: the mapping; anything else is returned as it is.
    """
    if not isinstance(values, dict):
        return values
    first: dict[str, str] = {}
    for old, new in _moved_keys(cls).items():
        first.setdefault(new, old)
    result: dict = {}
    for key, value in values.items():
        field = cls.model_fields.get(key)
        models = models_of(field.annotation) if field else []
        if models:
            value = _below(canonical, models, value)
        moved = {path: old for path, old in first.items() if path.startswith(f"{key}.")}
        if moved and isinstance(value, dict):
            value = dict(value)
            for path, old in moved.items():
                leaf = path.removeprefix(f"{key}.")
                if leaf in value:
                    result[old] = value.pop(leaf)
            if not value:
                continue
        result[first.get(key, key)] = _renamed_value(cls, key, value, back=True)
    return result


def _moved_keys(cls: type[BaseModel]) -> dict[str, str]:
    return {old: new for old, new in renamed_keys(cls).items() if not new.startswith("removed: ")}


def _renamed_value(cls: type[BaseModel], key: str, value: Any, *, back: bool) -> Any:
    tables = [vars(base).get("renamed_values", {}).get(key, {}) for base in cls.__mro__]
    pairs = {old: new for table in tables for old, new in table.items()}
    if back:
        pairs = {new: old for old, new in pairs.items()}
    return pairs.get(value, value) if isinstance(value, str) else value


def _below(rename: Callable[[type[BaseModel], Any], Any], models: list[type[BaseModel]], value: Any) -> Any:
    """Apply `rename` to what stands under one key: a config, a list of configs, or a mapping of names to configs."""
    if isinstance(value, list | tuple):
        return [_below(rename, models, item) for item in value]
    if not isinstance(value, dict):
        return value
    models = [variant_of(model, value) for model in models]
    known = {model: {*model.model_fields, *renamed_keys(model)} for model in models}
    best = max(models, key=lambda model: len(value.keys() & known[model]))
    if len(models) == 1 and not value.keys() & known[best]:
        return {key: rename(best, item) for key, item in value.items()}
    return rename(best, value)


def fingerprint(value: Any) -> str:
    """Return the SHA-256 of `value` as JSON with sorted keys, as a hexadecimal string.

    Raises TypeError for what JSON cannot hold.
    """
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def nest(path: Sequence[str], value: Any) -> dict:
    """`{"a": {"b": value}}` of the path `["a", "b"]`."""
    for part in reversed(path):
        value = {part: value}
    return value


def first_difference(was: Any, now: Any, *, key: str = "", sort: bool = True) -> tuple[str, Any, Any] | None:
    """Find the first difference of two JSON values.

    Args:
        was: the earlier value.
        now: the other value.
        key: dotted key of both values.
        sort: compare keys in sorted order; else in the order of `now`, then those that only `was` has.

    Returns:
        The dotted key, the earlier value there and the other one; None if the values are equal.
    """
    if isinstance(was, dict) and isinstance(now, dict):
        names = dict.fromkeys([*now, *was])
        pairs = [(name, was.get(name), now.get(name)) for name in (sorted(names) if sort else names)]
    elif isinstance(was, list) and isinstance(now, list) and len(was) == len(now):
        pairs = [(str(number), *pair) for number, pair in enumerate(zip(was, now, strict=True))]
    else:
        return None if was == now else (key, was, now)
    for name, *pair in pairs:
        if found := first_difference(*pair, key=f"{key}.{name}" if key else name, sort=sort):
            return found
    return None
