"""The formats of keypoint files: what each has by default, and which of them a file is."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hcmoco.data.skeletons import JOINT_SETS, joint_set
from hcmoco.data.tool_joints import AZURE_KINECT_32, MEDIAPIPE_33
from hcmoco.datasets.io.files import read_json
from hcmoco.datasets.keypoints import (
    azure_kinect,
    coco_annotations,
    coco_results,
    mediapipe,
    mmpose,
    openpose,
    yolo,
)
from hcmoco.datasets.keypoints.tool_person import files
from hcmoco.errors import UserError


@dataclass(frozen=True)
class Format:
    """One format.

    Attributes:
        name: value of --format.
        tools: which tools write it.
        count: path -> number of joints a person, or None where the file does not say.
        is_content: whether the content of a JSON file is this format's; None: it is not JSON.
        normalized: coordinates are shares of the picture.
        offset: what is added to pixels.
        min_confidence: default of --min-confidence, and min_score of --min-score, with whose default it is.
        threshold: whose default that is.
        joint_sets: number of joints -> the only set of this format with it; empty: the file may have any set.
    """

    name: str
    tools: str
    count: Callable[[Path], int | None]
    is_content: Callable[[Any], bool] | None
    min_confidence: float
    min_score: float
    threshold: str
    normalized: bool = False
    offset: float = 0.5
    joint_sets: tuple[tuple[int, str], ...] = ()


FORMATS = {
    each.name: each
    for each in (
        Format(
            "openpose", "OpenPose", openpose.count, openpose.is_content, 0.05, 0.0,
            "OpenPose's own --render_threshold", joint_sets=tuple(openpose.SETS.items()),
        ),
        Format(
            "coco-results", "detectron2, MMPose, ViTPose, AlphaPose", coco_results.count, coco_results.is_content,
            0.3, 0.3, "MMPose's and ViTPose's --kpt-thr and --bbox-thr",
        ),
        Format(
            "coco", "annotation files in COCO's form", coco_annotations.count, coco_annotations.is_content, 0.0, 0.0,
            "the flags v, 0, 1 or 2, decide",
        ),
        Format(
            "mmpose", "MMPose's MMPoseInferencer", mmpose.count, mmpose.is_content, 0.3, 0.3,
            "MMPose's own kpt_thr and bbox_thr",
        ),
        Format(
            "mediapipe", "MediaPipe Pose", mediapipe.count, mediapipe.is_content, 0.5, 0.0,
            "MediaPipe's own threshold for what it draws", True, 0.0, ((33, MEDIAPIPE_33.name),),
        ),
        Format(
            "yolo", "YOLO pose labels and predictions", yolo.count, None, 0.5, 0.25,
            "Ultralytics' own, of a joint and of a person", True, 0.0,
        ),
        Format(
            "azure-kinect", "Azure Kinect's offline_processor", azure_kinect.count, azure_kinect.is_content, 0.0, 0.0,
            "the format has no confidences: every joint in the picture counts",
            joint_sets=((32, AZURE_KINECT_32.name),),
        ),
    )
}  # fmt: skip
_ARRAYS = (".npy", ".npz", ".pkl", ".h5", ".mat")


def recognize(path: Path) -> str:
    """Return the name of the format of a file or folder.

    Raises:
        UserError: it does not exist, or is none of them, or more than one; the line lists the choices.
    """
    if not path.exists():
        raise UserError(f"--keypoints {path} does not exist; give the file or folder that the tool wrote")
    choices = f"say which format it is: --format {', '.join(FORMATS)}"
    suffix = path.suffix.lower()
    if path.is_dir():
        found = {each.suffix.lower() for each in path.rglob("*") if each.is_file()} & {".json", ".txt"}
        if found == {".txt"}:
            return "yolo"
        if not found:
            raise UserError(f"--keypoints {path} holds no .json and no .txt file, as pose estimators write")
        if len(found) > 1:
            raise UserError(f"--keypoints {path} holds .json and .txt files; {choices}")
        return _of_json(path, choices)
    if suffix in (".yaml", ".yml", ".txt"):
        return "yolo"
    if suffix == ".csv":
        return "mediapipe"
    if suffix in _ARRAYS:
        raise UserError(
            f"--keypoints {path}: arrays ({', '.join(_ARRAYS)}) are not read, for they do not say which picture a row "
            "is of; write the people as COCO results, a JSON list of image_id (the file name), keypoints and score"
        )
    return _of_json(path, choices)


def _of_json(path: Path, choices: str) -> str:
    # In the first files of a folder nobody may have been found, or they are damaged and lose their own people alone.
    found = files(path, ".json", "a pose estimator")
    empty = True
    for file in found:
        try:
            content = read_json(file, "keypoints file")
        except UserError:
            if path.is_dir():
                continue
            raise
        fitting = [each.name for each in FORMATS.values() if each.is_content and each.is_content(content)]
        if len(fitting) == 1:
            return fitting[0]
        empty &= content == []
    what = "has nobody in any file" if empty else "is not recognized"
    raise UserError(f"--keypoints {path} {what}; {choices}")


def find_joint_set(form: Format, path: Path, given: str) -> str:
    """Return the joint set of a file: `given`, if the file's number of joints fits; else what the file itself decides.

    Raises:
        UserError: they do not fit; or the file does not decide, and the line lists the choices.
    """
    if given:
        joint_set(given)
    count = form.count(path)
    own = dict(form.joint_sets)
    if count is None:
        if given:
            return given
        if len(own) == 1:
            return next(iter(own.values()))
        raise UserError(f"--keypoints {path} does not say how many joints it has; say which: --joints {_sets(own)}")
    if own and count not in own:
        raise UserError(
            f"--keypoints {path} has {count} joints a person, and {form.tools} is read with {_or(map(str, own))}; "
            f"write one of {', '.join(own.values())}"
        )
    every = [name for name, joints in JOINT_SETS.items() if len(joints) == count]
    fitting = [own[count]] if own else every
    named = _by_names(path, every) if form.name == "coco" else None
    if form.name == "coco" and not named and (other := _in_another_order(path, every)):
        raise UserError(
            f"--keypoints {path} lists the joints of {other} in another order; write them in this one: "
            f"{', '.join(JOINT_SETS[other].labels or JOINT_SETS[other].joints)}"
        )
    if named and given not in ("", named):
        raise UserError(f"--keypoints {path} lists the keypoints of {named}, --joints says {given}; leave it out")
    if given:
        if len(joint_set(given)) != count or given not in (fitting or [given]):
            known = f"sets of {count} are {', '.join(fitting)}" if fitting else f"known are {', '.join(JOINT_SETS)}"
            raise UserError(
                f"--keypoints {path} has {count} joints a person, --joints {given} has {len(joint_set(given))}; {known}"
            )
        return given
    if named:
        return named
    if form.name == "coco" and coco_annotations.names(path):
        listed = ", ".join(coco_annotations.names(path)[:4])
        raise UserError(
            f"--keypoints {path} lists {count} keypoints, {listed}, ..., which are no known set; if they are one under "
            f"other names, say which: --joints {_or(every) if every else _or(JOINT_SETS)}"
        )
    if not fitting:
        sizes = ", ".join(f"{name} ({len(joints)})" for name, joints in JOINT_SETS.items())
        raise UserError(f"--keypoints {path} has {count} joints a person, and no known set has: {sizes}")
    if len(fitting) > 1:
        raise UserError(
            f"--keypoints {path} has {count} joints a person, and {len(fitting)} sets have; say which: "
            f"--joints {_or(fitting)}"
        )
    return fitting[0]


def _by_names(path: Path, fitting: list[str]) -> str | None:
    """The set whose joints, by its own names or ours, are those that the file lists, in their order."""
    names = _plain(coco_annotations.names(path))
    found = [name for name in fitting if names in _orders(name)]
    return found[0] if len(found) == 1 else None


def _in_another_order(path: Path, fitting: list[str]) -> str | None:
    """The set whose joints are those that the file lists, but not in their order."""
    names = sorted(_plain(coco_annotations.names(path)))
    return next((name for name in fitting if names in map(sorted, _orders(name))), None)


def _orders(name: str) -> tuple[list[str], list[str]]:
    """The set's own names and ours, in its order."""
    joints = JOINT_SETS[name]
    return _plain(joints.labels or joints.joints), _plain(joints.joints)


def _plain(names: tuple[str, ...]) -> list[str]:
    return [name.lower().replace(" ", "_").replace("-", "_") for name in names]


def _sets(own: dict[int, str]) -> str:
    return _or(own.values() or JOINT_SETS)


def _or(words: Any) -> str:
    *first, last = list(words)
    return f"{', '.join(first)} or {last}" if first else last
