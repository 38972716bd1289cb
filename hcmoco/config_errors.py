"""Say in one line what is wrong with the values of a config, by the key that a user wrote."""

from collections.abc import Mapping
from typing import Any, get_args

from pydantic import BaseModel


def line(cls: type[BaseModel], values: Any, error: Any) -> str:
    """Return what an error of pydantic means for whoever wrote the values: the key, the value, what is allowed.

    Args:
        cls: config that was built.
        values: that it was built from.
        error: one of `ValidationError.errors()`.
    """
    key, known, renamed = _place(cls, values, error["loc"])
    if error["type"] == "extra_forbidden":
        leaf = str(error["loc"][-1])
        if new := renamed.get(leaf):
            parent = key.removesuffix(leaf)
            return f"{key!r} is {new}" if new.startswith("removed: ") else f"{key!r} is now called {parent + new!r}"
        return f"unknown key {key!r}" + (f"; allowed here: {', '.join(known)}" if known else "")
    if error["type"] == "missing":
        return f"key {key!r} is missing"
    message = error["msg"].removeprefix("Value error, ")
    if not key:
        return message
    # What is wrong with several keys together names them itself; their whole mapping would bury it.
    return f"{key}: {message}" if isinstance(error["input"], dict) else f"{key} = {error['input']!r}: {message}"


def _place(cls: type[BaseModel], values: Any, path: tuple) -> tuple[str, list[str], dict[str, str]]:
    """The dotted key of `path` in `values`, the keys allowed beside its last part, and the renamed ones."""
    options, beside = [cls], [cls]
    key: list[str] = []
    for part in path:
        if not isinstance(values, Mapping) and not (isinstance(values, list | tuple) and isinstance(part, int)):
            continue  # the name of a type that the value could have had
        key.append(str(part))
        beside = [variant_of(option, values) for option in options]
        annotation = next(
            (option.model_fields[part].annotation for option in beside if part in option.model_fields), None
        )
        if annotation is not None:
            options = models_of(annotation)
        values = _item(values, part)
    renamed = {old: new for option in beside for old, new in renamed_keys(option).items()}
    return ".".join(key), list(beside[0].model_fields) if beside else [], renamed


def _item(values: Any, part: Any) -> Any:
    """Return what lies at a key of a mapping or at a position of a sequence; None where there is nothing."""
    if isinstance(values, Mapping):
        return values.get(part)
    return values[part] if part < len(values) else None


def variant_of(cls: type[BaseModel], values: Any) -> type[BaseModel]:
    """Return the model that the values are of, where a config has several."""
    return cls.variant(values) if hasattr(cls, "variant") and isinstance(values, Mapping) else cls


def models_of(annotation: Any) -> list[type[BaseModel]]:
    """The models that an annotation names, through Optional, unions, containers and Annotated."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for argument in get_args(annotation) for model in models_of(argument)]


def renamed_keys(cls: type[BaseModel]) -> dict[str, str]:
    """Collect `renamed` of a config class and of its bases."""
    return {old: new for base in reversed(cls.__mro__) for old, new in vars(base).get("renamed", {}).items()}
