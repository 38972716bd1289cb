"""The contract between a data set's reader and the programs that prepare it.

A new data set is one module with a `DatasetReader`, and one line in `registry.py`.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

import numpy as np

from hcmoco.config import Config
from hcmoco.data.schema import Person, Scene
from hcmoco.datasets.io.inventory import Inventory
from hcmoco.detection.detector import Detected
from hcmoco.errors import UserError

_MAX_TEXT = 500
_URI = "://"


@dataclass(frozen=True)
class _NamedReason:
    id: str
    reason: str

    def __post_init__(self) -> None:
        # Both end up in reports: neither may break a line or an encoder, nor fill a page.
        for name, value in (("id", self.id), ("reason", self.reason)):
            text = " ".join(value.split())
            text = text if len(text) <= _MAX_TEXT else f"{text[: _MAX_TEXT // 2 - 2]}...{text[1 - _MAX_TEXT // 2 :]}"
            object.__setattr__(self, name, text.encode(errors="backslashreplace").decode())


class Rejected(_NamedReason):
    """An invalid record.

    Attributes:
        id: of the record.
        reason: one sentence for people.
    """


class Skipped(_NamedReason):
    """A valid record that a rule of the data set or of its reader excludes.

    Attributes:
        id: of the record.
        reason: names the rule, always in the same words.
    """


Outcome = Person | Scene | Rejected | Skipped
ConfigT = TypeVar("ConfigT", bound=Config)


class Item(Protocol):
    """What a reader reads at once."""

    @property
    def id(self) -> str:
        """Return the name of the item in reports."""


ItemT = TypeVar("ItemT", bound=Item)


@dataclass(frozen=True, eq=False)
class Shown:
    """A picture of an item in which a detector looks for people.

    Attributes:
        key: which of the item's pictures.
        rgb: uint8 [H, W, 3], RGB, as the item's record is cut from.
        boxes: for each line of the item that asks, float [4], x0, y0, x1, y1 of its person in pixels; None: the line is
            of everybody in the picture.
    """

    key: str
    rgb: np.ndarray
    boxes: Sequence[np.ndarray | None]


@dataclass(frozen=True, eq=False)
class Found:
    """Who is in a picture.

    Attributes:
        size: width and height of the picture, pixels.
        people: for each line that asks, as of Shown.boxes.
    """

    size: tuple[int, int]
    people: Sequence[Sequence[Detected]]


@dataclass(frozen=True)
class ToDetect(Generic[ItemT]):
    """What a reader adds whose config has `DetectOptions`.

    Attributes:
        shown: item -> its pictures in which people are to be found, in an order of its own; nothing where none are.
            Raises ValueError where a picture cannot be used: the rest of the item is read as if there was no detector.
        with_people: (item, {key: who is in the picture}) -> the items to read in its place.
    """

    shown: Callable[[ItemT], Iterator[Shown]]
    with_people: Callable[[ItemT, Mapping[str, Found]], Sequence[ItemT | Rejected | Skipped]]


@dataclass(frozen=True)
class DatasetReader(Generic[ConfigT, ItemT]):
    """The reader of one data set's own files.

    All functions are pure: items and calibrations are pickled, and may be read on any machine that has access to the
    files.

    Attributes:
        config_class: the reader's config; each field becomes a command-line flag. It must have `size`, the largest side
            of a stored image in pixels.
        items: config -> what can be read, in the source's own order; an entry that cannot be used is Rejected or
            Skipped at once. Raises UserError if the source as a whole is missing or malformed.
        read: item -> its record, or its records one after the other if an item is a clip, a video or a chunk.
        inventory: config -> what is present and what is missing, for `prepare --check`.
        unit: what an item is called, in the plural.
        rows_per_item: about how many records an item gives.
        root: field of the config that names the folder with the source's files.
        raycaster: () -> what renders records that are synthetic, for the manifest; None: records are not synthetic.
        name: config -> what ids and the manifest call the data set; None: its key in the registry.
        joint_set, joint_set_3d, depth_codec: of the records, or a function of the config that chooses them; "" if the
            records have none.
        label_map: config -> name of the label map of the records' parts, see `LabelMap.stored_as`; None: Human3.6M's.
        depth_masking: whether depth shows the person alone (data/depth_masking.py), or a function of the config that
            tells; "": the rows are looked at.
        resolve: config -> the config with what the files themselves decide, and lines that say what that is; None: the
            files decide nothing. Called once, before anything else. Raises UserError if they do not decide.
        calibrations: (config, items) -> {name: what to measure}, for sources on which something is measured over many
            items first.
        calibrate: what to measure -> the measurement, as JSON values.
        with_calibrations: (config, items, {name: measurement}) -> items that hold their measurement. Raises UserError
            if no item is left to read.
        sampled: (config, items) -> the few of them that `prepare --check` reads, with their calibrations. Raises
            UserError if a calibration fails. None: some that are spread over all, calibrated on these alone.
        to_detect: how `prepare --detect` finds the people of its pictures; None: it cannot.
    """

    config_class: type[ConfigT]
    items: Callable[[ConfigT], Sequence[ItemT | Rejected | Skipped]]
    read: Callable[[ItemT], Outcome | Iterable[Outcome]]
    inventory: Callable[[ConfigT], Inventory]
    unit: str = "records"
    rows_per_item: int = 1
    root: str = "source"
    raycaster: Callable[[], str] | None = None
    name: Callable[[ConfigT], str] | None = None
    joint_set: str | Callable[[ConfigT], str] = ""
    joint_set_3d: str | Callable[[ConfigT], str] = ""
    depth_codec: str | Callable[[ConfigT], str] = "png16"
    label_map: Callable[[ConfigT], str] | None = None
    depth_masking: str | Callable[[ConfigT], str] = ""
    resolve: Callable[[ConfigT], tuple[ConfigT, list[str]]] | None = None
    calibrations: Callable[[ConfigT, Sequence[ItemT | Rejected | Skipped]], Mapping[str, Any]] | None = None
    calibrate: Callable[[Any], dict] | None = None
    with_calibrations: (
        Callable[
            [ConfigT, Sequence[ItemT | Rejected | Skipped], Mapping[str, dict]], Sequence[ItemT | Rejected | Skipped]
        ]
        | None
    ) = None
    sampled: Callable[[ConfigT, Sequence[ItemT | Rejected | Skipped]], Sequence[ItemT | Rejected | Skipped]] | None = (
        None
    )
    to_detect: ToDetect[ItemT] | None = None

    def __post_init__(self) -> None:
        if len({part is None for part in (self.calibrations, self.calibrate, self.with_calibrations)}) > 1:
            raise TypeError("a reader has all of calibrations, calibrate and with_calibrations, or none")

    def joints(self, config: ConfigT) -> str:
        """Return the name of the joint set of the records' 2D keypoints, "" if they have none."""
        return self.joint_set if isinstance(self.joint_set, str) else self.joint_set(config)

    def joints_3d(self, config: ConfigT) -> str:
        """Return the name of the joint set of the records' 3D joints, "" if they have none."""
        return self.joint_set_3d if isinstance(self.joint_set_3d, str) else self.joint_set_3d(config)

    def codec(self, config: ConfigT) -> str:
        """Return the codec of the records' depth."""
        return self.depth_codec if isinstance(self.depth_codec, str) else self.depth_codec(config)

    def masking(self, config: ConfigT) -> str:
        """Return what is known beforehand of the records' depth: masked, unmasked, or "" where the rows tell."""
        return self.depth_masking if isinstance(self.depth_masking, str) else self.depth_masking(config)

    def folder(self, config: ConfigT) -> str:
        """Return the absolute path of the folder with the source's files, "" for a source without files.

        Raises:
            UserError: the folder is a URI; raw files are opened by libraries that know paths only.
        """
        value = config.model_dump(include={self.root}).get(self.root, "")
        if _URI in value:
            raise UserError(
                f"--{self.root} {value} is a URI; raw files are read from a folder: mount or copy it to where every "
                "machine of the cluster sees it"
            )
        return absolute_folder(value) if value else ""

    def rooted(self, config: ConfigT) -> ConfigT:
        """Return the config with an absolute source folder, since tasks on a cluster have another working directory."""
        folder = self.folder(config)
        return config.model_copy(update={self.root: folder}) if folder else config

    def outcomes(self, item: ItemT | Rejected | Skipped) -> list[Outcome]:
        """Return the records of one item, always as a list. A Rejected or Skipped item is its own outcome."""
        return list(self.stream(item))

    def stream(self, item: ItemT | Rejected | Skipped) -> Iterator[Outcome]:
        """Yield the records of one item, as `outcomes` has them; a video is decoded no further than is asked for."""
        found = item if isinstance(item, Rejected | Skipped) else self.read(item)
        if isinstance(found, Person | Scene | Rejected | Skipped):
            yield found
        else:
            yield from found


def absolute_folder(path: str) -> str:
    """Return `path` as an absolute path, with ~ expanded."""
    return os.path.abspath(os.path.expanduser(path))


def calibrated(
    reader: DatasetReader[ConfigT, ItemT], config: ConfigT, items: Sequence[ItemT | Rejected | Skipped]
) -> Sequence[ItemT | Rejected | Skipped]:
    """Return items with their calibrations, which are measured in this process.

    Raises:
        UserError: no item is left to read, or a calibration cannot be measured.
    """
    if not (reader.calibrations and reader.calibrate and reader.with_calibrations):
        return items
    wanted = reader.calibrations(config, items)
    measured = {name: reader.calibrate(calibration) for name, calibration in wanted.items()}
    return reader.with_calibrations(config, items, measured) if measured else items


def read_all(reader: DatasetReader[ConfigT, ItemT], config: ConfigT) -> Iterator[Outcome]:
    """Read a whole data set in this process.

    Args:
        reader: e.g. `hcmoco.datasets.mpii.READER`.
        config: its settings.

    Yields:
        Every outcome in the source's own order: Person or Scene, Rejected, Skipped.

    Raises:
        UserError: the source as a whole is missing or malformed.
    """
    for item in calibrated(reader, config, reader.items(config)):
        yield from reader.outcomes(item)
