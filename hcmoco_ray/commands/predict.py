"""Predict body parts, pose or DensePose on your own pictures and videos, on this machine alone.

    python pipelines/predict.py people-small-parsing photo.jpg --out predictions
    python pipelines/predict.py people-small-parsing walk.mp4 --every 5
    python pipelines/predict.py runs/parsing-rgb photos --person-detector keypointrcnn_resnet50_fpn_coco-fc266e95.pth
    python pipelines/predict.py runs/pose depth --camera 365.5,365.5,256.3,208.5
    find . -name '*.jpg' | python pipelines/predict.py runs/densepose - --out predictions

MODEL is the folder or URI of a finished fine-tuning or of its model, or the name of one in the package (python -m
hcmoco.weights --list). IMAGES are files, or folders of them with their subfolders; - reads a list of files, one a line
or with a NUL after each, and tells bad lines one by one. JPEG, PNG, WebP, TIFF or BMP of 8 bits per channel, and
videos, for parsing-rgb and densepose; 16-bit PNG or TIFF, floating-point TIFF, EXR, NPY or MAT for parsing-depth and
pose. Parsing and pose are of one person in a box. The crop has 1.5 times the longer side of the box, as in training:

    --box x0,y0,x1,y1   the same on every picture
    --box picture       the person fills the picture
    --boxes FILE        JSON Lines, {"image": "a.jpg", "box": [x0, y0, x1, y1]}, one line per person; `image` is the
                        path below IMAGES; a video's lines may have a "frame", from 0
    --person-detector   the weights of a Keypoint R-CNN or of a YOLO pose model find everybody; for depth, in the RGB
                        pictures of the same names and sizes in --rgb
    none of them        depth: the box around all readings; RGB: the whole picture, made square, is the crop

A model that was trained on people without their background needs the same: --mask removes it, by masks, by the
background of a static camera, or by a Mask R-CNN on the RGB pictures beside depth.

The results are in the folder of --out, by default `predictions`: predictions.jsonl (one line per picture or frame),
overlays/ (the prediction over the picture), videos/ (over each video, at its times), coco/ (COCO results), labels/
(label images), pictures/ and index.jpg (small), legend.png, and about.json, which says what the numbers mean. All
coordinates, also of boxes that you give, are pixels of the upright picture (EXIF orientation or the video's rotation
applied). Pictures and frames that cannot be used are rejected: their lines have an `error`. Linked folders are
followed. Other files, names that begin with a dot, folders of results and folders that cannot be opened are passed
over, and counted in the output and in about.json. Results of an earlier run in OUT are replaced. Other files stay; a
folder that holds nothing else is refused.

Relative paths of MODEL and --out are resolved against HCMOCO_HOME, else the current folder.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

from hcmoco.datasets.segmentation.config import FORMS
from hcmoco.detection.options import Colors, DetectOptions
from hcmoco.errors import UserError
from hcmoco.tasks.registry import REGISTRY
from hcmoco.weights import list_weights
from hcmoco_ray import cli
from hcmoco_ray.cluster import entrypoint
from hcmoco_ray.mask_options import add_mask_options
from hcmoco_ray.paths import resolve_model, resolve_path


@entrypoint.main_wrapper
def main(argv: Sequence[str] | None = None) -> int:
    """Run the program and return its exit status. `argv` defaults to the command line's."""
    given = parser().parse_intermixed_args(argv)
    weights, images = _model_and_images(given)
    from hcmoco_ray import predict

    return predict.run(given, weights=resolve_model(weights), images=images, out=resolve_path(given.output_dir))


def _model_and_images(given: argparse.Namespace) -> tuple[str, list[str]]:
    """The model and what to predict on. With --weights all arguments are images.

    Raises:
        UserError: there is no model, or no image.
    """
    if given.weights is not None:
        return given.weights, [given.model, *given.images]
    if given.images:
        return given.model, given.images
    known = " or ".join(list_weights("models"))
    if Path(given.model).is_file() or given.model == "-":
        raise UserError(
            f"MODEL is missing before {given.model}: give the folder of a fine-tuning, or {known}, which is in the "
            "package"
        )
    raise UserError(
        f"IMAGES is missing after {given.model}: give a picture, a video, a folder of them, or - for a list"
    )


def parser() -> argparse.ArgumentParser:
    """Build the parser of the command line."""
    arguments = cli.Parser(description=__doc__)
    arguments.add_argument(
        "model",
        metavar="MODEL",
        help="folder or URI of a finished fine-tuning or of its model, or a name in the package",
    )
    arguments.add_argument(
        "images", nargs="*", metavar="IMAGES", help="pictures, videos or folders of them; or - for a list of files"
    )
    arguments.add_argument(
        "--weights",
        metavar="MODEL",
        help="the model, in place of the first argument: predict.py IMAGES --weights MODEL",
    )
    arguments.add_argument("--task", choices=tuple(REGISTRY), metavar="NAME", help="refuse weights of any other task")
    arguments.add_argument(
        "--output-dir",
        "--out",
        dest="output_dir",
        default="predictions",
        help="folder of the results (default predictions)",
    )
    where = arguments.add_mutually_exclusive_group()
    where.add_argument("--box", help="the person, x0,y0,x1,y1 in pixels, or `picture`; parsing and pose")
    where.add_argument("--boxes", metavar="FILE", help="a JSON Lines file of boxes; parsing and pose")
    where.add_argument(
        "--person-detector",
        metavar="WEIGHTS",
        help="find the people with this detector: torchvision's Keypoint R-CNN (a state dict, .pth or .safetensors), "
        "or a YOLO pose model (.onnx); parsing and pose",
    )
    detector = arguments.add_argument_group("detector", "as --detect of prepare.py; docs/data/detectors.md")
    detector.add_argument("--detect-input", choices=get_args(Colors), metavar="COLORS", help=_help("detect_input"))
    detector.add_argument("--detect-size", metavar="WIDTH,HEIGHT", help=_help("detect_size"))
    detector.add_argument("--detect-sha256", metavar="SHA256", help="SHA-256 of the weights; others are refused")
    arguments.add_argument(
        "--camera", help="fx,fy,cx,cy in pixels of the whole picture; pose, and parsing-depth with an encoder of points"
    )
    arguments.add_argument(
        "--depth-unit",
        metavar="UNIT",
        help="length of the number 1 in depth files: mm, m, cm, um, 0.25mm, ... (default: mm for whole numbers, m for "
        "floating point); parsing-depth, pose",
    )
    masks = add_mask_options(arguments, FORMS)
    masks.add_argument(
        "--rgb",
        metavar="FOLDER",
        help="RGB pictures of the same names and sizes, for a Mask R-CNN or --person-detector",
    )
    # An option of version 0.1, which is told its new name.
    arguments.add_argument("--depth-scale", help=argparse.SUPPRESS)
    arguments.add_argument(
        "--min-score",
        type=float,
        help="people below this score are skipped: of densepose (default 0.3), or of --person-detector (default: the "
        "detector's own, which is printed)",
    )
    arguments.add_argument(
        "--every", type=int, metavar="N", help="predict every Nth frame of a video, the first included (default 1)"
    )
    arguments.add_argument("--device", choices=("cpu", "cuda"), help="default: cuda if it is available")
    arguments.add_argument(
        "--batch", type=int, default=8, help="people, or densepose's pictures, that are predicted together (default 8)"
    )
    arguments.add_argument(
        "--threads", type=int, help="threads of the CPU's arithmetic and of reading (default: the CPUs of this machine)"
    )
    return arguments


def _help(name: str) -> str:
    return str(DetectOptions.model_fields[name].description)
