"""Write the encoders of a pre-training in the form of another program.

    python pipelines/export.py people-small --to onnx --out exports/onnx     # weights in the package, as three graphs
    python pipelines/export.py runs/people-cpu --to timm --out exports/timm  # for timm.create_model("local-dir:...")
    python pipelines/export.py runs/people-cpu --to hub --out exports/hub    # for the Hugging Face Hub

SOURCE is the folder or URI of a finished pre-training or of its export, or weights in the package by name. Each file is
loaded again and compared with PyTorch before it is kept: the lines say how near it is.

    timm   rgb/ and depth/, as timm's own hub client reads them
    onnx   rgb.onnx, depth.onnx, keypoints.onnx: a normalized image to its maps, dense and pooled embeddings
    pt2    the same, for torch.export.load
    hub    one folder with everything, its card, and the RGB encoder for timm
    hrnet-seg, detectron2, mmpose, mmseg
           an HRNet under the names of these programs, with the part of a config that builds it

Relative paths are resolved against HCMOCO_HOME, else the current folder; in a submitted job, against ~/hcmoco.
"""

import argparse
from collections.abc import Sequence

from hcmoco.data.schema import MODALITIES
from hcmoco.errors import UserError
from hcmoco_ray import cli
from hcmoco_ray.cluster import entrypoint
from hcmoco_ray.paths import resolve_path, resolve_start

# As `hcmoco.exporting.convert.FORMS`, which imports PyTorch.
FORMS = ("timm", "onnx", "pt2", "hub", "hrnet-seg", "detectron2", "mmpose", "mmseg")


@entrypoint.main_wrapper
def main(argv: Sequence[str] | None = None) -> int:
    """Run the program and return its exit status. `argv` defaults to the command line's."""
    given = parser().parse_args(argv)
    names = given.modality
    modalities = MODALITIES if names is None else tuple(each.strip() for each in names.split(","))
    if not given.output_dir:
        raise UserError("--out is empty; name a folder or URI")
    if given.size is not None and given.size < 1:
        raise UserError(f"--size {given.size}: a side in pixels, for example 224")
    if strange := [name for name in modalities if name not in MODALITIES]:
        raise UserError(
            f"--modality {', '.join(strange) or repr(names)}: allowed are {', '.join(MODALITIES)}, separated by commas"
        )
    if given.to == "hub" and names is not None:
        raise UserError("--modality has no effect with --to hub, which takes all; leave it out")
    if given.to not in ("onnx", "pt2", "hub") and modalities == ("keypoints",):
        raise UserError(f"--to {given.to}: it has no encoder of keypoints; take --to onnx or --to pt2")
    from hcmoco.export import load_export
    from hcmoco.exporting.convert import convert, write
    from hcmoco.weights import find_weights

    export = load_export(find_weights(resolve_start(given.source)))
    out = resolve_path(given.output_dir)
    made = convert(export, given.to, modalities=modalities, side=given.size, accept_difference=given.accept_difference)
    write(made, out, overwrite=given.overwrite)
    print("\n".join([*(each.line for each in made), f"written to {out}"]))
    return 0


def parser() -> argparse.ArgumentParser:
    """Build the parser of the command line."""
    arguments = cli.Parser(description=__doc__)
    arguments.add_argument(
        "source", metavar="SOURCE", help="folder or URI of a pre-training, or packaged weights by name"
    )
    arguments.add_argument("--to", choices=FORMS, required=True, help="the form")
    arguments.add_argument(
        "--output-dir", "--out", dest="output_dir", metavar="FOLDER", required=True, help="folder or URI"
    )
    arguments.add_argument("--modality", metavar="NAMES", help="rgb, depth, keypoints, by commas (default: all)")
    arguments.add_argument("--size", type=int, metavar="PIXELS", help="side of the pictures (default: as in training)")
    arguments.add_argument(
        "--accept-difference", action="store_true", help="write an HRNet of bilinear fusion for timm all the same"
    )
    arguments.add_argument("--overwrite", action="store_true", help="replace files that are there")
    return arguments
