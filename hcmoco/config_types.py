"""Give a field what was typed, by the field's own type: text its text, a number a number."""

import functools
import re
from collections.abc import Callable, Mapping
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel

from hcmoco.yaml_core import Typed, plain

# Python reads 2024_01 as 202401, in a text too.
_UNDERSCORED = re.compile(r"\s*[-+]?[0-9.]*[0-9]_[0-9_.eE+-]*\s*")


def as_typed(annotation: Any, value: Any) -> Any:
    """Return a field's value by the field's type.

    Args:
        annotation: type of the field.
        value: as it was given; one that was read from YAML knows its text.

    Returns:
        The text where the field is text; else the value without it. What is in configs below is left to their fields.

    Raises:
        ValueError: the field is a number, and the value is true or false, or digits with `_` between them.
    """
    if type(value) in (list, tuple) and set(map(type, value)) <= {int, float}:
        return value  # a manifest has millions of them
    named = _named(annotation)
    if is_numeric(annotation):
        if _holds(value, lambda each: isinstance(each, bool)):
            raise ValueError("must be a number, not true or false")
        if str not in named and _holds(value, _is_underscored):
            raise ValueError("must be a number, without _ between its digits")
    has_models = any(isinstance(kind, type) and issubclass(kind, BaseModel) for kind in named)
    if str in named and not {int, float, bool, Any} & named:
        return _texts(value, whole=not _is_container(annotation), deep=not has_models)
    return value if has_models and isinstance(value, dict | list | tuple) else plain(value)


def _texts(value: Any, *, whole: bool, deep: bool) -> Any:
    if isinstance(value, Typed) and (whole or not isinstance(value, dict | list)):
        return value.text
    if deep and isinstance(value, dict):
        return {key: _texts(item, whole=False, deep=True) for key, item in value.items()}
    if deep and isinstance(value, list):
        return [_texts(item, whole=False, deep=True) for item in value]
    return value


def _is_container(annotation: Any) -> bool:
    """Return whether a list or a mapping is a value of the annotation."""
    origin = get_origin(annotation)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return True
    if isinstance(origin, type) and issubclass(origin, list | tuple | Mapping):
        return True
    return origin is not Literal and any(map(_is_container, get_args(annotation)))


def _is_underscored(value: Any) -> bool:
    return isinstance(value, str) and _UNDERSCORED.fullmatch(value) is not None


def _holds(value: Any, what: Callable[[Any], bool]) -> bool:
    """Return whether `what` is true of a value, or of one in a list or a mapping."""
    if isinstance(value, Mapping):
        return any(_holds(each, what) for each in value.values())
    return what(value) or (isinstance(value, list | tuple) and any(_holds(each, what) for each in value))


@functools.cache
def is_numeric(annotation: Any) -> bool:
    """Return whether an annotation names numbers, and neither true and false nor a model.

    To Python true is the number 1, so pydantic takes it for one.
    """
    named = _named(annotation)
    return bool({int, float} & named) and not any(
        kind in (bool, Any) or (isinstance(kind, type) and issubclass(kind, BaseModel)) for kind in named
    )


def is_text(annotation: Any) -> bool:
    """Return whether an annotation names nothing but text, or null."""
    return _named(annotation) - {type(None)} == {str} and not _is_container(annotation)


@functools.cache
def _named(annotation: Any) -> frozenset[Any]:
    """Return the types that an annotation names, through unions, containers and Annotated."""
    if get_origin(annotation) is Literal:
        return frozenset(type(value) for value in get_args(annotation))
    parts = get_args(annotation)
    return frozenset().union(*map(_named, parts)) if parts else frozenset({annotation})
