"""Write an export of ours in the form of another program, after that form has been loaded and compared."""

import hashlib
import json
from dataclasses import dataclass
from typing import Any, Literal, cast, get_args

from hcmoco.data.schema import MODALITIES, Modality
from hcmoco.errors import StorageError, UserError, one_line
from hcmoco.export import Export, export_files
from hcmoco.exporting.encoder_graphs import encoder_graph
from hcmoco.exporting.graphs import Graph, Kind, write_graph
from hcmoco.exporting.hrnet_keys import HrnetFiles, Program, hrnet_files
from hcmoco.exporting.timm_folder import CONFIG, WEIGHTS, timm_files
from hcmoco.models.encoders import Encoder
from hcmoco.models.multimodal import MultiModalEncoders
from hcmoco.storage import Folder

Form = Literal["timm", "onnx", "pt2", "hub", "hrnet-seg", "detectron2", "mmpose", "mmseg"]
LARGEST = 2048
"""Largest side of the pictures at which outputs are compared, pixels."""

FORMS: tuple[Form, ...] = get_args(Form)


@dataclass(frozen=True)
class Converted:
    """A file or folder in another form.

    Attributes:
        files: name -> content.
        line: what was written and how it was compared, for people.
    """

    files: dict[str, bytes]
    line: str


def convert(
    export: Export,
    form: Form,
    *,
    modalities: tuple[Modality, ...] = MODALITIES,
    side: int | None = None,
    accept_difference: bool = False,
) -> list[Converted]:
    """Convert the encoders of an export.

    Args:
        export: of a pre-training.
        form: timm: a folder for each image encoder. onnx, pt2: a graph for each encoder, with embeddings. hub: one
            folder, an export of ours that timm's hub client reads too. Others: HRNets under these programs' names.
        modalities: which encoders; hub takes all.
        side: of the pictures, pixels; None: as in training.
        accept_difference: see `timm_files`.

    Raises:
        UserError: the export has no such form, or what was written computes something else.
    """
    model = export.model_with_mappers()
    if model.config.depth.is_points and form != "hub" and "depth" in modalities:
        raise UserError(
            f"--to {form}: the depth encoder is {model.config.depth.name}, which reads points and has no such form; "
            "take --modality rgb,keypoints; the export itself has its published key names"
        )
    trained = export.training.get("size")
    side = side or (trained if isinstance(trained, int) else 224)
    stride = max(*(each.strides[-1] for each in (model.rgb, model.depth) if isinstance(each, Encoder)), 32)
    if side % stride or side > LARGEST:
        raise UserError(
            f"--size {side}: the encoders take multiples of {stride}, {LARGEST} at most, for example {stride * 7}"
        )
    if form == "hub":
        return [_hub(export, model, side, accept_difference)]
    if form == "timm":
        return [_timm(model, name, side, accept_difference) for name in modalities if name != "keypoints"]
    if form == "onnx" or form == "pt2":
        return [_graph(export, model, name, form, side) for name in modalities]
    return [
        hrnet_checkpoint(getattr(model, name), name, form, accept_difference)
        for name in modalities
        if name != "keypoints"
    ]


def write(converted: list[Converted], out: str, *, overwrite: bool) -> None:
    """Write what was converted into a folder or URI.

    Raises:
        UserError: a file exists, and `overwrite` is not set.
    """
    folder = Folder(out)
    names = [name for each in converted for name in each.files]
    if not overwrite and (there := [name for name in names if folder.exists(name)]):
        raise UserError(f"{out}: {there[0]} exists already; give another folder with --out, or --overwrite")
    try:
        for each in converted:
            for name, data in each.files.items():
                folder.write(name, data)
    except (OSError, StorageError) as error:
        raise UserError(f"{out} cannot be written: {one_line(error)}; give another folder with --out") from error


def _timm(model: MultiModalEncoders, modality: str, side: int, accept_difference: bool) -> Converted:
    return timm_folder(getattr(model, modality), modality, side, accept_difference)


def timm_folder(encoder: Encoder, modality: str, side: int, accept_difference: bool) -> Converted:
    """Convert an image encoder to a folder for timm."""
    made = timm_files(encoder, rgb=modality == "rgb", side=side, accept_difference=accept_difference)
    line = f"{modality}/: {_call(encoder, f'local-dir:{modality}')}; {_told(made.difference)}"
    return Converted({f"{modality}/{name}": data for name, data in made.files.items()}, line)


def _call(encoder: Encoder, name: str) -> str:
    """What gives the encoder in plain timm."""
    arguments = {"pretrained": True, **encoder.config.create_arguments}
    return f"timm.create_model({name!r}, {', '.join(f'{key}={value!r}' for key, value in arguments.items())})"


def _told(difference: float) -> str:
    if difference > 1e-3:
        return (
            f"its maps DIFFER from ours by up to {difference:.0%} of a map's largest value, since timm fuses by nearest"
        )
    return f"loaded by timm, its maps are within {difference:.1g} of a map's largest value at two sizes"


def graph_file(graph: Graph, kind: Kind, name: str) -> Converted:
    """Convert a graph to a file of this name and kind."""
    made = write_graph(graph, kind)
    taken = "any number of rows" if graph.inputs[0].shape[0] == "rows" else "one picture at a time"
    if made.any_size:
        taken += f", sides multiples of {graph.stride}"
    elif graph.stride:
        taken += ", {} x {} pixels".format(*made.sizes[0][1:3])
    sizes = " and ".join(" x ".join(map(str, size)) for size in made.sizes)
    line = (
        f"{name}.{kind}: {len(made.data) / 1e6:.1f} MB; {taken}; loaded again, outputs within {made.difference:.1g} of "
        f"PyTorch's at {sizes}"
    )
    return Converted({f"{name}.{kind}": made.data}, line)


def _graph(export: Export, model: MultiModalEncoders, modality: Modality, form: Kind, side: int) -> Converted:
    names = ("recipe", "steps", "depth_masking", "terms")
    told: dict[str, Any] = {name: export.training[name] for name in names if name in export.training}
    return graph_file(encoder_graph(model, modality, side, told), form, modality)


def hrnet_checkpoint(encoder: Encoder, modality: str, program: Program, accept_difference: bool) -> Converted:
    """Convert an HRNet to a program's checkpoint and config."""
    name = checkpoint_name(modality, program)
    made = hrnet_files(encoder, program, name=name, rgb=modality == "rgb", accept_difference=accept_difference)
    return checkpoint_files(made, modality, program)


def checkpoint_name(what: str, program: str) -> str:
    """Return the name of a program's checkpoint of `what`: a modality's encoder, or a task's model."""
    return f"{what}-{program}.pth"


def checkpoint_files(made: HrnetFiles, what: str, program: str, included: str = "") -> Converted:
    """Return a program's checkpoint and config as files; `included` says in the line what else the names are of."""
    checkpoint, config = checkpoint_name(what, program), f"{what}-{program}.{made.suffix}"
    line = f"{checkpoint}: {made.num_tensors} tensors under {program}'s names{included}; {config} builds the network"
    if made.differs:
        line += f"; its maps DIFFER from ours, since {program} fuses otherwise than it was trained"
    return Converted({checkpoint: made.checkpoint, config: made.config.encode()}, line)


def _hub(export: Export, model: MultiModalEncoders, side: int, accept_difference: bool) -> Converted:
    files = export_files(model, export.training, half=export.dtype == "float16")
    rgb = cast(Encoder, model.rgb)  # no other encoder reads RGB
    made = timm_files(rgb, rgb=True, side=side, accept_difference=accept_difference)
    config = json.loads(files[CONFIG])
    weights = made.files[WEIGHTS]
    config["files"][WEIGHTS] = {"bytes": len(weights), "sha256": hashlib.sha256(weights).hexdigest()}
    files = {
        **files,
        WEIGHTS: weights,
        CONFIG: json.dumps({**json.loads(made.files[CONFIG]), **config}, indent=1).encode(),
    }
    line = (
        "upload the folder with `hf upload OWNER/NAME FOLDER`; then hcmoco.load('OWNER/NAME') gives all, and "
        f"{_call(rgb, 'hf_hub:OWNER/NAME')} the RGB encoder; {_told(made.difference)}"
    )
    return Converted(files, line)
