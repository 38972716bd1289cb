"""Pre-trained encoders as graphs, with their mappers into the shared space.

Shapes: B rows, C channels, H, W pixels, J joints, D embedding.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from hcmoco.data.schema import MODALITIES, Modality
from hcmoco.exporting.graphs import Graph, Port, without
from hcmoco.models.multimodal import MultiModalEncoders

MAX_ROWS, MAX_STRIDES = 4096, 128
RGB_MEANING = "RGB in this order (not BGR), 0 to 255; normalization is inside the graph"
DEPTH_MEANING = "depth in millimeters, 0 = no reading; normalization is inside the graph"
_CROP = "one person in a square of 1.25 times the longest side of their box, resized to {side} x {side} pixels"


def example_rgb(rows: int, height: int, width: int) -> Tensor:
    """Return noise, uint8 [rows, height, width, 3]; equal for equal arguments."""
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (rows, height, width, 3), dtype=torch.uint8, generator=generator)


def example_depth(rows: int, height: int, width: int) -> Tensor:
    """Return uint16 [rows, height, width], half of it without a reading, else 1.5 to 4 m."""
    generator = torch.Generator().manual_seed(0)
    readings = torch.randint(1500, 4000, (rows, height, width), generator=generator)
    return readings.masked_fill(torch.rand(readings.shape, generator=generator) < 0.5, 0).to(torch.uint16)


def square_sizes(side: int, stride: int, any_size: bool) -> list[tuple[int, int, int]]:
    """Return rows, height and width of the two inputs that are compared."""
    return [(2, side, side), (3, side + stride, side) if any_size else (3, side, side)]


def image_shapes(stride: int, *others: Any) -> list[tuple[bool, Any]]:
    """Return what to try: free sides, then fixed ones; rows are free in both. See `Graph.dynamic_shapes`.

    Args:
        stride: that divides the sides.
        others: of further inputs.
    """
    rows = torch.export.Dim("rows", min=1, max=MAX_ROWS)
    high, wide = (torch.export.Dim(name, min=1, max=MAX_STRIDES) for name in ("high", "wide"))
    return [(True, ({0: rows, 1: stride * high, 2: stride * wide}, *others)), (False, ({0: rows}, *others))]


def image_port(modality: Modality) -> Port:
    """Return the input of a graph that reads pictures."""
    if modality == "rgb":
        return Port("rgb", "uint8", ("rows", "height", "width", 3), RGB_MEANING)
    return Port("depth", "uint16", ("rows", "height", "width"), DEPTH_MEANING)


class ImageGraph(Graph):
    """Pixels [B, H, W(, 3)] -> maps, finest first, dense embeddings [B, D, H / 4, W / 4], pooled ones [B, D]."""

    def __init__(self, model: MultiModalEncoders, modality: Modality, side: int, facts: Mapping[str, Any]):
        super().__init__()
        self.model, self.modality, self.side = _alone(model, modality), modality, side
        encoder = getattr(model, modality)
        self.stride = max(encoder.strides[-1], 32)
        self.title = f"the {modality} encoder"
        self.inputs = (image_port(modality),)
        maps = [
            Port(f"map{stride}", "float32", ("rows", channels, f"height/{stride}", f"width/{stride}"), "features")
            for channels, stride in zip(encoder.channels, encoder.strides, strict=True)
        ]
        dense = Port(
            "dense",
            "float32",
            ("rows", model.dense_width, "height/4", "width/4"),
            "embeddings of positions in the shared space, of unit length",
        )
        pooled = Port(
            "pooled", "float32", ("rows", "width of the embedding"), "embedding of the person, of unit length"
        )
        self.outputs = (*maps, dense, pooled)
        self.facts = {
            "model": f"pre-trained encoder of {modality}",
            "encoder": encoder.config.name,
            "preparation": _CROP.format(side=side),
            **facts,
        }

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        model = self.model
        if self.modality == "rgb":
            maps = model.encode_rgb(model.prepare_rgb(image))
        else:
            maps = model.encode_depth(model.prepare_depth(image))
        return (*maps, model.dense_map(self.modality, maps), model.global_embedding(self.modality, maps))

    def examples(self, any_size: bool) -> Sequence[tuple[Tensor, ...]]:
        example = example_rgb if self.modality == "rgb" else example_depth
        return [(example(*size),) for size in square_sizes(self.side, self.stride, any_size)]

    def dynamic_shapes(self) -> list[tuple[bool, Any]]:
        return image_shapes(self.stride)


class SkeletonGraph(Graph):
    """keypoints [B, J, 3] -> embeddings of joints [B, J, D], pooled ones [B, D]."""

    title = "the keypoints encoder"
    stride = 0

    def __init__(self, model: MultiModalEncoders, facts: Mapping[str, Any]):
        super().__init__()
        self.model, self.count = _alone(model, "keypoints"), len(model.joint_set)
        meaning = "x, y in pixels of any picture, and visibility, 0 or 1; normalization is inside the graph"
        self.inputs = (Port("keypoints", "float32", ("rows", self.count, 3), meaning),)
        self.outputs = (
            Port("joints", "float32", ("rows", self.count, model.dense_width), "embeddings of joints, of unit length"),
            Port("pooled", "float32", ("rows", "width of the embedding"), "embedding of the person, of unit length"),
        )
        self.facts = {
            "model": "pre-trained encoder of keypoints",
            "joint_set": model.config.joint_set,
            "joint_names": list(model.joint_set.joints),
            **facts,
        }

    def forward(self, keypoints: Tensor) -> tuple[Tensor, Tensor]:
        model = self.model
        features = model.encode_keypoints(model.prepare_keypoints(keypoints), keypoints[..., 2])
        return model.joint_embedding(features), model.global_embedding("keypoints", features)

    def examples(self, any_size: bool) -> Sequence[tuple[Tensor, ...]]:
        generator = torch.Generator().manual_seed(0)
        found = []
        for rows in (2, 5):
            places = 200 * torch.rand(rows, self.count, 2, generator=generator)
            visible = (torch.rand(rows, self.count, 1, generator=generator) < 0.8).float()
            found.append((torch.cat([places, visible], -1),))
        return found

    def dynamic_shapes(self) -> list[tuple[bool, Any]]:
        return [(False, ({0: torch.export.Dim("rows", min=1, max=MAX_ROWS)},))]


def encoder_graph(model: MultiModalEncoders, modality: Modality, side: int, facts: Mapping[str, Any]) -> Graph:
    """Return the graph of an encoder with its mappers.

    Args:
        model: in evaluation mode, on the CPU, in float32.
        modality: "rgb", "depth" or "keypoints".
        side: of the pictures, a multiple of the largest stride, pixels; where other sides are possible, the first.
        facts: for the file, beside those of the encoder.
    """
    graph = SkeletonGraph(model, facts) if modality == "keypoints" else ImageGraph(model, modality, side, facts)
    return graph.eval()


def _alone(model: MultiModalEncoders, modality: Modality) -> Any:
    return without(model, [other for other in MODALITIES if other != modality])
