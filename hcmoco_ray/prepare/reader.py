"""A data set of the registry to prepare: its reader's config from the command line, and the facts of its manifest."""

import argparse
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, get_args, get_origin

import yaml
from pydantic_core import PydanticUndefined

import hcmoco
from hcmoco import yaml_core
from hcmoco.config import Config, build
from hcmoco.config_errors import renamed_keys
from hcmoco.config_types import is_text
from hcmoco.data.label_maps import DEFAULT_LABEL_MAP
from hcmoco.data.shards.manifest import About, Provenance
from hcmoco.datasets.base import DatasetReader, Item, Outcome, Rejected, Skipped
from hcmoco.datasets.few import read_few
from hcmoco.datasets.io.inventory import Inventory
from hcmoco.datasets.registry import REGISTRY, Entry
from hcmoco.errors import UserError, one_line

PROGRAM = "pipelines/prepare.py"
# On the command line scenes are an option of people.
_PEOPLE, _SCENES = "people", "scenes"


@dataclass(frozen=True)
class Source:
    """One data set to prepare: a reader and its config. Small to pickle.

    Attributes:
        kind: key of REGISTRY.
        config: the reader's config.
        seed: of the order in which rows are stored.
        license: for the manifest; "": the registry's.
        entry: of the registry; it is pickled with the source, so that a worker need not have registered it.
    """

    kind: str
    config: Config
    seed: int = 0
    license: str = ""
    entry: Entry = field(default=None)  # type: ignore[assignment]  # filled in below

    def __post_init__(self) -> None:
        object.__setattr__(self, "entry", self.entry or REGISTRY[self.kind])

    @cached_property
    def reader(self) -> DatasetReader[Any, Any]:
        """The reader, imported on first use."""
        return self.entry.load()

    def __getstate__(self) -> dict:
        return {name: value for name, value in vars(self).items() if name != "reader"}

    @property
    def name(self) -> str:
        """Name of the data set in ids and in the manifest."""
        return self.reader.name(self.config) if self.reader.name else self.kind

    @property
    def arguments(self) -> dict:
        """Everything that decides the content, as scalars for the manifest."""
        values = {
            name: json.dumps(value) if isinstance(value, dict | list) else value
            for name, value in self.config.model_dump(mode="json").items()
        }
        if "source" in values:  # a name that the manifest has for the data set itself
            del values["source"]
            values["download"] = self.folder
        own = {} if self.entry.numbered else {"shuffle_seed": self.seed}
        return {"source": self.kind, **values, **own}

    @property
    def about(self) -> About:
        """The manifest's first part. Raises UserError for a name that a manifest cannot have."""
        persons = self.entry.records == "person"
        values = {
            "kind": self.entry.records,
            "dataset": self.name,
            "joints": self.reader.joints(self.config) if persons else "",
            "joints3d": self.reader.joints_3d(self.config) if persons else "",
            "label_map": self.reader.label_map(self.config) if self.reader.label_map else DEFAULT_LABEL_MAP,
            "depth_codec": self.reader.codec(self.config) if persons else "png16",
            "depth_masking": self.reader.masking(self.config) if persons else "",
            "size": self.config.model_dump(include={"size"})["size"],
            "license": self.license or self.entry.license,
            "page": self.entry.page,
            "unit": self.unit if self.rows_per_item > 1 else "records",
            "provenance": Provenance(program=PROGRAM, arguments=self.arguments, version=hcmoco.__version__),
        }
        return build(About, values, f"data set {self.name!r}")

    @property
    def raycaster(self) -> str:
        """What renders synthetic records in this process, "" for other data. It decides rounding, so it is no argument.

        Raises:
            UserError: see `hcmoco.synthetic.raycaster`.
        """
        return self.reader.raycaster() if self.reader.raycaster else ""

    @property
    def unit(self) -> str:
        """Name of the items, in the plural, for lines of progress."""
        return self.reader.unit

    @property
    def rows_per_item(self) -> int:
        """Approximate number of records of an item."""
        return self.reader.rows_per_item

    @property
    def folder(self) -> str:
        """Absolute path of the folder with the source's files, "" for a source without files."""
        return self.reader.folder(self.config)

    @cached_property
    def _rooted(self) -> Config:
        return self.reader.rooted(self.config)

    def resolved(self) -> tuple["Source", list[str]]:
        """Return the source with what its files decide, and lines that say what that is.

        Raises:
            UserError: a file is missing, or they do not decide.
        """
        if self.reader.resolve is None:
            return self, []
        config, lines = self.reader.resolve(self.config)
        return replace(self, config=config), lines

    def inventory(self) -> Inventory:
        """List what exists and what is missing or unreadable.

        Raises:
            UserError: the source as a whole is unusable.
        """
        return self.reader.inventory(self._rooted)

    def items(self) -> Sequence:
        """Return the items, in the source's own order.

        Raises:
            UserError: the source is missing or malformed.
        """
        return self.reader.items(self._rooted)

    def calibrations(self, items: Sequence) -> Mapping[str, Any]:
        """Return the calibrations to measure before any item is read, by name; empty for most sources."""
        return self.reader.calibrations(self._rooted, items) if self.reader.calibrations else {}

    def calibrate(self, calibration: Any) -> dict:
        """Measure one of `calibrations`."""
        if self.reader.calibrate is None:
            raise TypeError(f"the reader of {self.kind} has no calibrations")
        return self.reader.calibrate(calibration)

    def with_calibrations(self, items: Sequence, measured: Mapping[str, dict]) -> Sequence:
        """Return items that hold the measured calibrations.

        Raises:
            UserError: no item can be read.
        """
        if not measured or self.reader.with_calibrations is None:
            return items
        return self.reader.with_calibrations(self._rooted, items, measured)

    def read(self, item: Item | Rejected | Skipped) -> list[Outcome]:
        """Read the records of one item.

        An error that the reader does not handle rejects the item: it must not end hours of work.
        """
        try:
            return self.reader.outcomes(item)
        except UserError:
            raise
        except Exception as error:
            return [self._failed(item.id, error)]

    def read_few(self) -> Iterator[Outcome]:
        """Yield a few records, as `prepare` will have them; an error that the reader does not handle rejects one.

        Raises:
            UserError: as `prepare` has them before it reads.
        """
        try:
            yield from read_few(self.reader, self._rooted, self.items())
        except UserError:
            raise
        except Exception as error:
            yield self._failed(self.name, error)

    def _failed(self, id: str, error: Exception) -> Rejected:
        return Rejected(id, f"the reader failed: {type(error).__name__}: {one_line(error)}")


def commands() -> tuple[str, ...]:
    """Return the keys of the registry that are commands of `prepare`."""
    return tuple(kind for kind in REGISTRY if kind != _SCENES)


def description(kind: str) -> str:
    """Return the `--help` text of a source: its module's docstring, which describes the files that it reads."""
    entry = REGISTRY[kind]
    return entry.help if entry.numbered else f"{entry.help}\n\n{entry.module_docstring()}"


def add_arguments(parser: argparse.ArgumentParser, kind: str) -> None:
    """Add the fields of the reader's config as flags, with their defaults and descriptions."""
    fields = _config_class(kind).model_fields
    for name, info in fields.items():
        _add_field(parser, name, info)
    if kind == _PEOPLE:
        scenes = parser.add_argument_group("scenes of several people")
        scenes.add_argument(
            "--scenes", action="store_true", help="render pictures of several people, for detection and DensePose"
        )
        own = _config_class(_SCENES).model_fields
        others = [
            f"--{name} {info.default}"
            for name, info in own.items()
            if name in fields and info.default != fields[name].default
        ]
        scenes.description = f"With --scenes the defaults are {', '.join(others)}, and these options are allowed:"
        for name, info in own.items():
            if name not in fields:
                _add_field(scenes, name, info)
    # A flag of an earlier version is accepted here, so that the config can refuse it with the new name.
    for cls in (_config_class(kind), *([_config_class(_SCENES)] if kind == _PEOPLE else [])):
        for old in renamed_keys(cls):
            parser.add_argument(f"--{old.replace('_', '-')}", dest=f"config_{old}", help=argparse.SUPPRESS)
    if not REGISTRY[kind].numbered:
        parser.add_argument(
            "--shuffle-seed", type=int, default=0, help="seed of the order in which rows are stored (default 0)"
        )
    parser.add_argument(
        "--license",
        "--licence",
        default="",
        help="terms of the data for the manifest and the cards, instead of those that the reader knows",
    )


def _add_field(parser: Any, name: str, info: Any) -> None:
    if info.is_required():
        default = " (required)"
    else:
        default = "" if info.default in ("", (), None, PydanticUndefined) else f" (default {info.default!r})"
    help = f"{info.description or ''}{default}".strip().replace("%", "%%")
    parser.add_argument(f"--{name.replace('_', '-')}", dest=f"config_{name}", metavar=name.upper(), help=help)


def from_arguments(kind: str, arguments: argparse.Namespace) -> Source:
    """Build the source that a command line requests.

    Args:
        kind: key of REGISTRY.
        arguments: parsed by a parser with `add_arguments`.

    Raises:
        UserError: a bad value, in one line.
    """
    options = vars(arguments)
    given = {
        name.removeprefix("config_"): value
        for name, value in options.items()
        if name.startswith("config_") and value is not None
    }
    command = f"prepare {kind}"
    if options.get("scenes"):
        kind, command = _SCENES, f"{command} --scenes"
    fields = _config_class(kind).model_fields
    values = {
        name: _value(fields[name].annotation, text) if name in fields else _parsed(text) for name, text in given.items()
    }
    config = build(_config_class(kind), values, command)
    seed = config.model_dump(include={"seed"})["seed"] if REGISTRY[kind].numbered else options["shuffle_seed"]
    return Source(kind, config, seed=seed, license=options["license"])


def _value(annotation: object, text: str) -> object:
    """Parse a flag's text for a field: as it is for a text, else as YAML. A list may be written 1,2 or 1."""
    if is_text(annotation):
        return None if text == "null" and annotation is not str else text
    value = _parsed(text)
    is_list = tuple in (get_origin(option) for option in (annotation, *get_args(annotation)))
    if is_list and isinstance(value, str | int | float):
        return [_parsed(part.strip()) for part in text.split(",")]
    return value


def _parsed(text: str) -> object:
    try:
        return yaml_core.load_argument(text)
    except yaml.YAMLError:
        return text  # the config reports what it should be


def _config_class(kind: str) -> type[Config]:
    return REGISTRY[kind].load().config_class
