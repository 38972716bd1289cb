"""Open a file of weights as a detector: recognize what it is, and ask for what it does not say."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hcmoco.data.skeletons import JOINT_SETS
from hcmoco.detection.detector import Detected, Detector, Model
from hcmoco.detection.options import LINES, PICTURE, DetectOptions
from hcmoco.errors import UserError
from hcmoco.unused_options import unused

ONNX = ".onnx"
_DETECT = "--detect"


@dataclass(frozen=True, eq=False)
class Opened:
    """A detector that is ready.

    Attributes:
        detector: to ask.
        model: what the file of `detect` says.
        people: what that of `detect_boxes` says; None without one.
    """

    detector: Detector
    model: Model
    people: Model | None = None


def open_detector(options: DetectOptions, *, threads: int = 1, cuda: bool = False) -> Opened:
    """Open the detector of `options.detect`, with the people of `options.detect_boxes` if it needs them.

    Args:
        options: with `detect`.
        threads: of the arithmetic of an ONNX model; PyTorch has its own.
        cuda: compute on the GPU.

    Raises:
        UserError: a file is missing, no such model or not the one of the SHA-256; or something that it does not say is
            not given in `options`.
    """
    detector, model = _open(Path(options.detect or ""), options, options.detect_sha256, _DETECT, threads, cuda)
    if options.detect_boxes in (None, LINES):
        return Opened(detector, model)
    if model.finds_people:
        raise unused("--detect-boxes", f"a model that finds nobody by itself ({options.detect}, {model.kind}, does)")
    if options.detect_boxes == PICTURE:
        return Opened(InBoxes(detector, None), model)
    # What is said of the pose model's input is not said of this one.
    own = options.model_copy(update={"detect_input": None, "detect_size": None})
    path = Path(options.detect_boxes)
    people, of_people = _open(path, own, options.detect_boxes_sha256, "--detect-boxes", threads, cuda)
    if not of_people.finds_people:
        raise UserError(
            f"--detect-boxes {path} finds the joints of one person ({of_people.kind}), and nobody by itself; give a "
            f"Keypoint R-CNN or YOLO pose model, or {PICTURE}"
        )
    return Opened(InBoxes(detector, people), model, of_people)


def _open(
    path: Path, options: DetectOptions, sha256: str | None, flag: str, threads: int, cuda: bool
) -> tuple[Detector, Model]:
    from hcmoco.detection import keypoint_rcnn
    from hcmoco.models.weight_files import parse_tensors

    if not path.is_file():
        what = "is a folder" if path.is_dir() else "does not exist"
        raise UserError(f"{flag} {path} {what}; give a file of weights, .pth, .safetensors or .onnx")
    data = path.read_bytes()
    digest = hashlib.sha256(data).hexdigest()
    if sha256 and sha256.lower() != digest:
        raise UserError(f"{flag} {path} has the SHA-256 {digest}, not {sha256}; these are other weights")
    suffix = path.suffix.lower()
    if options.detect_input and suffix in keypoint_rcnn.SUFFIXES:
        raise unused("--detect-input", f"an {ONNX} model (the colors of a Keypoint R-CNN are known)")
    try:
        if suffix == ONNX:
            return _open_onnx(path, data, digest, options, flag == _DETECT, threads, cuda)
        if suffix not in keypoint_rcnn.SUFFIXES:
            known = ", ".join(keypoint_rcnn.SUFFIXES)
            raise UserError(f"ends in {suffix or 'nothing'}; read are {ONNX} and {known}")
        state = parse_tensors(data, path.name, str(path))
        score = keypoint_rcnn.MIN_SCORE if options.min_score is None else options.min_score
        detector = keypoint_rcnn.KeypointRcnn(state, digest, score, options.detect_size, "cuda" if cuda else "cpu")
    except UserError as error:
        text = str(error).removeprefix(f"{path}").lstrip(" :")
        raise UserError(f"{flag} {path}: {text}") from None
    joints = detector.num_joints
    least = (keypoint_rcnn.MIN_CONFIDENCE, keypoint_rcnn.MIN_SCORE, keypoint_rcnn.WHOSE)
    return detector, Model(keypoint_rcnn.KIND, joints, "coco-17" if joints == 17 else "", True, *least, digest)


def _open_onnx(
    path: Path, data: bytes, digest: str, options: DetectOptions, asks: bool, threads: int, cuda: bool
) -> tuple[Detector, Model]:
    from hcmoco.detection import onnx_top_down, onnx_yolo
    from hcmoco.detection.onnx_model import is_ultralytics, open_onnx

    model = open_onnx(path, data, options, asks=asks, threads=threads, cuda=cuda)
    shapes = model.blank_shapes()
    if top_down := onnx_top_down.recognize(model, shapes):
        layout, joints = top_down
        if asks:  # else it is refused, for it finds nobody
            model.check_colors(asks=True)
        kind, least = f"top-down model with {layout}", (onnx_top_down.MIN_CONFIDENCE, 0.0, onnx_top_down.WHOSE)
        return onnx_top_down.TopDown(model, layout, joints), Model(kind, joints, "", False, *least, digest)
    if yolo := onnx_yolo.recognize(shapes):
        sorted_out, joints = yolo
        model.check_colors(asks=asks)
        score = onnx_yolo.MIN_SCORE if options.min_score is None else options.min_score
        # Ultralytics' own weights are COCO's; its metadata has no names of joints to say otherwise.
        named = "coco-17" if joints == 17 and is_ultralytics(model.metadata) else ""
        about = Model(
            onnx_yolo.KIND, joints, named, True, onnx_yolo.MIN_CONFIDENCE, onnx_yolo.MIN_SCORE, onnx_yolo.WHOSE, digest
        )
        return onnx_yolo.Yolo(model, sorted_out, joints, score), about
    shown = ", ".join(map(str, map(list, shapes)))
    raise UserError(
        f"its outputs are {shown} for one picture; read are heatmaps [1, J, h, w], SimCC's [1, J, bins] for x and y, "
        "as many bins for each pixel (of a square input with names that end in x and y), and YOLO's [1, 5 + 3 J, A] or "
        "[1, A, 6 + 3 J] of J joints"
    )


def joint_set_of(model: Model, given: str, flag: str) -> str:
    """Return the joint set of a detector.

    Args:
        model: the detector's.
        given: what the user says; "": nothing.
        flag: of the detector, for messages.

    Raises:
        UserError: they do not fit, or nobody says which set it is; the line lists the choices.
    """
    fitting = [name for name, joints in JOINT_SETS.items() if len(joints) == model.num_joints]
    if given and given not in fitting:
        others = f"sets of {model.num_joints} are {', '.join(fitting)}" if fitting else "no known set has as many"
        raise UserError(
            f"{flag} finds {model.num_joints} joints, {given} has {len(JOINT_SETS[given])}; {others}: see --joint-set"
        )
    if given or model.joint_set:
        return given or model.joint_set
    if not fitting:
        raise UserError(f"{flag} finds {model.num_joints} joints a person, and no known set has as many")
    if len(fitting) > 1:
        raise UserError(f"{flag} does not say which joints it finds; say it with --joint-set {' or '.join(fitting)}")
    return fitting[0]


@dataclass(frozen=True, eq=False)
class InBoxes:
    """A top-down model together with what says where people are.

    Attributes:
        joints: the top-down model.
        people: finds the people whose joints are asked for; None: a picture shows one person, all over it.
    """

    joints: Detector
    people: Detector | None
    finds_people, takes_boxes = True, True

    @property
    def num_joints(self) -> int:
        """Return the number of joints of a person."""
        return self.joints.num_joints

    def detect(self, rgb: np.ndarray, boxes: np.ndarray | None = None) -> list[Detected]:
        """Return the people of a picture; see `Detector`. Boxes that are given are taken in place of its own."""
        if boxes is not None:
            return self.joints.detect(rgb, boxes)
        height, width = rgb.shape[:2]
        found: Sequence[Detected]
        if self.people is None:
            found = [Detected(np.array([0.0, 0.0, width, height]), 1.0, np.empty((0, 3)))]
        else:
            found = self.people.detect(rgb)
        placed = self.joints.detect(rgb, np.array([each.box for each in found]).reshape(-1, 4))
        return [Detected(each.box, each.score, at.joints) for each, at in zip(found, placed, strict=True)]
