"""Say in one line what is wrong with the values of a config, by the key that a user wrote."""

from collections.abc import Mapping, Sequence
from typing import Any, get_args

from pydantic import BaseModel

_SHOWN = 3
# What pydantic calls the rule that a value breaks -> what is allowed. The names in braces are the rule's own.
_ALLOWED = {
    **dict.fromkeys(("int_type", "int_parsing", "int_from_float"), "must be a whole number"),
    "int_parsing_size": "must be a number of fewer digits",
    "multiple_of": "must be a multiple of {multiple_of}",
    **dict.fromkeys(("float_type", "float_parsing"), "must be a number"),
    "finite_number": "must be a finite number",
    **dict.fromkeys(("bool_type", "bool_parsing"), "must be true or false"),
    "string_type": "must be text; put it in double quotes (on a command line with single ones around them)",
    "string_too_short": "must have at least {min_length} characters",
    "string_too_long": "must have at most {max_length} characters",
    "string_pattern_mismatch": "must be of the form {pattern}",
    "string_unicode": "must be text in UTF-8",
    "bytes_type": "must be bytes",
    "invalid_key": "must have keys that are text",
    **dict.fromkeys(("tuple_type", "list_type", "iterable_type"), "must be a list"),
    **dict.fromkeys(("set_type", "frozen_set_type"), "must be a list without an entry twice"),
    **dict.fromkeys(
        ("dict_type", "mapping_type", "model_type", "model_attributes_type"), "must be a mapping of keys to values"
    ),
    "enum": "must be {expected}",
    "none_required": "must be null",
    "literal_error": "must be {expected}",
    "greater_than": "must be greater than {gt}",
    "greater_than_equal": "must be at least {ge}",
    "less_than": "must be less than {lt}",
    "less_than_equal": "must be at most {le}",
    "too_short": "must have at least {min_length} entries, it has {actual_length}",
    "too_long": "must have at most {max_length} entries, it has {actual_length}",
}


def lines(cls: type[BaseModel], values: Any, errors: Sequence[Any]) -> str:
    """Return what the first errors of pydantic mean for whoever wrote the values: keys, values, what is allowed.

    A value that may be of several types breaks a rule of each: they are alternatives, told once.

    Args:
        cls: config that was built.
        values: that it was built from.
        errors: `ValidationError.errors()`.
    """
    told: dict[str, list[str]] = {}
    for error in errors:
        start, rule = _told(cls, values, error)
        rules = told.setdefault(start, [])
        rule = rule.removeprefix("be ") if rules else rule
        if rule and rule not in rules:
            rules.append(rule)
    parts = [f"{start}: must {' or '.join(rules)}" if rules else start for start, rules in told.items()]
    return "; ".join(parts[:_SHOWN])


def rule_of(error: Any) -> str:
    """Return what is allowed where one of pydantic's errors is, in our words."""
    if error["type"] == "missing":
        return "is missing"
    if error["type"] == "extra_forbidden":
        return "is not known"
    rule = _ALLOWED.get(error["type"])
    if rule is None:
        return error["msg"].removeprefix("Value error, ")
    text = rule.format(**error.get("ctx", {}))
    return text.replace(" 1 entries", " 1 entry").replace(" 1 characters", " 1 character")


def _told(cls: type[BaseModel], values: Any, error: Any) -> tuple[str, str]:
    """Return key and value, and behind "must" what is allowed; or a whole sentence and ""."""
    key, known, renamed = _place(cls, values, error["loc"])
    if error["type"] == "extra_forbidden":
        leaf = str(error["loc"][-1])
        if new := renamed.get(leaf):
            parent = key.removesuffix(leaf)
            return f"{key!r} is {new}" if new.startswith("removed: ") else f"{key!r} is now called {parent + new!r}", ""
        return f"unknown key {key!r}" + (f"; allowed here: {', '.join(known)}" if known else ""), ""
    if error["type"] == "missing":
        return f"key {key!r} is missing", ""
    message = rule_of(error)
    if not key:
        return message, ""
    # What is wrong with several keys together names them itself; their whole mapping would bury it.
    start = key if isinstance(error["input"], dict) else f"{key} = {_shown(error['input'])}"
    allowed = message.removeprefix("must ")
    return (f"{start}: {message}", "") if allowed == message else (start, allowed)


def _shown(value: Any) -> str:
    """Return a value as a recipe spells it where Python spells it in another way."""
    if value is None:
        return "null"
    return str(value).lower() if isinstance(value, bool) else repr(value)


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
