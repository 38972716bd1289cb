"""Fine-tuned models of one person as graphs: parsing, and 3D pose from depth.

Shape suffixes: B rows, S side of the input, K classes, J joints; a 2 is x, y, a 4 a window (x0, y0, x1, y1) or a camera
(fx, fy, cx, cy).
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hcmoco.data.depth_masking import SHOWN
from hcmoco.data.transforms import CROP_MARGIN
from hcmoco.errors import UserError
from hcmoco.exporting.densepose_graph import DensePoseGraph
from hcmoco.exporting.encoder_graphs import (
    DEPTH_MEANING,
    MAX_ROWS,
    example_depth,
    example_rgb,
    image_port,
    image_shapes,
    square_sizes,
)
from hcmoco.exporting.graphs import Graph, Port
from hcmoco.finetuning.saved_model import Saved
from hcmoco.models.normalization import normalize_depth
from hcmoco.tasks.densepose.model import DensePoseRCNN
from hcmoco.tasks.parsing.head import resize_logits
from hcmoco.tasks.parsing.task import ParsingTask
from hcmoco.tasks.pose.config import PoseConfig
from hcmoco.tasks.pose.task import PoseTask


class ParsingGraph(Graph):
    """Pixels [B, S, S(, 3)] -> logits [B, K, S, S] and parts uint8 [B, S, S].

    A side that the encoder's strides do not divide is padded inside; only that side is possible then.
    """

    def __init__(self, model: nn.Module, task: ParsingTask, facts: Mapping[str, Any]):
        super().__init__()
        self.model, self.modality, self.side = model, task.modality, task.config.size
        encoder: Any = model.encoder
        self.stride = max(encoder.strides[-1], 32)
        self.title = f"the {task.name} model"
        classes = task.label_map.parts
        self.inputs = (image_port(task.modality),)
        self.outputs = (
            Port("logits", "float32", ("rows", len(classes), "height", "width"), "of the classes, at every pixel"),
            Port("parts", "uint8", ("rows", "height", "width"), "number of the class with the largest logit"),
        )
        square = f"{self.side} x {self.side} pixels"
        self.facts = {
            **facts,
            "classes": list(classes),
            "preparation": f"the square crop of one person ({CROP_MARGIN:g} times the longest side of their box), "
            f"resized to {square}" + (" by nearest pixels" if task.modality == "depth" else ""),
        }
        if task.config.flip_test:
            self.facts["flip_test"] = "scores were measured on the mean with the mirror image, which is not in here"

    @property
    def divides(self) -> bool:
        """Whether the trained side needs no padding."""
        return self.side % self.stride == 0

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        logits = self.model(image)
        if self.divides:
            size = (image.shape[1], image.shape[2])
            logits = F.interpolate(logits, size=size, mode="bilinear", align_corners=False)
        else:
            logits = resize_logits(logits, self.side, self.side)
        return logits, logits.argmax(1).to(torch.uint8)

    def examples(self, any_size: bool) -> Sequence[tuple[Tensor, ...]]:
        example = example_rgb if self.modality == "rgb" else example_depth
        return [(example(*size),) for size in square_sizes(self.side, self.stride, any_size)]

    def dynamic_shapes(self) -> list[tuple[bool, Any]]:
        return [each for each in image_shapes(self.stride) if self.divides or not each[0]]


class PoseGraph(Graph):
    """depth uint16 [B, S, S], window [B, 4], camera [B, 4] -> joints3d [B, J, 3] in meters, joints2d [B, J, 2]."""

    def __init__(self, model: nn.Module, task: PoseTask, facts: Mapping[str, Any]):
        super().__init__()
        config: PoseConfig = task.config
        self.model, self.size, self.depth_scale = model, config.size, config.depth_scale
        encoder: Any = model.encoder
        self.channels: int = encoder.config.in_chans
        self.title, self.stride = "the pose model", max(encoder.strides[-1], 32)
        crop = "the window that was cut out and resized to the input: x0, y0, x1, y1 in pixels of the whole picture"
        self.inputs = (
            Port("depth", "uint16", ("rows", self.size, self.size), f"{DEPTH_MEANING}; see preparation"),
            Port("window", "float32", ("rows", 4), crop),
            Port("camera", "float32", ("rows", 4), "fx, fy, cx, cy in pixels of the whole picture (not of the window)"),
        )
        joints = len(task.joints)
        frame = "meters in the camera's frame: x right, y down, z forward"
        self.outputs = (
            Port("joints3d", "float32", ("rows", joints, 3), frame),
            Port("joints2d", "float32", ("rows", joints, 2), "x, y in pixels of the whole picture"),
        )
        self.facts = {
            **facts,
            "joint_set": config.joints,
            "joint_names": list(task.joints.joints),
            "preparation": _pose_preparation(config),
        }

    def forward(self, depth: Tensor, window: Tensor, camera: Tensor) -> tuple[Tensor, Tensor]:
        found = self.model(normalize_depth(depth, self.channels))
        millimeters = depth.to(torch.int32)
        count = (millimeters > 0).sum((1, 2)).clamp(min=1)
        mean_B1 = (millimeters.sum((1, 2)).double() / count / 1000)[:, None]
        z_BJ = found.depth_BJ.double() / self.depth_scale + mean_B1
        window_B14, camera_B14 = window.double()[:, None], camera.double()[:, None]
        zoom_B12 = (window_B14[..., 2:] - window_B14[..., :2]) / self.size
        xy_BJ2 = found.xy_BJ2.double() * zoom_B12 + window_B14[..., :2]
        ray_BJ2 = (xy_BJ2 - camera_B14[..., 2:]) / camera_B14[..., :2]
        joints_BJ3 = torch.cat([ray_BJ2 * z_BJ[..., None], z_BJ[..., None]], -1)
        return joints_BJ3.float(), xy_BJ2.float()

    def examples(self, any_size: bool) -> Sequence[tuple[Tensor, ...]]:
        window, camera = torch.tensor([[120.0, 40.0, 280.0, 240.0]]), torch.tensor([[365.5, 365.5, 256.3, 208.5]])
        return [
            (example_depth(rows, self.size, self.size), window.repeat(rows, 1), camera.repeat(rows, 1))
            for rows in (2, 3)
        ]

    def dynamic_shapes(self) -> list[tuple[bool, Any]]:
        rows = torch.export.Dim("rows", min=1, max=MAX_ROWS)
        return [(False, ({0: rows}, {0: rows}, {0: rows}))]


def _pose_preparation(config: PoseConfig) -> str:
    x, y = config.margin if config.test_margin is None else config.test_margin
    unit = "of the box's longest side" if config.margin_unit == "box" else "pixels"
    removed = {
        "none": "nothing is removed",
        "box-depth": f"readings further than {config.depth_range:g} m from the median reading in the middle of the "
        "person's box are set to 0",
        "ground-truth": "readings further than 5 cm behind the last joint are set to 0, which only labeled data allow",
    }[config.background]
    return (
        f"{removed}; then the window, the person's box with {x:g} more at the left and right and {y:g} above and below "
        f"({unit}), clipped to the picture, is resized to {config.size} x {config.size} by nearest pixels"
    )


def task_facts(saved: Saved) -> dict[str, Any]:
    """Return what every file of a fine-tuned model says."""
    training = saved.training
    facts = {
        "model": f"fine-tuned model of {saved.config.name}",
        "encoder": saved.encoder.name,
        "steps": training.get("selected_step"),
        "terms": training.get("terms", []),
        "weights": saved.digest,
    }
    masking = training.get("depth_masking")
    if masking in SHOWN:
        facts["depth_masking"] = f"trained on depth that is {SHOWN[masking]}"
    return facts


def task_graph(saved: Saved) -> Graph:
    """Return the graph of a fine-tuned model. Raises UserError for a task that has none."""
    task, model, facts = saved.task(), saved.model(), task_facts(saved)
    if isinstance(task, ParsingTask):
        return ParsingGraph(model, task, facts).eval()
    if isinstance(task, PoseTask):
        return PoseGraph(model, task, facts).eval()
    if isinstance(model, DensePoseRCNN):
        return DensePoseGraph(model, facts).eval()
    raise UserError(f"{saved.folder} is a model of {saved.config.name}, which has no graph; take --to hub")
