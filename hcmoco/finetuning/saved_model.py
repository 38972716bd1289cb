"""Save and load a fine-tuned model.

<folder>/
  model.safetensors   weights of encoder and head
  README.md           its card: training and scores
  config.json         task, encoder, facts of the training, size and SHA-256 of the other files; written last
"""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import safetensors.torch
from pydantic import ValidationError
from safetensors import SafetensorError
from torch import nn

from hcmoco import __version__
from hcmoco.config import build, upgrade
from hcmoco.data.shards.manifest import About
from hcmoco.errors import UserError, one_line
from hcmoco.export import FORMAT as ENCODERS
from hcmoco.models.encoders import EncoderConfig, build_encoder
from hcmoco.storage import Folder, absolute, is_local, join
from hcmoco.tasks.base import Task, TaskConfig, parse_task_config
from hcmoco.tasks.registry import REGISTRY, make_task
from hcmoco.weights import format_of, from_hub, is_repository, list_weights, packaged_weights

FORMAT, FORMAT_VERSION = "hcmoco-task", 1
_FACTS = "config.json"


@dataclass(frozen=True)
class Saved:
    """A fine-tuned model that was read and checked.

    Attributes:
        folder: path or URI.
        config: of the task.
        encoder: config of the encoder.
        about: manifest of the data that it was trained on.
        statistics: see `Task.fit_statistics`.
        training: facts of the training, JSON values.
        digest: SHA-256 of the weights' file.
        weights: content of that file.
    """

    folder: str
    config: TaskConfig
    encoder: EncoderConfig
    about: About
    statistics: dict
    training: dict
    digest: str
    weights: bytes

    def task(self, about: About | None = None) -> Task:
        """Return the task over a data set; None: over one like that of the training.

        Raises:
            UserError: labels of the data set mean something else than those of the training.
        """
        task = make_task(self.config, self.about, self.statistics, self.encoder)
        return task.over(about) if about else task

    def model(self) -> nn.Module:
        """Return the model in evaluation mode, on the CPU. Raises UserError if the weights do not fit."""
        model = self.task().make_model(build_encoder(self.encoder, load=False))
        try:
            model.load_state_dict(safetensors.torch.load(self.weights))
        except (RuntimeError, SafetensorError) as error:
            raise UserError(
                f"{self.folder}: model.safetensors does not fit what its config.json describes: {one_line(error)}"
            ) from None
        return model.eval()


def save_model(
    folder: str,
    model: nn.Module,
    task: Task,
    encoder: EncoderConfig,
    *,
    training: dict,
    card: str,
    half: bool = False,
) -> None:
    """Write a fine-tuned model. An earlier one is replaced; until config.json is written, the folder is not a model.

    Args:
        folder: path or URI.
        model: of the task.
        task: over the training data.
        encoder: config of the encoder.
        training: facts of the training, JSON values.
        card: text of README.md.
        half: store weights of two or more dimensions in float16. Norms, biases and running statistics stay float32.
    """
    state = {name: value.detach().cpu().contiguous().clone() for name, value in model.state_dict().items()}
    if half:
        small = {name: value.half() for name, value in state.items() if value.ndim >= 2 and value.is_floating_point()}
        if huge := next((name for name, value in small.items() if not value.isfinite().all()), None):
            raise UserError(f"{huge} has numbers that float16 does not hold; the model cannot be packed")
        state |= small
    files = {"model.safetensors": safetensors.torch.save(state, {"format": "pt"}), "README.md": card.encode()}
    about = About.model_validate({name: getattr(task.about, name) for name in About.model_fields})
    facts = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "hcmoco": __version__,
        "task": task.config.model_dump(mode="json"),
        "encoder": encoder.model_copy(update={"init": "scratch"}).model_dump(mode="json"),
        "about": about.model_dump(mode="json"),
        "statistics": task.statistics,
        "dtype": "float16" if half else "float32",
        "training": training,
        "files": {
            name: {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()} for name, data in files.items()
        },
    }
    target = Folder(folder)
    target.delete(_FACTS)  # it must not vouch for files that are being replaced
    for name, data in files.items():
        target.write(name, data)
    target.write(_FACTS, json.dumps(facts, indent=1).encode())


def pack_model(saved: Saved, folder: str, *, note: str = "") -> None:
    """Write a model in float16, see `save_model`, with its card.

    Args:
        saved: the model.
        folder: path or URI.
        note: a paragraph for the card.
    """
    card = Folder(saved.folder).read("README.md").decode()
    said = f"{note}\n\n" if note else ""
    head, title, rest = card.partition("\n# ")
    packed = "Weights of two or more dimensions are stored in float16; the model computes in float32.\n"
    first, line, rest = rest.partition("\n\n")
    text = f"{head}{title}{first}{line}{said}{packed}\n{rest}"
    save_model(folder, saved.model(), saved.task(), saved.encoder, training=saved.training, card=text, half=True)


def find_model(weights: str) -> str | None:
    """Return the folder of a model: one in this package by its name, `weights` itself, or `model` in a fine-tuning's
    folder; `owner/name` is fetched from the Hugging Face Hub. None if none of them holds one."""
    weights = weights.rstrip("/")
    if weights in list_weights("models"):
        return packaged_weights(weights, "models")
    if is_repository(weights) and not Path(weights).exists():
        weights = from_hub(weights)
    return next(
        (
            uri
            for uri in (weights, join(weights, "model"))
            if Folder(uri).exists(_FACTS) and Folder(uri).exists("model.safetensors")
        ),
        None,
    )


def model_folder(weights: str) -> str:
    """Return the folder of a model, see `find_model`. Raises UserError if there is none."""
    if folder := find_model(weights):
        return folder
    place = absolute(weights) if is_local(weights) else weights
    packaged_weights(weights, "models")  # says what else it is, if it is in the package
    if ENCODERS in (format_of(weights), format_of(join(weights, "export"))):
        raise UserError(
            f"weights: {weights} holds pre-trained encoders, which predict nothing; fine-tune them with `python "
            f"pipelines/finetune.py TASK init={weights}`, or take {' or '.join(list_weights('models'))} of the package"
        )
    raise UserError(
        f"weights: {place} holds no fine-tuned model; give the folder of a finished run of `python "
        f"pipelines/finetune.py`, or its model/, or {' or '.join(list_weights('models'))}, which is in the package"
    )


def load_model(weights: str) -> Saved:
    """Load a fine-tuned model from a folder of `save_model`, or from that of a finished fine-tuning.

    Raises:
        UserError: there is no model, it is of another version, or a file does not match config.json.
    """
    folder = model_folder(weights)
    try:
        facts = json.loads(Folder(folder).read(_FACTS))
        if facts["format"] != FORMAT:
            raise ValueError(f"its format is {facts['format']!r}")
        if facts["format_version"] != FORMAT_VERSION:
            raise UserError(
                f"{folder} has format version {facts['format_version']}, this program reads {FORMAT_VERSION}"
            )
        data = Folder(folder).read("model.safetensors")
        digest = facts["files"]["model.safetensors"]["sha256"]
        settings = upgrade(TaskConfig, facts["task"])
        if settings["name"] not in REGISTRY:
            raise UserError(
                f"{folder} is a model of the task {settings['name']!r}, which this program does not know (it knows "
                f"{', '.join(REGISTRY)}); run the program that registers the task"
            )
        config = parse_task_config(settings)
        if hashlib.sha256(data).hexdigest() != digest:
            raise UserError(
                f"{folder}: model.safetensors does not match its checksum in config.json; copy it or train it again"
            )
        return Saved(
            folder,
            config,
            build(EncoderConfig, upgrade(EncoderConfig, facts["encoder"]), f"{join(folder, _FACTS)}: encoder"),
            build(About, upgrade(About, facts["about"]), f"{join(folder, _FACTS)}: about"),
            facts["statistics"],
            facts["training"],
            digest,
            data,
        )
    except (OSError, ValueError, KeyError, TypeError, ValidationError) as error:
        raise UserError(
            f"{join(folder, _FACTS)} is not that of a fine-tuned model: {one_line(error)}; train it again"
        ) from None
