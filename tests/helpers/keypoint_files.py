"""Pictures and keypoint files in the real formats of pose estimators, of people whose joints are known.

Every writer is given the people's joints in pixels with a pixel's center at +0.5 and writes them as its tool does.
"""

import csv
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import yaml

from hcmoco.data import codecs
from hcmoco.data.schema import Person
from hcmoco.data.skeletons import PEOPLE_31, convert, joint_set
from hcmoco.rng import make_rng

CAMERA = (500.0, 505.0, 160.0, 120.0)
ROTATION = np.array([[1, 0, 0], [0, 0.995, -0.0998749], [0, 0.0998749, 0.995]])
TRANSLATION = np.array([-32.0, -2.0, 4.0])


@dataclass(frozen=True, eq=False)
class Shot:
    """A picture and its people.

    Attributes:
        name: path below the folder of pictures.
        size: width and height.
        people: of each float [31, 2], the joints of PEOPLE_31, pixels.
    """

    name: str
    size: tuple[int, int]
    people: list[np.ndarray] = field(default_factory=list)


def shots(
    names: tuple[str, ...] = ("0000.jpg", "0001.png", "0002.jpg"), size: tuple[int, int] = (320, 240)
) -> list[Shot]:
    """Pictures of one or two people, the last of which is empty."""
    result = []
    for k, name in enumerate(names):
        rng = make_rng(7, "keypoint files", k)
        people = [
            rng.uniform((40 + 140 * who, 30), (160 + 140 * who, 200), (len(PEOPLE_31), 2))
            for who in range(2 if k == 0 else 1)
        ]
        result.append(Shot(name, size, people if k < len(names) - 1 else []))
    return result


def write_pictures(root: Path, taken: list[Shot]) -> Path:
    """Writes the pictures, and depth of the same names; returns the folder of the pictures."""
    for shot in taken:
        width, height = shot.size
        rgb = np.full((height, width, 3), 90, np.uint8)
        for folder, data, name in (
            ("rgb", codecs.encode_png(rgb) if shot.name.endswith(".png") else codecs.encode_rgb(rgb), shot.name),
            ("depth", codecs.encode_depth(np.full((height, width), 2000, np.uint16), "png16"), shot.name[:-4] + ".png"),
        ):
            (root / folder / name).parent.mkdir(parents=True, exist_ok=True)
            (root / folder / name).write_bytes(data)
    return root / "rgb"


def joints_of(person: np.ndarray, name: str) -> np.ndarray:
    """float [J, 2]: a person in the order of a set; joints that people-31 lacks lie near the pelvis."""
    known = convert(np.column_stack([person, np.ones(len(person))]), "people-31", name)
    pelvis = person[PEOPLE_31.index("pelvis")]
    elsewhere = pelvis + np.linspace(1, 8, len(known))[:, None]
    return np.where(known[:, 2:] > 0, known[:, :2], elsewhere)


def assert_are(persons: dict[str, Person], taken: list[Shot], joints: str) -> None:
    """The persons, by id, are those of the shots, joint by joint to 1e-3 of a pixel of the picture."""
    expected = {f"keypoints/{shot.name}/{who}": each for shot in taken for who, each in enumerate(shot.people)}
    assert set(persons) == set(expected)
    exact = [name for name in PEOPLE_31.joints if name in joint_set(joints).joints]
    assert len(exact) >= 12
    for id, truth in expected.items():
        x0, y0, side = persons[id].crop[:3]
        zoom = side / persons[id].size
        keypoints = persons[id].keypoints * (zoom, zoom, 1) + (x0, y0, 0)
        found = convert(keypoints, joints, "people-31")
        for name in exact:
            k = PEOPLE_31.index(name)
            assert np.allclose(found[k], [*truth[k], 1], atol=1e-3), (id, name, found[k], truth[k])


def _json(path: Path, content: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    return path


def openpose(
    root: Path, taken: list[Shot], joints: str = "body-25", key: str = "pose_keypoints_2d", confidence=0.8
) -> Path:
    """As `--write_json` does: NAME_keypoints.json, in pixels that count from 0."""
    for shot in taken:
        people = []
        for person in shot.people:
            xy = joints_of(person, joints) - 0.5
            flat = np.column_stack([xy, np.full(len(xy), confidence)]).ravel().tolist()
            people.append({"person_id": [-1], key: flat, "face_keypoints_2d": [], "hand_left_keypoints_2d": []})
        _json(root / "openpose" / f"{Path(shot.name).stem}_keypoints.json", {"version": 1.3, "people": people})
    return root / "openpose"


def results(
    root: Path, taken: list[Shot], joints: str = "coco-17", ids: bool = False, box: str = "bbox", score=0.9
) -> Path:
    """As COCO's results are; `ids`: pictures are numbers, and a list of pictures lies beside, else file names."""
    entries = []
    for number, shot in enumerate(taken, start=31):
        for person in shot.people:
            xy = joints_of(person, joints) - 0.5
            low, high = person.min(0), person.max(0)
            entry = {
                "image_id": number if ids else Path(shot.name).name, "category_id": 1, "score": score,
                "keypoints": np.column_stack([xy, np.full(len(xy), 0.7)]).ravel().tolist(),
            }  # fmt: skip
            entries.append(entry | ({box: [*low.tolist(), *(high - low).tolist()]} if box else {}))
    _json(root / "image_list.json", {"images": _images(taken, 31), "annotations": [], "categories": []})
    return _json(root / "results.json", entries)


def _images(taken: list[Shot], first: int) -> list[dict]:
    return [
        {"id": first + k, "file_name": shot.name, "width": shot.size[0], "height": shot.size[1]}
        for k, shot in enumerate(taken)
    ]


def annotations(root: Path, taken: list[Shot], joints: str = "crowdpose-14", flags: tuple[float, ...] = (2, 1)) -> Path:
    """An annotation file in COCO's form, whose category names the joints as their source does."""
    entries = []
    for number, shot in enumerate(taken, start=1):
        for person in shot.people:
            xy, (low, high) = joints_of(person, joints) - 0.5, (person.min(0), person.max(0))
            v = np.resize(flags, len(xy))
            entries.append({
                "id": 100 + len(entries), "image_id": number, "category_id": 1, "iscrowd": 0,
                "bbox": [*low.tolist(), *(high - low).tolist()],
                "keypoints": np.column_stack([xy, v]).ravel().tolist(), "num_keypoints": len(xy),
            })  # fmt: skip
    of = joint_set(joints)
    category = {"id": 1, "name": "person", "keypoints": list(of.labels or of.joints), "skeleton": []}
    content = {"images": _images(taken, 1), "annotations": entries, "categories": [category]}
    return _json(root / "annotations.json", content)


def mmpose(root: Path, taken: list[Shot], joints: str = "halpe-26") -> Path:
    """As MMPoseInferencer's pred_out_dir is."""
    for shot in taken:
        people = [
            {
                "keypoints": (joints_of(person, joints) - 0.5).tolist(),
                "keypoint_scores": [0.9] * len(joint_set(joints)),
                "bbox": [[*person.min(0).tolist(), *person.max(0).tolist()]],
                "bbox_score": 0.8,
            }
            for person in shot.people
        ]
        _json(root / "predictions" / f"{Path(shot.name).stem}.json", people)
    return root / "predictions"


def mediapipe(root: Path, taken: list[Shot], joints: str = "mediapipe-33", key: str = "pose_landmarks") -> Path:
    """As PoseLandmarkerResult is, or (`landmark`) NormalizedLandmarkList."""
    for shot in taken:
        people = [
            [
                {"x": x, "y": y, "z": -0.1, "visibility": 0.97, "presence": 0.99}
                for x, y in joints_of(person, joints) / shot.size
            ]
            for person in shot.people
        ]
        content = {key: people, "pose_world_landmarks": []} if key != "landmark" else {key: people[0] if people else []}
        _json(root / "landmarks" / f"{Path(shot.name).stem}.json", content)
    return root / "landmarks"


def mediapipe_csv(root: Path, taken: list[Shot], joints: str = "mediapipe-33", first: int = 0) -> Path:
    """A table with a row a person; columns numbered from `first`, or named where it is -1."""
    labels = joint_set(joints).labels
    names = [
        (f"{label}_x", f"{label}_y", f"{label}_z", f"{label}_visibility")
        if first < 0
        else (f"x{k + first}", f"y{k + first}", f"z{k + first}", f"v{k + first}")
        for k, label in enumerate(labels)
    ]
    with (root / "landmarks.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["image", *(name for each in names for name in each)])
        for shot in taken:
            for person in shot.people:
                rows = [(x, y, 0.0, 0.97) for x, y in joints_of(person, joints) / shot.size]
                writer.writerow([shot.name, *(value for row in rows for value in row)])
    return root / "landmarks.csv"


def yolo(root: Path, taken: list[Shot], joints: str = "coco-17", values: int = 3, tail: tuple[float, ...] = ()) -> Path:
    """Labels and data.yaml; `tail`: what predictions end with, the person's confidence."""
    for shot in taken:
        lines = []
        for person in shot.people:
            xy = joints_of(person, joints) / shot.size
            low, high = person.min(0) / shot.size, person.max(0) / shot.size
            joint = [(x, y, 2)[:values] for x, y in xy] if not tail else [(x, y, 0.93)[:values] for x, y in xy]
            words = [0, *((low + high) / 2), *(high - low), *(value for each in joint for value in each), *tail]
            lines.append(" ".join(f"{word:.9g}" for word in words))
        file = root / "yolo" / "labels" / f"{Path(shot.name).stem}.txt"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("\n".join(lines) + "\n")
    described = {
        "path": ".", "train": "images/train", "names": {0: "person"}, "kpt_shape": [len(joint_set(joints)), values],
        "flip_idx": joint_set(joints).flip.tolist(),
    }  # fmt: skip
    (root / "yolo" / "data.yaml").write_text(yaml.safe_dump(described))
    return root / "yolo" / "data.yaml"


def azure(root: Path, taken: list[Shot], joints: str = "azure-kinect-32", scale: float = 1.0) -> Path:
    """As offline_processor does, in millimeters of the depth camera; calibration.json beside it."""
    fx, fy, cx, cy = CAMERA
    frames = []
    for number, shot in enumerate(taken):
        bodies = []
        for who, person in enumerate(shot.people):
            xy = joints_of(person, joints) - 0.5
            z = np.linspace(1500, 2500, len(xy))
            points = np.column_stack([(xy[:, 0] - cx) / fx * z, (xy[:, 1] - cy) / fy * z, z])
            points = (points - TRANSLATION) @ np.linalg.inv(ROTATION).T * scale
            turns = [[1.0, 0.0, 0.0, 0.0]] * len(points)
            bodies.append({"body_id": who + 1, "joint_positions": points.tolist(), "joint_orientations": turns})
        frames.append(
            {"bodies": bodies, "frame_id": number, "num_bodies": len(bodies), "timestamp_usec": 33_333 * number}
        )
    calibration = {"camera": CAMERA, "rotation": ROTATION.ravel().tolist(), "translation": TRANSLATION.tolist()}
    _json(root / "calibration.json", calibration)
    content = {
        "k4abt_sdk_version": "1.1.2", "source_file": "take.mkv", "joint_names": list(joint_set(joints).labels),
        "bone_list": [["SPINE_CHEST", "SPINE_NAVAL"]], "frames": frames,
    }  # fmt: skip
    return _json(root / "azure.json", content)


@dataclass(frozen=True)
class Written:
    """One way of writing people.

    Attributes:
        write: (folder, shots) -> the file or folder for --keypoints.
        format, joints: what is recognized in it.
        ask: options without which it is refused, because nothing decides them.
    """

    write: Callable[[Path, list[Shot]], Path]
    format: str
    joints: str
    ask: Callable[[Path], dict[str, str]] = lambda root: {}


def _joints(name: str) -> Callable[[Path], dict[str, str]]:
    return lambda root: {"joints": name}


WRITTEN: dict[str, Written] = {
    "openpose body-25": Written(openpose, "openpose", "body-25"),
    "openpose coco-18": Written(lambda root, taken: openpose(root, taken, "coco-18"), "openpose", "coco-18"),
    "openpose of version 0.1": Written(
        lambda root, taken: openpose(root, taken, "coco-18", "pose_keypoints"), "openpose", "coco-18"
    ),
    "detectron2": Written(
        lambda root, taken: results(root, taken, ids=True), "coco-results", "coco-17",
        lambda root: {"joints": "coco-17", "image_list": str(root / "image_list.json")},
    ),
    "alphapose": Written(
        lambda root, taken: results(root, taken, "halpe-26", box="box", score=2.9), "coco-results", "halpe-26"
    ),
    "mmpose results": Written(
        lambda root, taken: results(root, taken, "h36m-17", box=""), "coco-results", "h36m-17", _joints("h36m-17")
    ),
    "crowdpose": Written(annotations, "coco", "crowdpose-14"),
    "ai challenger": Written(lambda root, taken: annotations(root, taken, "aic-14"), "coco", "aic-14"),
    "halpe": Written(lambda root, taken: annotations(root, taken, "halpe-26"), "coco", "halpe-26"),
    "coco": Written(lambda root, taken: annotations(root, taken, "coco-17"), "coco", "coco-17"),
    "mmpose": Written(mmpose, "mmpose", "halpe-26"),
    "mediapipe": Written(mediapipe, "mediapipe", "mediapipe-33"),
    "mediapipe table": Written(mediapipe_csv, "mediapipe", "mediapipe-33"),
    "mediapipe table from 1": Written(
        lambda root, taken: mediapipe_csv(root, taken, first=1), "mediapipe", "mediapipe-33"
    ),
    "mediapipe table with names": Written(
        lambda root, taken: mediapipe_csv(root, taken, first=-1), "mediapipe", "mediapipe-33"
    ),
    "yolo labels": Written(yolo, "yolo", "coco-17", _joints("coco-17")),
    "yolo without visibility": Written(
        lambda root, taken: yolo(root, taken, values=2), "yolo", "coco-17", _joints("coco-17")
    ),
    "yolo predictions": Written(
        lambda root, taken: yolo(root, taken, tail=(0.88,)), "yolo", "coco-17", _joints("coco-17")
    ),
    "azure kinect": Written(
        azure, "azure-kinect", "azure-kinect-32", lambda root: {"calibration": str(root / "calibration.json")}
    ),
}  # fmt: skip
