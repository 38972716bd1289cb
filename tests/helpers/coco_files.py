"""COCO's annotation files and folders, written from synthetic people whose labels are known: key-points and DensePose.

The releases' tree: `annotations/<task>_<release>.json`, and the pictures in `images/<release>` as `COCO_<release>_<12
digits>.jpg`.
"""

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import cv2
import numpy as np
from pycocotools import mask as coco_mask

from hcmoco.data import codecs
from hcmoco.data.schema import Person
from hcmoco.data.skeletons import COCO_17, convert
from hcmoco.synthetic import PeopleConfig, ScenesConfig, make_person
from hcmoco.synthetic.body.surface_points import PART_OF_CHART
from hcmoco.synthetic.multi_person import RenderedScene, render_scene

CATEGORIES = [
    {
        "id": 1,
        "name": "person",
        "supercategory": "person",
        "keypoints": list(COCO_17.joints),
        "skeleton": [[16, 14], [14, 12]],
    },
    {"id": 18, "name": "dog", "supercategory": "animal"},
]
_OTHERS = ("polygons", "runs", "compressed")


# --- masks


def compressed(mask: np.ndarray) -> dict:
    """Run lengths as text, as the mask API writes them."""
    rle = coco_mask.encode(np.asfortranarray(mask, np.uint8))
    return {"size": [int(side) for side in rle["size"]], "counts": rle["counts"].decode()}


def runs(mask: np.ndarray) -> dict:
    """Run lengths as a list, down the columns, beginning with background."""
    flat = np.asarray(mask, bool).T.ravel()
    ends = np.flatnonzero(np.diff(flat)) + 1
    lengths = np.diff(np.concatenate([[0], ends, [flat.size]])).tolist()
    return {"size": list(mask.shape), "counts": [0, *lengths] if flat[0] else lengths}


def polygons(mask: np.ndarray) -> list[list[float]]:
    """Outlines through the borders' pixels."""
    outlines, _ = cv2.findContours(np.asarray(mask, np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    return [(each.reshape(-1, 2) + 0.5).ravel().tolist() for each in outlines if len(each) > 2]


# --- people with key-points


@cache
def person(number: int, size: int = 96) -> Person:
    """Synthetic person `number`, the picture of which is taken for a photograph."""
    return make_person(PeopleConfig(domain="wild", size=size), number, dataset="made", split="train")


def keypoints_annotation(person: Person, id: int, image_id: int) -> dict:
    """As COCO has it: indices of pixels, v = 0 with x = y = 0 for what is not labeled."""
    mask = codecs.decode_labels(person.mask) > 0
    joints = convert(person.keypoints, "people-31", COCO_17.name)
    seen = joints[:, 2] > 0
    values = np.where(seen[:, None], np.column_stack([joints[:, :2] - 0.5, 1 + (np.arange(17) % 2)]), 0.0)
    x0, y0, x1, y1 = person.box.tolist()
    return {
        "id": id, "image_id": image_id, "category_id": 1, "iscrowd": 0, "num_keypoints": int(seen.sum()),
        "bbox": [x0, y0, x1 - x0, y1 - y0],
        "area": float(mask.sum()), "segmentation": polygons(mask),
        "keypoints": values.astype(float).ravel().tolist(),
    }  # fmt: skip


def write_keypoints(root: Path, count: int = 3, release: str = "train2014", size: int = 96) -> list[Person]:
    """`count` photographs of a person each, the last under a name with spaces and letters beyond ASCII; in the first
    also a crowd, a dog and somebody without a labeled joint. Returns the people; their annotations have the ids 100,
    101, ...
    """
    folder = root / "images" / release
    folder.mkdir(parents=True)
    people = [person(number, size) for number in range(count)]
    images, annotations = [], []
    for number, each in enumerate(people):
        name = f"COCO_{release}_{number + 1:012d}.jpg" if number < count - 1 else "größe und 日本.jpg"
        (folder / name).write_bytes(each.rgb)
        images.append({"id": number + 1, "file_name": name, "width": each.size, "height": each.size, "license": 1})
        annotations.append(keypoints_annotation(each, 100 + number, number + 1))
    side = people[0].size
    crowd = np.zeros((side, side), bool)
    crowd[:20, 5:50] = True
    first = {
        "image_id": 1,
        "category_id": 1,
        "iscrowd": 0,
        "bbox": [5, 0, 45, 20],
        "area": 900.0,
        "keypoints": [0] * 51,
    }
    annotations += [
        {**first, "id": 200, "iscrowd": 1, "segmentation": runs(crowd)},
        {**first, "id": 201, "segmentation": [[5, 0, 50, 0, 50, 20]]},
        {
            "id": 202,
            "image_id": 1,
            "category_id": 18,
            "iscrowd": 0,
            "bbox": [1, 2, 3, 4],
            "area": 12.0,
            "segmentation": [],
        },
    ]
    write_json(root / "annotations" / f"person_keypoints_{release}.json", images, annotations)
    return people


def write_json(path: Path, images: list[dict], annotations: list[dict]) -> None:
    """A file in COCO's form."""
    path.parent.mkdir(exist_ok=True, parents=True)
    content = {
        "info": {"year": 2014, "description": "made"}, "images": images, "licenses": [{"id": 1, "name": "none"}],
        "annotations": annotations, "categories": CATEGORIES,
    }  # fmt: skip
    path.write_text(json.dumps(content))


# --- scenes with DensePose


@dataclass(frozen=True)
class Truth:
    """What was written of a person: x0, y0, x1, y1, the visible mask, the points or None, the form of the mask."""

    box: np.ndarray
    mask: np.ndarray
    points: np.ndarray | None
    written: str


@cache
def scene(number: int, size: int = 96) -> RenderedScene:
    """Synthetic scene `number`."""
    return render_scene(ScenesConfig(size=size, min_people=2, max_people=2, num_points=3), number)


def densepose_annotation(seen: RenderedScene, who: int, id: int, image_id: int, written: str) -> tuple[dict, Truth]:
    """Person `who` (from 0) of a scene. `written`: densepose (points and masks of parts), else how COCO's own mask is
    written.
    """
    mask = seen.person == who + 1
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    x0, y0, x1, y1 = (int(each) for each in (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1))
    values = {
        "id": id, "image_id": image_id, "category_id": 1, "iscrowd": 0, "bbox": [x0, y0, x1 - x0, y1 - y0],
        "area": float(mask.sum()),
        "keypoints": [0] * 51, "num_keypoints": 0,
        "segmentation": {"polygons": polygons, "runs": runs, "compressed": compressed}.get(written, polygons)(mask),
    }  # fmt: skip
    points = None
    if written == "densepose":
        points = seen.points[who]
        part = np.where(mask, PART_OF_CHART[seen.iuv[..., 0]], 0)[y0:y1, x0:x1]
        part = cv2.resize(part.astype(np.uint8), (256, 256), interpolation=cv2.INTER_NEAREST)
        values |= {
            "dp_masks": [compressed(part == number) if (part == number).any() else [] for number in range(1, 15)],
            "dp_x": ((points[:, 0].astype(float) - x0) * 255 / (x1 - x0)).tolist(),
            "dp_y": ((points[:, 1].astype(float) - y0) * 255 / (y1 - y0)).tolist(),
            "dp_I": points[:, 2].astype(float).tolist(),
            "dp_U": points[:, 3].astype(float).tolist(),
            "dp_V": points[:, 4].astype(float).tolist(),
        }
    return values, Truth(np.array([x0, y0, x1, y1], np.float32), mask, points, written)


def write_densepose(root: Path, counts: dict[str, int] | None = None, size: int = 96) -> dict[int, list[Truth]]:
    """Scenes in the three published files: of each the first person has DensePose annotations, the others COCO's masks
    in turn; every second scene has a crowd, too. The first file also lists a picture without people and a dog. Returns
    the people of each picture.
    """
    truths: dict[int, list[Truth]] = {}
    number = 0
    for part, count in (counts or {"train": 2, "valminusminival": 1, "minival": 2}).items():
        release = "train2014" if part == "train" else "val2014"
        folder = root / "images" / release
        folder.mkdir(parents=True, exist_ok=True)
        images, annotations = [], []
        for _ in range(count):
            seen, number = scene(number, size), number + 1
            name = f"COCO_{release}_{number:012d}.jpg"
            (folder / name).write_bytes(codecs.encode_rgb(seen.rgb))
            images.append({"id": number, "file_name": name, "width": size, "height": size, "license": 1})
            truths[number] = []
            for who in range(len(seen.points)):
                if not (seen.person == who + 1).any():
                    continue
                written = _OTHERS[(number + who) % 3] if who else "densepose"
                values, truth = densepose_annotation(seen, who, 10 * number + who, number, written)
                annotations.append(values)
                truths[number].append(truth)
            if number % 2:
                crowd = np.zeros((size, size), bool)
                crowd[:10, :40] = True
                box = [0, 0, 40, 10]
                annotations.append({
                    "id": 10 * number + 9, "image_id": number, "category_id": 1, "iscrowd": 1, "bbox": box,
                    "area": 400.0,
                    "segmentation": runs(crowd), "keypoints": [0] * 51, "num_keypoints": 0,
                })  # fmt: skip
                truths[number].append(Truth(np.array([0, 0, 40, 10], np.float32), crowd, None, "crowd"))
        if part == "train":
            name = f"COCO_{release}_{900:012d}.jpg"
            (folder / name).write_bytes(codecs.encode_rgb(np.full((size, size, 3), 70, np.uint8)))
            images.append({"id": 900, "file_name": name, "width": size, "height": size, "license": 1})
            annotations.append(
                {"id": 901, "image_id": 900, "category_id": 18, "bbox": [1, 1, 5, 5], "area": 25.0, "iscrowd": 0}
            )
        write_json(root / "annotations" / f"densepose_coco_2014_{part}.json", images, annotations)
    return truths


def repeat(annotations: Path, pictures: Path, count: int) -> None:
    """Makes the file's list of pictures `count` long: each further one is an earlier one under another name, with its
    people.
    """
    content = json.loads(annotations.read_text())
    images, people = content["images"], content["annotations"]
    once, everybody = len(images), len(people)
    step = 1 + max(each["id"] for each in images + people)
    for number in range(once, count):
        old, shift = images[number % once], number // once * step
        name = f"COCO_{pictures.name}_{100_000 + number:012d}.jpg"
        (pictures / name).hardlink_to(pictures / old["file_name"])
        images.append({**old, "id": old["id"] + shift, "file_name": name})
        mine = [each for each in people[:everybody] if each["image_id"] == old["id"]]
        people += [{**each, "id": each["id"] + shift, "image_id": each["image_id"] + shift} for each in mine]
    annotations.write_text(json.dumps(content))
