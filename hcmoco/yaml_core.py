"""Read YAML as people type it: by the core schema of YAML 1.2, and with no key twice in a mapping.

PyYAML reads YAML 1.1, where 010 is 8, 1:30 is 90, `no` is false, 2024_01 is 202401 and 2024-01-01 a date. Here the
first is 10 and the others are text. (ruamel.yaml drops the 1.1 rules for 010, 1:30 and `no` only.) Numbers keep the
text that they were read from, for a field that is text: a folder that is called 010 is not folder 10.

Source: YAML 1.2.2, section 10.3.2, https://yaml.org/spec/1.2.2/#1032-tag-resolution
"""

import re
from typing import Any

import yaml

INT = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
FLOAT = re.compile(
    r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)"
)
_NULL = re.compile(r"~|null|Null|NULL|")
_BOOL = re.compile(r"true|True|TRUE|false|False|FALSE")


class Typed:
    """Mixin of a value that was read from a text and keeps it.

    Attributes:
        text: as it was typed.
    """

    text: str


class _Int(int, Typed):
    pass


class _Float(float, Typed):
    pass


class _List(list, Typed):
    pass


class _Dict(dict, Typed):
    pass


_KINDS: dict[type, type] = {int: _Int, float: _Float, list: _List, dict: _Dict}


def typed(value: Any, text: str) -> Any:
    """Return an equal value that keeps its text; true, false, null and text itself cannot."""
    kind = _KINDS.get(type(value))
    if kind is None:
        return value
    result = kind(value)
    result.text = text
    return result


def plain(value: Any) -> Any:
    """Return a value without the texts that it and what is in it were read from."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [plain(item) for item in value]
    if isinstance(value, Typed):
        return int(value) if isinstance(value, int) else float(value)  # type: ignore[arg-type]
    return value


def _resolvers(kind: Any, *, core_only: bool) -> None:
    """Give a loader or dumper the core schema's rules, instead of those that it has or beside them."""
    if core_only:
        kind.yaml_implicit_resolvers = {}
    for tag, rule, first in (
        ("null", _NULL, ["~", "n", "N", ""]),
        ("bool", _BOOL, list("tTfF")),
        ("int", INT, list("-+0123456789")),
        ("float", FLOAT, list("-+.0123456789")),
        ("merge", re.compile("<<"), ["<"]),  # not of 1.2, but recipes may have anchors
    ):
        kind.add_implicit_resolver(f"tag:yaml.org,2002:{tag}", re.compile(f"(?:{rule.pattern})\\Z"), first)


class _Loader(yaml.SafeLoader):
    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        seen: dict[str, yaml.Node] = {}
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.tag != "tag:yaml.org,2002:merge":
                if key.value in seen:
                    lines = [each.start_mark.line + 1 for each in (seen[key.value], key)]
                    where = f"in lines {lines[0]} and {lines[1]}" if lines[0] < lines[1] else f"in line {lines[0]}"
                    raise yaml.YAMLError(f"the key {key.value!r} appears twice, {where}; keep one of them")
                seen[key.value] = key
                key.tag = "tag:yaml.org,2002:str"  # the keys of a config are names
        return super().construct_mapping(node, deep)

    def construct_int(self, node: yaml.ScalarNode) -> int:
        text = self.construct_scalar(node)
        if not INT.fullmatch(text):
            raise yaml.constructor.ConstructorError(None, None, f"{text!r} is not a whole number", node.start_mark)
        return typed(int(text, 0) if text[:2] in ("0o", "0x") else int(text), text)

    def construct_float(self, node: yaml.ScalarNode) -> float:
        text = self.construct_scalar(node)
        if not FLOAT.fullmatch(text):
            raise yaml.constructor.ConstructorError(None, None, f"{text!r} is not a number", node.start_mark)
        return typed(float(re.sub(r"\.(?=[inIN])", "", text)), text)


_resolvers(_Loader, core_only=True)
_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_int)
_Loader.add_constructor("tag:yaml.org,2002:float", _Loader.construct_float)


class _Dumper(yaml.SafeDumper):
    """Quotes what either version of YAML reads as something else than text."""


_resolvers(_Dumper, core_only=False)


def load(text: str) -> Any:
    """Return what a YAML document holds. Keys of mappings are text.

    Raises:
        yaml.YAMLError: it is not valid, or a mapping has a key twice.
    """
    return _load(text)[0]


def _load(text: str) -> tuple[Any, yaml.Node | None]:
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
        return (None if node is None else loader.construct_document(node)), node
    except (ValueError, OverflowError, RecursionError) as error:  # a number of 5,000 digits, 1,000 brackets
        raise yaml.YAMLError(str(error)) from None
    finally:
        loader.dispose()


def load_argument(text: str) -> Any:
    """Return the value of an option or an override. It keeps its text, for a field that is text.

    What stands without quotes and is no number, list or mapping, true, false or null is text as it is, also where YAML
    has a comment, a tag or an anchor: `runs/a #1`, `%20`, `@x`.

    Raises:
        yaml.YAMLError: brackets or quotes are left open, or a mapping has a key twice.
    """
    if not text:
        return ""
    bare = text.strip()
    try:
        value, node = _load(text)
    except yaml.YAMLError:
        if bare[:1] in ("[", "{", '"', "'"):
            raise
        return bare
    if "\n" in bare:
        return value  # somebody wrote YAML
    if value is None:
        return None if _NULL.fullmatch(bare) else bare
    if isinstance(value, str):
        quoted = isinstance(node, yaml.ScalarNode) and node.style is not None
        return value if quoted or bare.startswith("!") else bare
    return typed(value, bare)


def dump(value: Any, *, flow: bool = False, width: int | None = None) -> str:
    """Return a value as YAML that reads the same by YAML 1.1 and 1.2."""
    return yaml.dump(plain(value), Dumper=_Dumper, sort_keys=False, default_flow_style=flow, width=width or 80)
