"""Write a fine-tuned model in the form of another program, after that form has been loaded and compared."""

import hashlib
import json
from typing import cast

from hcmoco.errors import UserError
from hcmoco.exporting.convert import (
    LARGEST,
    Converted,
    Form,
    checkpoint_files,
    checkpoint_name,
    graph_file,
    hrnet_checkpoint,
    timm_folder,
)
from hcmoco.exporting.hrnet_keys import Program
from hcmoco.exporting.task_graphs import task_graph
from hcmoco.exporting.task_keys import refuse, task_files
from hcmoco.finetuning.saved_model import Saved
from hcmoco.models.encoders import Encoder
from hcmoco.storage import Folder

_MODEL, _CARD, _CONFIG = "model.safetensors", "README.md", "config.json"
_LIBRARY = "library_name: hcmoco"


def convert_task(
    saved: Saved, form: Form, *, encoder_only: bool = False, side: int | None = None, accept_difference: bool = False
) -> list[Converted]:
    """Convert a fine-tuned model.

    Args:
        saved: the model.
        form: onnx, pt2: a graph from pixels to predictions. hub: a folder to upload. hrnet-seg, mmseg, detectron2: a
            checkpoint under these programs' names, and its config. timm, mmpose: with `encoder_only` alone.
        encoder_only: convert the fine-tuned encoder without its head, as `convert` does pre-trained ones.
        side: of the pictures, pixels; for the encoder alone. None: as in training.
        accept_difference: see `timm_files`.

    Raises:
        UserError: the model has no such form, or what was written computes something else.
    """
    if saved.encoder.is_points and form != "hub":
        raise UserError(
            f"--to {form}: the encoder is {saved.encoder.name}, which reads points and has no such form; take --to hub"
        )
    if encoder_only:
        return [_encoder(saved, form, side, accept_difference)]
    if side is not None:
        raise UserError(
            f"--size has no effect on a fine-tuned model, which keeps the size of its training; leave it out, or take "
            f"--part encoder with --to {form}"
        )
    name = saved.config.name
    if form == "onnx" or form == "pt2":
        return [graph_file(task_graph(saved), form, name)]
    if form == "hub":
        return [_hub(saved)]
    if form == "timm":
        raise refuse(saved, form)
    made = task_files(saved, form, name=checkpoint_name(name, form), accept_difference=accept_difference)
    return [checkpoint_files(made, name, form, ", head included")]


def _encoder(saved: Saved, form: Form, side: int | None, accept_difference: bool) -> Converted:
    if form in ("onnx", "pt2", "hub"):
        raise UserError(f"--part encoder: {form} takes the whole model; leave --part out, or take another form")
    encoder = cast(Encoder, saved.model().encoder)
    modality = saved.task().modality
    if form == "timm":
        stride = max(encoder.strides[-1], 32)
        trained = int(getattr(saved.config, "size", 0) or getattr(saved.config, "test_short_side", 224))
        side = side or -(-trained // stride) * stride
        if side % stride or side > LARGEST:
            raise UserError(
                f"--size {side}: the encoder takes multiples of {stride}, {LARGEST} at most, for example {stride * 7}"
            )
        return timm_folder(encoder, modality, side, accept_difference)
    return hrnet_checkpoint(encoder, modality, cast(Program, form), accept_difference)


def _hub(saved: Saved) -> Converted:
    """The model's own folder, with a card that names the library, whose checksums still match."""
    folder = Folder(saved.folder)
    card, facts = folder.read(_CARD).decode(), json.loads(folder.read(_CONFIG))
    if card.startswith("---\n") and _LIBRARY not in card:
        card = card.replace("---\n", f"---\n{_LIBRARY}\n", 1)
    data = card.encode()
    facts["files"][_CARD] = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    files = {_MODEL: saved.weights, _CARD: data, _CONFIG: json.dumps(facts, indent=1).encode()}
    line = (
        "upload the folder with `hf upload OWNER/NAME FOLDER`; then `python pipelines/predict.py IMAGES --weights "
        "OWNER/NAME` and evaluate.py take it"
    )
    return Converted(files, line)
