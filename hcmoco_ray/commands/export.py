"""Write a model in the form of another program: the encoders of a pre-training, or a fine-tuned model.

    python pipelines/export.py people-small --to onnx --out exports/onnx     # weights in the package, as three graphs
    python pipelines/export.py runs/people-cpu --to timm --out exports/timm  # for timm.create_model("local-dir:...")
    python pipelines/export.py runs/parsing-rgb --to onnx --out exports/parsing  # pixels to body parts

SOURCE is the folder or URI of a finished run, of its export or of its model; weights in the package by name; or
OWNER/NAME on the Hugging Face Hub. Each file is loaded again and compared with PyTorch before it is kept: the lines say
how near it is.

    onnx   rgb.onnx, depth.onnx, keypoints.onnx: pixels to maps, dense and pooled embeddings; of a fine-tuned model
           one graph from pixels to predictions. Normalization is inside; the file says what it takes
    pt2    the same, for torch.export.load
    hub    one folder with everything and its card
    timm   rgb/ and depth/, as timm's own hub client reads them
    hrnet-seg, detectron2, mmpose, mmseg
           an HRNet under the names of these programs, with the part of a config that builds it: an encoder, or a whole
           model of parsing (hrnet-seg, mmseg) or DensePose (detectron2)

Relative paths are resolved against HCMOCO_HOME, else the current folder; in a submitted job, against ~/hcmoco.
"""

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

from hcmoco.data.schema import MODALITIES, Modality
from hcmoco.errors import UserError
from hcmoco_ray import cli
from hcmoco_ray.cluster import entrypoint
from hcmoco_ray.paths import resolve_model, resolve_path

if TYPE_CHECKING:
    from hcmoco.export import Export
    from hcmoco.exporting.convert import Converted
    from hcmoco.finetuning.saved_model import Saved

# As `hcmoco.exporting.convert.FORMS`, which imports PyTorch.
FORMS = ("timm", "onnx", "pt2", "hub", "hrnet-seg", "detectron2", "mmpose", "mmseg")


@entrypoint.main_wrapper
def main(argv: Sequence[str] | None = None) -> int:
    """Run the program and return its exit status. `argv` defaults to the command line's."""
    given = parser().parse_args(argv)
    if not given.output_dir:
        raise UserError("--out is empty; name a folder or URI")
    if given.size is not None and given.size < 1:
        raise UserError(f"--size {given.size}: a side in pixels, for example 224")
    modalities = _modalities(given)
    from hcmoco.exporting.convert import write
    from hcmoco.exporting.source import open_source
    from hcmoco.finetuning.saved_model import Saved

    source = open_source(resolve_model(given.source))
    out = resolve_path(given.output_dir)
    made = _of_model(source, given) if isinstance(source, Saved) else _of_encoders(source, given, modalities)
    write(made, out, overwrite=given.overwrite)
    print("\n".join([*(each.line for each in made), f"written to {out}"]))
    return 0


def _modalities(given: argparse.Namespace) -> tuple[Modality, ...]:
    names = given.modality
    modalities = MODALITIES if names is None else tuple(each.strip() for each in names.split(","))
    if strange := [name for name in modalities if name not in MODALITIES]:
        raise UserError(
            f"--modality {', '.join(strange) or repr(names)}: allowed are {', '.join(MODALITIES)}, separated by commas"
        )
    if given.to == "hub" and names is not None:
        raise UserError("--modality has no effect with --to hub, which takes all; leave it out")
    if given.to not in ("onnx", "pt2", "hub") and modalities == ("keypoints",):
        raise UserError(f"--to {given.to}: it has no encoder of keypoints; take --to onnx or --to pt2")
    return cast("tuple[Modality, ...]", modalities)


def _of_model(saved: "Saved", given: argparse.Namespace) -> "list[Converted]":
    from hcmoco.exporting.convert_task import convert_task

    if given.modality is not None:
        raise UserError(
            f"--modality {given.modality}: {given.source} is a fine-tuned model, which reads one modality; leave it out"
        )
    return convert_task(
        saved,
        given.to,
        encoder_only=given.part == "encoder",
        side=given.size,
        accept_difference=given.accept_difference,
    )


def _of_encoders(export: "Export", given: argparse.Namespace, modalities: tuple[Modality, ...]) -> "list[Converted]":
    from hcmoco.exporting.convert import convert

    if given.part is not None:
        raise UserError(
            f"--part {given.part}: {given.source} is a pre-training, which has encoders alone; leave it out"
        )
    return convert(export, given.to, modalities=modalities, side=given.size, accept_difference=given.accept_difference)


def parser() -> argparse.ArgumentParser:
    """Build the parser of the command line."""
    arguments = cli.Parser(description=__doc__)
    arguments.add_argument(
        "source", metavar="SOURCE", help="folder or URI of a run, packaged weights by name, or OWNER/NAME of the hub"
    )
    arguments.add_argument("--to", choices=FORMS, required=True, help="the form")
    arguments.add_argument(
        "--output-dir", "--out", dest="output_dir", metavar="FOLDER", required=True, help="folder or URI"
    )
    arguments.add_argument("--modality", metavar="NAMES", help="rgb, depth, keypoints, by commas (default: all)")
    arguments.add_argument(
        "--part", choices=("model", "encoder"), help="of a fine-tuned model: all of it, or its encoder (default: model)"
    )
    arguments.add_argument("--size", type=int, metavar="PIXELS", help="side of the pictures (default: as in training)")
    arguments.add_argument(
        "--accept-difference", action="store_true", help="write an HRNet of bilinear fusion for timm all the same"
    )
    arguments.add_argument("--overwrite", action="store_true", help="replace files that are there")
    return arguments
