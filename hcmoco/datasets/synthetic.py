"""Synthetic people and scenes as data sets: records are numbered, and rendered when they are read."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar, overload

from pydantic import Field

from hcmoco.config import Config
from hcmoco.data.schema import Person, Scene
from hcmoco.data.skeletons import PEOPLE_31
from hcmoco.data.validation import check_person, check_scene
from hcmoco.datasets.base import DatasetReader, Rejected
from hcmoco.datasets.io.inventory import Inventory
from hcmoco.synthetic import DEPTH_CODEC, PeopleConfig, ScenesConfig, make_person, make_scene, raycaster
from hcmoco.unused_options import check_unused

PEOPLE_DATASET, SCENES_DATASET = "people", "scenes"


class _Numbered(Config):
    count: int = Field(ge=1, description="number of people, or of scenes")
    split: str = Field("train", min_length=1, description="written into the rows")


class NumberedPeople(PeopleConfig, _Numbered):
    """How people are rendered, and how many."""


class NumberedScenes(ScenesConfig, _Numbered):
    """How scenes are rendered, and how many."""


ConfigT = TypeVar("ConfigT", bound=_Numbered)


@dataclass(frozen=True)
class Numbered(Generic[ConfigT]):
    """One record, which is not rendered yet, and the ray caster that renders it, on whichever machine it is read."""

    id: str
    number: int
    config: ConfigT
    raycaster: str


class _Items(Sequence[Numbered[ConfigT]]):
    """The numbers 0 to count - 1, built on access."""

    def __init__(self, dataset: str, config: ConfigT):
        self._dataset, self._config, self._raycaster = dataset, config, raycaster()

    def __len__(self) -> int:
        return self._config.count

    @overload
    def __getitem__(self, at: int) -> Numbered[ConfigT]: ...
    @overload
    def __getitem__(self, at: slice) -> list[Numbered[ConfigT]]: ...
    def __getitem__(self, at: int | slice) -> Numbered[ConfigT] | list[Numbered[ConfigT]]:
        numbers = range(self._config.count)[at]
        if isinstance(numbers, range):
            return [self[number] for number in numbers]
        return Numbered(f"{self._dataset}/{numbers}", numbers, self._config, self._raycaster)


def _read_person(item: Numbered[NumberedPeople]) -> Person | Rejected:
    person = make_person(
        item.config, item.number, dataset=PEOPLE_DATASET, split=item.config.split, caster=item.raycaster
    )
    faults = check_person(person, len(PEOPLE_31), DEPTH_CODEC)
    return Rejected(person.id, "; ".join(faults)) if faults else person


def _read_scene(item: Numbered[NumberedScenes]) -> Scene | Rejected:
    scene = make_scene(item.config, item.number, dataset=SCENES_DATASET, split=item.config.split, caster=item.raycaster)
    faults = check_scene(scene)
    return Rejected(scene.id, "; ".join(faults)) if faults else scene


def _masking(config: NumberedPeople) -> str:
    if config.domain != "indoor":
        return ""  # there is no depth
    return "masked" if config.masked_depth else "unmasked"


def _resolve(config: NumberedPeople) -> tuple[NumberedPeople, list[str]]:
    if config.domain != "indoor":
        check_unused(config, ("masked_depth",), "--domain indoor")
    return config, []


PEOPLE = DatasetReader(
    NumberedPeople,
    lambda config: _Items(PEOPLE_DATASET, config),
    _read_person,
    lambda config: Inventory({"people": config.count}),
    root="",
    raycaster=raycaster,
    joint_set=PEOPLE_31.name,
    joint_set_3d=PEOPLE_31.name,
    depth_codec=DEPTH_CODEC,
    depth_masking=_masking,
    resolve=_resolve,
)
SCENES = DatasetReader(
    NumberedScenes,
    lambda config: _Items(SCENES_DATASET, config),
    _read_scene,
    lambda config: Inventory({"scenes": config.count}),
    root="",
    raycaster=raycaster,
)
