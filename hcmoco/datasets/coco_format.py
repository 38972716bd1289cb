"""Read COCO's annotation files, and others in their form: lists of pictures, annotations and categories.

Source: COCO's data format. A release of pictures, such as train2014, is a folder of that name, beside `annotations` or
in `images`. Boxes, joints and masks count a file's pixels as they are stored: orientation is ignored.
"""

import os
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Generic, NamedTuple, TypeVar

from pydantic import BaseModel, Field, ValidationError

from hcmoco.data.skeletons import COCO_17
from hcmoco.datasets.io.files import below_source, first_fault
from hcmoco.datasets.io.inventory import Inventory
from hcmoco.datasets.io.json_stream import read_lists
from hcmoco.errors import UserError

T = TypeVar("T")
_PERSON = 1  # COCO's number of the category, for files whose list of categories is empty
_RELEASE = re.compile(r"(?:COCO|.*(?:keypoints|instances))_([a-z]+20\d\d)(?:_\d+)?\.\w+")


class Picture(NamedTuple):
    """An entry of the list of pictures."""

    id: int
    name: str
    width: int
    height: int


class InvalidEntry(NamedTuple):
    """An entry that cannot be used.

    Attributes:
        id: of the entry, or `entry <n>`.
        reason: one sentence.
        picture: id of the picture that an annotation names, if it names one.
    """

    id: str
    reason: str
    picture: int | None = None


@dataclass(frozen=True)
class CocoFile(Generic[T]):
    """The people of one annotation file.

    Attributes:
        pictures: by their ids, in the file's order.
        invalid: entries of the list of pictures that cannot be used.
        people: the annotations of the category person, in the file's order.
        num_joints: of a person; COCO's 17 are the first.
    """

    pictures: dict[int, Picture]
    invalid: list[InvalidEntry]
    people: list[T | InvalidEntry]
    num_joints: int = len(COCO_17)


class _Picture(BaseModel):
    id: int
    file_name: str
    width: Annotated[int, Field(gt=0)]
    height: Annotated[int, Field(gt=0)]


def read_coco(path: Path, what: str, person: Callable[[Any], T]) -> CocoFile[T]:
    """Read the people of an annotation file.

    Args:
        path: the JSON file.
        what: what messages call the file, e.g. COCO annotation file.
        person: returns what to keep of an annotation; if it raises ValidationError, the annotation is an InvalidEntry.

    Raises:
        UserError: the file is missing or is not in COCO's form.
    """

    def picture(values: Any) -> Picture | InvalidEntry:
        try:
            entry = _Picture.model_validate(values)
        except ValidationError as error:
            id = values.get("id") if isinstance(values, dict) else None
            return InvalidEntry("", first_fault(error), id if type(id) is int else None)
        return Picture(entry.id, entry.file_name, entry.width, entry.height)

    def annotation(values: Any) -> tuple[Any, T | InvalidEntry]:
        category = values.get("category_id", people_of) if isinstance(values, dict) else people_of
        try:
            return category, person(values)
        except ValidationError as error:
            id, of = (values.get(key) if isinstance(values, dict) else None for key in ("id", "image_id"))
            return category, InvalidEntry(
                str(id) if type(id) is int else "", first_fault(error), of if type(of) is int else None
            )

    people_of = object()  # stands for the category of what names none
    found = read_lists(path, what, {"images": picture, "annotations": annotation, "categories": lambda values: values})
    missing = [key for key in ("images", "annotations", "categories") if key not in found]
    if missing:
        raise UserError(f"{what} {path} has no list {', '.join(missing)}; give a file in COCO's form")
    wanted, num_joints = _people_of(
        found["categories"],
        {category for category, _ in found["annotations"] if isinstance(category, int)},
        what,
        path,
    )
    pictures: dict[int, Picture] = {}
    invalid: list[InvalidEntry] = []
    for position, entry in enumerate(found["images"]):
        if isinstance(entry, InvalidEntry):
            invalid.append(entry._replace(id=f"picture {position}"))
        elif entry.id in pictures:
            invalid.append(
                InvalidEntry(
                    f"picture {position}", f"an earlier entry of the list of pictures has the id {entry.id}, too"
                )
            )
        else:
            pictures[entry.id] = entry
    people: list[T | InvalidEntry] = []
    for position, (category, each) in enumerate(found["annotations"]):
        if category is people_of or category in wanted:
            people.append(
                each._replace(id=f"entry {position}") if isinstance(each, InvalidEntry) and not each.id else each
            )
    return CocoFile(pictures, invalid, people, num_joints)


def _people_of(categories: list, used: set[int], what: str, path: Path) -> tuple[list, int]:
    """Ids of the categories that are people, and the number of their joints, of which COCO's are the first.

    UserError if there is no such category, or its joints are others.
    """
    found = [each for each in categories if isinstance(each, dict) and str(each.get("name")).lower() == "person"]
    if not categories and used <= {_PERSON}:
        return [_PERSON], len(COCO_17)
    if not found:
        raise UserError(f"{what} {path} has no category person; give a file of people in COCO's form")
    lists = [each["keypoints"] for each in found if each.get("keypoints")]
    for names in lists:
        plain = [re.sub(r"[ -]", "_", str(name).lower()) for name in names] if isinstance(names, list) else []
        if plain[: len(COCO_17)] != list(COCO_17.joints):
            raise UserError(
                f"{what} {path} lists other keypoints, or in another order, than COCO's 17; read other joints with "
                f"`prepare.py keypoints --format coco --keypoints {path}`"
            )
    return [each.get("id") for each in found], max(map(len, lists), default=len(COCO_17))


class ImageFolders:
    """The folders of the releases of pictures.

    They are in `images` if that is given, else in one of the usual places below `source`.
    """

    def __init__(self, source: str, images: str = ""):
        self._source, self._images = source, images
        self._known: dict[tuple[str, str], Path] = {}

    def of(self, name: str, annotations: str | Path = "") -> Path:
        """Return the folder of the picture `name` that the file `annotations` lists.

        Raises:
            UserError: it does not exist; the message names the places that were tried.
        """
        match = _RELEASE.fullmatch(Path(name).name) or _RELEASE.fullmatch(Path(annotations).name)
        place = match[1] if match else "", str(Path(name).parent)
        if place not in self._known:
            self._known[place] = self._find(*place)
        return self._known[place]

    def _find(self, release: str, inner: str) -> Path:
        """The folder from which names lead to pictures; `inner` is the folder that the names themselves have."""
        places = [self._images] if self._images else ["images", "."]
        tried = [below_source(self._source, place) / release for place in places]
        if release and (self._images or inner != "."):
            tried += [below_source(self._source, place) for place in places]
        above = Path(self._source).absolute()
        if inner.split("/")[0] == above.name:
            tried.append(above.parent)
        existing = [each for each in tried if os.path.isdir(each)]
        # Where no folder leads to pictures, each picture is told to be missing in the first.
        for each in [*(each for each in existing if os.path.isdir(each / inner)), *existing]:
            return each
        raise UserError(
            f"the folder of the pictures{' of ' + release if release else ''} does not exist "
            f"(tried {', '.join(map(str, tried))}); unpack it there, or give --images"
        )


def check_pictures(found: Inventory, pictures: Iterable[tuple[Path, str]]) -> None:
    """Add pictures, each a folder and a name in it, to an inventory."""
    by_folder: dict[Path, list[str]] = {}
    for folder, name in pictures:
        by_folder.setdefault(folder, []).append(name)
    found.counts["pictures"] = 0
    for folder, names in by_folder.items():
        found.check_files("pictures", folder, names, "JPEG", "PNG")
