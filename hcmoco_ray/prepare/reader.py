"""The data sets that `prepare` knows: their readers, their command-line arguments and what their manifests say.

A reader is a module of hcmoco.datasets; synthetic people are numbered instead. It has a config and

    items(config)                     what can be read, in the source's own order: items, or at once Rejected or Skipped
    read(item)                        a Person, Scene, Rejected or Skipped, or a list of them where an item is a clip, a video or a chunk
    inventory(config)                 what is there and what is missing, for --check
    UNIT, ROWS_PER_ITEM               what an item is called and about how many records it gives, where that is not one
    JOINT_SET, JOINT_SET_3D, DEPTH_CODEC    of its records, where its config does not choose them

and, where something is to be measured over many items before any is read,

    studies(config, items)            {name: what to measure}
    study(each)                       the measurement: numbers, texts and lists that JSON can hold
    with_studies(config, items, measured)   items that know what was measured
"""

import argparse
import importlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import get_args, get_origin

import yaml

import hcmoco
from hcmoco.config import Config, build
from hcmoco.data.schema import Person, Scene
from hcmoco.data.shards.manifest import About, MadeBy
from hcmoco.data.skeletons import joint_set
from hcmoco.data.validation import check_person, check_scene
from hcmoco.datasets.io.inventory import Inventory
from hcmoco.datasets.person_crop import Rejected, Skipped
from hcmoco.datasets.registry import KINDS, MADE
from hcmoco.errors import UserError
from hcmoco.storage import first_line

PROGRAM = "pipelines/prepare.py"
_PEOPLE_JOINTS = "people-31"
# What readers open lies below one of these; tasks have another working directory.
_ROOTS = ("path", "source")
Outcome = Person | Scene | Rejected | Skipped


@dataclass(frozen=True)
class Source:
    """One data set to prepare: which reader, with which config. Small to pickle.

    Attributes:
        kind: key of KINDS.
        config: the reader's config.
        seed: keys the order in which rows are stored.
        count, split: of what is MADE only; others know theirs.
        licence: goes into the manifest; "" takes the kind's.
    """

    kind: str
    config: Config
    seed: int = 0
    count: int = 0
    split: str = "train"
    license: str = ""

    @property
    def name(self) -> str:
        """What ids and the manifest call the data set."""
        return getattr(self.config, "name", self.kind)

    @property
    def arguments(self) -> dict:
        """Everything that decides the content, as scalars for the manifest."""
        values = {
            "download" if key == "source" else key: json.dumps(value) if isinstance(value, dict | list) else value
            for key, value in self.config.model_dump(mode="json").items()
        }
        if hasattr(self.config, "source"):
            values["download"] = _absolute(self.config.source)  # spelled one way, however it was given
        own = {"count": self.count, "split": self.split} if self.kind in MADE else {"shuffle_seed": self.seed}
        return {"source": self.kind, **values, **own}

    @property
    def about(self) -> About:
        module = _reader(self.kind)
        people, records = self.kind == "people", KINDS[self.kind].records
        of_persons = {
            "joints": _PEOPLE_JOINTS
            if people
            else getattr(self.config, "joint_set", None) or getattr(module, "JOINT_SET", ""),
            "joints3d": _PEOPLE_JOINTS if people else getattr(module, "JOINT_SET_3D", ""),
            "depth_codec": getattr(self.config, "depth_codec", None) or getattr(module, "DEPTH_CODEC", "png16"),
        }
        values = {
            "kind": records,
            "dataset": self.name,
            **(of_persons if records == "person" else {}),
            "size": self.config.size,
            "license": self.license or KINDS[self.kind].license,
            "page": KINDS[self.kind].page,
            "unit": self.unit if self.rows_per_item > 1 else "records",
            "made_by": MadeBy(program=PROGRAM, arguments=self.arguments, version=hcmoco.__version__),
        }
        return build(About, values, f"data set {self.name!r}")

    @property
    def unit(self) -> str:
        """What progress counts."""
        return getattr(_reader(self.kind), "UNIT", "records")

    @property
    def rows_per_item(self) -> int:
        """About how many records an item gives."""
        return getattr(_reader(self.kind), "ROWS_PER_ITEM", 1)

    @property
    def _rooted(self) -> Config:
        roots = {name: value for name in _ROOTS if (value := getattr(self.config, name, None))}
        for name, value in roots.items():
            if "://" in value:
                raise UserError(
                    f"--{name} {value} is a URI; raw files are read from a folder: mount or copy it to where every machine of the cluster "
                    "sees it"
                )
        return self.config.model_copy(update={name: _absolute(value) for name, value in roots.items()})

    def inventory(self) -> Inventory:
        """What is there and what is missing or unreadable. UserError where the source as a whole is unusable."""
        return _reader(self.kind).inventory(self._rooted)

    def items(self) -> Sequence:
        """What can be read, in the source's own order. UserError where the source itself is missing or malformed."""
        return range(self.count) if self.kind in MADE else _reader(self.kind).items(self._rooted)

    def studies(self, items: Sequence) -> dict[str, object]:
        """What is to be measured before any item is read, by name; empty for most sources."""
        studies = getattr(_reader(self.kind), "studies", None)
        return studies(self._rooted, items) if studies else {}

    def study(self, each: object) -> dict:
        """The measurement that `each` of `studies` asks for."""
        return _reader(self.kind).study(each)

    def with_studies(self, items: Sequence, measured: dict[str, dict]) -> Sequence:
        """`items` that know what was measured. UserError where nothing is left to read."""
        return _reader(self.kind).with_studies(self._rooted, items, measured) if measured else items

    def read(self, item: object) -> list[Outcome]:
        """The records of one item. A fault that the reader did not foresee sets it aside too: it must not end hours of work."""
        if isinstance(item, Rejected | Skipped):
            return [item]
        try:
            outcome = self._make(item) if self.kind in MADE else _reader(self.kind).read(item)
        except UserError:
            raise
        except Exception as error:
            outcome = Rejected(
                str(getattr(item, "id", item)), f"the reader failed: {type(error).__name__}: {first_line(error)}"
            )
        return outcome if isinstance(outcome, list) else [outcome]

    def _make(self, number) -> Person | Scene | Rejected:
        module = _reader(self.kind)
        if self.kind == "scenes":
            record = module.make_scene(self.config, number, dataset=self.name, split=self.split)
            faults = check_scene(record)
        else:
            record = module.make_person(self.config, number, dataset=self.name, split=self.split)
            faults = check_person(record, len(joint_set(_PEOPLE_JOINTS)), module.DEPTH_CODEC)
        return Rejected(record.id, "; ".join(faults)) if faults else record


def _absolute(path: str) -> str:
    return os.path.abspath(os.path.expanduser(path))


def _reader(kind: str):
    return importlib.import_module(KINDS[kind].module)


def described(kind: str) -> str:
    """What `--help` says of a source: its reader's own words, so that the format of a file stands where it is asked for."""
    return KINDS[kind].help if kind in MADE else f"{KINDS[kind].help}\n\n{_reader(kind).__doc__}"


def add_arguments(parser: argparse.ArgumentParser, kind: str) -> None:
    """The fields of the reader's config as flags, with their defaults and descriptions."""
    fields = _config_class(kind).model_fields
    for name, field in fields.items():
        default = (
            " (required)"
            if field.is_required()
            else ""
            if field.default in ("", (), None)
            else f" (default {field.default!r})"
        )
        _add_field(parser, name, f"{field.description or ''}{default}".strip())
    if kind == "people":
        scenes = parser.add_argument_group("scenes of several people")
        scenes.add_argument(
            "--scenes", action="store_true", help="make pictures of several people, for detection and DensePose"
        )
        defaults = {name: field.default for name, field in _config_class("scenes").model_fields.items()}
        others = [
            f"--{name} {value}" for name, value in defaults.items() if name in fields and value != fields[name].default
        ]
        scenes.description = f"With --scenes the defaults are {', '.join(others)}, and there are"
        for name, field in _config_class("scenes").model_fields.items():
            if name not in fields:
                _add_field(scenes, name, f"{field.description} (default {field.default!r})")
        parser.add_argument("--count", type=int, required=True, help="number of people, or of scenes")
        parser.add_argument("--split", default="train", help="written into the rows (default train)")
    else:
        parser.add_argument(
            "--shuffle-seed", type=int, default=0, help="keys the order in which rows are stored (default 0)"
        )
    parser.add_argument(
        "--license",
        "--licence",
        default="",
        help="terms of the data, for the manifest and the cards, in place of those that the reader knows",
    )


def _add_field(parser, name: str, help: str) -> None:
    flag, help = f"--{name.replace('_', '-')}", help.replace("%", "%%")
    parser.add_argument(flag, dest=f"config_{name}", metavar=name.upper(), help=help)


def from_arguments(kind: str, arguments: argparse.Namespace) -> Source:
    """UserError with one line for a bad value."""
    given = {
        name.removeprefix("config_"): value
        for name, value in vars(arguments).items()
        if name.startswith("config_") and value is not None
    }
    command = f"prepare {kind}"
    if getattr(arguments, "scenes", False):
        kind, command = "scenes", f"{command} --scenes"
    fields = _config_class(kind).model_fields
    values = {
        name: _value(fields[name].annotation, text) if name in fields else _parsed(text) for name, text in given.items()
    }
    config = build(_config_class(kind), values, command)
    if kind not in MADE:
        return Source(kind, config, seed=arguments.shuffle_seed, license=arguments.license)
    if arguments.count < 1:
        raise UserError(f"--count {arguments.count}: must be at least 1")
    if not arguments.split.strip():
        raise UserError("--split is empty; give a name such as train or val")
    return Source(
        kind, config, seed=config.seed, count=arguments.count, split=arguments.split, license=arguments.license
    )


def _value(annotation: object, text: str) -> object:
    """What a flag's text means to a field: a text itself, else YAML; where a list is wanted, 1,2 and 1 are lists, too."""
    if annotation is str:
        return text
    value = _parsed(text)
    wants_list = tuple in (get_origin(each) for each in (annotation, *get_args(annotation)))
    return (
        [_parsed(each.strip()) for each in text.split(",")]
        if wants_list and isinstance(value, str | int | float)
        else value
    )


def _parsed(text: str) -> object:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        return text  # no number or switch, so the config says what it should be


def _config_class(kind: str) -> type[Config]:
    return getattr(_reader(kind), KINDS[kind].config)
