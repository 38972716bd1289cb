"""Load YAML in which no mapping has a key twice. YAML's loader takes the last one without a word."""

from typing import Any

import yaml


class _Loader(yaml.SafeLoader):
    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        seen: dict[str, yaml.Node] = {}
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value != "<<":
                if key.value in seen:
                    lines = f"lines {seen[key.value].start_mark.line + 1} and {key.start_mark.line + 1}"
                    raise yaml.YAMLError(f"the key {key.value!r} appears twice, in {lines}; keep one of them")
                seen[key.value] = key
        return super().construct_mapping(node, deep)


def load(text: str) -> Any:
    """Return what a YAML document holds.

    Raises:
        yaml.YAMLError: it is not valid, or a mapping has a key twice.
    """
    loader = _Loader(text)
    try:
        return loader.get_single_data()
    finally:
        loader.dispose()
