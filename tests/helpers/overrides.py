"""Overrides of a test: a later one takes the place of an earlier one, which the programs refuse."""

from collections.abc import Sequence


def last_of_each(arguments: Sequence[str]) -> list[str]:
    """The arguments without those overrides whose key comes again later."""
    keys = [each.partition("=")[0] if "=" in each and not each.startswith("-") else "" for each in arguments]
    return [each for number, each in enumerate(arguments) if not keys[number] or keys[number] not in keys[number + 1 :]]
