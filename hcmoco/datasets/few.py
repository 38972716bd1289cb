"""The few records that tell what reading a data set will say: what `prepare --check` reads."""

from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Any, TypeVar

from hcmoco.datasets.base import DatasetReader, Outcome, Rejected, Skipped, calibrated
from hcmoco.errors import UserError

ItemT = TypeVar("ItemT")
FEW = 20
"""Records that are read of a data set, and files of which some are."""
_MEASURED, _READ = 32, 2  # files on which a calibration is tried, and of which records are read
_LEAST_OF_FILE = 4
_PASSED_OVER = 500  # frames of a file that a rule excludes, until the rest of it is left alone


def spread(every: Sequence[ItemT], count: int = FEW) -> list[ItemT]:
    """Return at most `count` of a sequence, evenly spread over it."""
    count = min(count, len(every))
    return [every[k * len(every) // count] for k in range(count)]


def readable(items: Sequence[Any]) -> list[Any]:
    """Return the items that are neither Rejected nor Skipped already."""
    return [each for each in items if not isinstance(each, Rejected | Skipped)]


def calibrated_few(
    config: Any,
    items: Sequence[Any],
    group: Callable[[Any], str],
    measure: Callable[[Any, Sequence[Any]], Sequence[Any]],
) -> list[Any]:
    """Return a few items of one group, calibrated on more of it: for `DatasetReader.sampled`.

    Args:
        config: of the reader.
        items: that it returned.
        group: item -> what is calibrated together.
        measure: (config, items of a group) -> the items with their calibration. Raises UserError if it fails.
    """
    every = readable(items)
    if not every:
        return []
    name = group(every[len(every) // 2])
    try:
        return spread(measure(config, spread([each for each in every if group(each) == name], _MEASURED)), _READ)
    except UserError as error:
        return [Rejected(name, str(error))]


def read_few(reader: DatasetReader[Any, Any], config: Any, items: Sequence[Any]) -> Iterator[Outcome]:
    """Read a few records: of pictures some that are spread over all of them, of files with many the first ones.

    Args:
        reader: of the data set.
        config: its settings.
        items: what `reader.items` returned.

    Yields:
        Person or Scene, and Rejected; what a rule excludes is not counted.

    Raises:
        UserError: a calibration fails.
    """
    few = spread(readable(items), max(_READ, FEW // reader.rows_per_item))
    chosen = reader.sampled(config, items) if reader.sampled else calibrated(reader, config, few)
    most = max(_LEAST_OF_FILE, FEW // max(1, len(chosen)))
    for item in chosen:
        found = islice(reader.stream(item), _PASSED_OVER)
        yield from islice((each for each in found if not isinstance(each, Skipped)), most)
