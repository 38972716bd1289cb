"""Predict body parts, pose or DensePose on your own pictures, on this machine alone.

    python pipelines/predict.py photo.jpg --weights runs/parsing-rgb
    python pipelines/predict.py photos --weights runs/parsing-rgb --boxes boxes.jsonl --out predictions
    python pipelines/predict.py depth --weights runs/pose --camera 365.5,365.5,256.3,208.5
    python pipelines/predict.py photos --weights runs/densepose

IMAGES is a file, or a folder of them with its subfolders: JPEG, PNG, WebP, TIFF or BMP of 8 bits per channel for
parsing-rgb and densepose; 16-bit PNG or TIFF, floating-point TIFF, EXR, NPY or MAT for parsing-depth and pose.
Parsing and pose are of one person in a box. The crop has 1.5 times the longer side of the box, as in training:

    --box x0,y0,x1,y1   the same on every picture
    --box picture       the person fills the picture
    --boxes FILE        JSON Lines, {"image": "a.jpg", "box": [x0, y0, x1, y1]}, one line per person;
                        `image` is the path below IMAGES
    neither             depth: the box around all readings; RGB: the whole picture, made square, is the crop

A model that was trained on people without their background needs the same: --mask removes it, by masks, by the
background of a static camera, or by a Mask R-CNN on the RGB pictures beside depth.

OUT gets predictions.jsonl (one line per picture), labels/ (label images), pictures/ (input beside prediction),
index.jpg and about.json, which says what the numbers mean. All coordinates, also of boxes that you give, are pixels of
the upright picture (EXIF orientation applied). Pictures that cannot be used are rejected: their lines have an `error`.
Linked folders are followed. Other files, names that begin with a dot, folders of results and folders that cannot be
opened are passed over, and counted in the output and in about.json.
Results of an earlier run in OUT are replaced. Other files stay; a folder that holds nothing else is refused.

Relative paths of --weights and --out are resolved against HCMOCO_HOME, else the current folder.
"""

import argparse
from collections.abc import Sequence

from hcmoco.datasets.segmentation.config import FORMS
from hcmoco.tasks.registry import REGISTRY
from hcmoco_ray import cli
from hcmoco_ray.cluster import entrypoint
from hcmoco_ray.commands.mask_options import add_mask_options
from hcmoco_ray.paths import resolve_model, resolve_path


@entrypoint.main_wrapper
def main(argv: Sequence[str] | None = None) -> int:
    """Run the program and return its exit status. `argv` defaults to the command line's."""
    given = parser().parse_args(argv)
    from hcmoco_ray import predict

    return predict.run(given, weights=resolve_model(given.weights), out=resolve_path(given.output_dir))


def parser() -> argparse.ArgumentParser:
    """Build the parser of the command line."""
    arguments = cli.Parser(description=__doc__)
    arguments.add_argument("images", metavar="IMAGES", help="a picture, or a folder of pictures")
    arguments.add_argument("--weights", required=True, help="folder or URI of a finished fine-tuning, or of its model")
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
    masks.add_argument("--rgb", metavar="FOLDER", help="RGB pictures of the same names and sizes, for a Mask R-CNN")
    # An option of version 0.1, which is told its new name.
    arguments.add_argument("--depth-scale", help=argparse.SUPPRESS)
    arguments.add_argument(
        "--min-score", type=float, help="people below this score are skipped (default 0.3); densepose"
    )
    arguments.add_argument("--device", choices=("cpu", "cuda"), help="default: cuda if it is available")
    arguments.add_argument(
        "--batch", type=int, default=8, help="people, or densepose's pictures, that are predicted together (default 8)"
    )
    arguments.add_argument(
        "--threads", type=int, help="threads of the CPU's arithmetic and of reading (default: the CPUs of this machine)"
    )
    return arguments
