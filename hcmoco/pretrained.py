"""Pre-trained encoders and the space that they share: what `hcmoco.load` returns.

    import hcmoco

    model = hcmoco.load("people-small")
    found = model.embed(rgb=pictures, depth=depth)
    similarity = found.rgb.pooled @ found.depth.pooled.T

Needs neither Ray nor MLflow. Shapes: B rows, H, W rows and columns of the input, h, w those of the finest map
(a quarter of them), J joints, D embedding.
"""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from os import PathLike, fspath
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from hcmoco.data.depth_masking import SHOWN, differs, shows_background
from hcmoco.data.transforms import Augmentation, AugmentConfig, center_affine, warp_depth, warp_keypoints, warp_rgb
from hcmoco.embed_inputs import check_keypoints, depth_rows, keypoint_rows, rgb_rows
from hcmoco.export import load_export
from hcmoco.models.multimodal import MultiModalEncoders, evaluation_mode
from hcmoco.weights import find_weights


@dataclass(frozen=True)
class Embeddings:
    """Embeddings of B rows of one modality. All have unit length, so that products are cosines; float32.

    Attributes:
        pooled: [B, D], of the whole person (f^g of the paper's section 3.1).
        dense: [B, D, h, w], of every position of the stride-4 map; None for keypoints, or where it was not asked for.
        joints: [B, J, D], of the joints of `Pretrained.joints`: of keypoints themselves, and of images at them. Zero
            where a joint is not visible; None without keypoints.
    """

    pooled: Tensor
    dense: Tensor | None = None
    joints: Tensor | None = None


@dataclass(frozen=True)
class Embedded:
    """What `Pretrained.embed` returns: embeddings by modality, None for one that was not given."""

    rgb: Embeddings | None = None
    depth: Embeddings | None = None
    keypoints: Embeddings | None = None


class Pretrained(nn.Module):
    """Encoders of RGB, depth and 2D keypoints with the mappers into their shared space.

    A module as any other: `to`, `half`, `compile` and `parameters` work. Build one with `hcmoco.load`.

    Attributes:
        rgb, depth, keypoints: the encoders. The first two return feature pyramids, stride 4 first.
        joints: names of the joints that keypoints and joint embeddings have, in order.
        joint_set: name of that set.
        embedding_size: D.
        image_size: side of the crops that it was trained on, pixels; None where the export does not say.
        training_info: what the export says of its training: recipe, steps, data, probes, terms.
    """

    def __init__(self, model: MultiModalEncoders, training: Mapping[str, Any]):
        super().__init__()
        self.model = model
        self.training_info = dict(training)
        self.joint_set = model.config.joint_set
        self.joints = tuple(model.joint_set.joints)
        self.embedding_size = model.dense_width
        size = training.get("size")
        self.image_size = size if isinstance(size, int) else None

    @property
    def rgb(self) -> nn.Module:
        """The RGB encoder: normalized RGB [B, 3, H, W] to its pyramid."""
        return self.model.rgb

    @property
    def depth(self) -> nn.Module:
        """The depth encoder: normalized depth [B, C, H, W] to its pyramid."""
        return self.model.depth

    @property
    def keypoints(self) -> nn.Module:
        """The skeleton encoder: normalized keypoints [B, J, 2] to joints' features [B, J, D]."""
        return self.model.keypoints

    def crop(self, image: Any, box: Sequence[float] | None = None, *, size: int | None = None) -> np.ndarray:
        """Cut a person out of a picture, as in training: a square of 1.25 times the box's longest side.

        Args:
            image: uint8 [H, W, 3] RGB, or depth [H, W] as `embed` takes it.
            box: x0, y0, x1, y1 of the person, pixels; None: the person is in the middle two thirds of a square.
            size: side of the result, pixels; None: `image_size`.

        Returns:
            [size, size, 3] or [size, size] of the image's type. Depth is not blended.

        Raises:
            ValueError: no picture, a box without area, or no size.
        """
        picture = np.asarray(image)
        if picture.ndim not in (2, 3) or not picture.size:
            raise ValueError(
                f"an image is uint8 [H, W, 3] or depth [H, W]; this is {picture.dtype} {list(picture.shape)}"
            )
        side = size or self.image_size
        if side is None:
            raise ValueError("the export does not say what size it was trained on; give size, a multiple of 32")
        augmentation = self._augmentation(picture.shape[:2], box, side)
        if picture.ndim == 3 and picture.dtype == np.uint8 and picture.shape[2] == 3:
            return warp_rgb(picture, augmentation, side)
        if picture.ndim == 2:
            return warp_depth(picture, augmentation, side)
        raise ValueError(f"an image is uint8 [H, W, 3] or depth [H, W]; this is {picture.dtype} {list(picture.shape)}")

    def crop_keypoints(
        self,
        keypoints: Any,
        picture_size: tuple[int, int],
        box: Sequence[float] | None = None,
        *,
        size: int | None = None,
    ) -> np.ndarray:
        """Move keypoints into the crop that `crop` makes.

        Args:
            keypoints: [J, 3], x, y in pixels of the picture, visibility 0 or 1.
            picture_size: height and width of the picture, pixels.
            box, size: as of `crop`.

        Returns:
            float32 [J, 3]; joints outside the crop are not visible.
        """
        side = size or self.image_size
        if side is None:
            raise ValueError("the export does not say what size it was trained on; give size, a multiple of 32")
        given = np.asarray(keypoints, np.float32)
        if given.ndim != 2 or given.shape[1] != 3:
            raise ValueError(f"keypoints are [J, 3], x, y and visibility; these are {list(given.shape)}")
        if not isinstance(picture_size, Sequence) or len(picture_size) != 2:
            raise ValueError(f"picture_size is (height, width) of the picture, pixels; this is {picture_size!r}")
        check_keypoints(given)
        return warp_keypoints(given, self._augmentation(picture_size, box, side), side, np.arange(len(given)))

    @torch.inference_mode()
    def embed(
        self,
        rgb: Any = None,
        depth: Any = None,
        keypoints: Any = None,
        *,
        joint_set: str | None = None,
        dense: bool = True,
        batch_size: int = 64,
    ) -> Embedded:
        """Embed people: pictures, depth and 2D keypoints of them, each or all.

        Rows that are given together are of the same people, so that images get embeddings at the keypoints' joints.

        Args:
            rgb: uint8 [B, H, W, 3] or [H, W, 3], RGB, 0..255, or a list of such pictures of one size (arrays, tensors,
                PIL images). Crops around one person each, see `crop`. H and W are multiples of 32.
            depth: [B, H, W] or [H, W], or a list: integers are millimeters, floats are meters; 0 is no reading.
            keypoints: [B, J, 3] or [J, 3], x, y in pixels of the crops, visibility 0 or 1.
            joint_set: name of the keypoints' joint set, such as "coco-17"; None: `Pretrained.joint_set`. Joints are
                matched by name.
            dense: whether to return dense embeddings, which take most of the memory.
            batch_size: rows that are encoded at once.

        Returns:
            Embeddings of what was given, on the model's device. They are computed in evaluation mode.

        Raises:
            ValueError: values of another type, range, shape or unit, or of different numbers of rows.
        """
        given = {
            "rgb": None if rgb is None else rgb_rows(rgb),
            "depth": None if depth is None else depth_rows(depth),
            "keypoints": None
            if keypoints is None
            else keypoint_rows(keypoints, joint_set or self.joint_set, self.joint_set),
        }
        counts = {name: len(rows) for name, rows in given.items() if rows is not None}
        if len(set(counts.values())) != 1:
            raise ValueError(
                f"different numbers of rows: {counts}" if counts else "nothing to embed: give rgb, depth or keypoints"
            )
        if batch_size < 1:
            raise ValueError(f"batch_size is {batch_size}: at least 1")
        self._check(given)
        count = next(iter(counts.values()))
        with evaluation_mode(self):
            parts = [
                self.encode(
                    {name: None if rows is None else rows[first : first + batch_size] for name, rows in given.items()},
                    dense=dense,
                )
                for first in range(0, count, batch_size)
            ]
        return Embedded(**{name: _joined([getattr(part, name) for part in parts]) for name in given})

    def encode(self, rows: Mapping[str, np.ndarray | None], *, joints: bool = True, dense: bool = True) -> Embedded:
        """Encode one batch of rows that are known to be right: nothing is checked, unlike in `embed`.

        The caller sees to evaluation mode and to `torch.inference_mode`.

        Args:
            rows: by modality, or None: rgb uint8 [B, H, W, 3], depth uint16 [B, H, W] in millimeters, keypoints float32
                [B, J, 3] of the model's joint set, pixels of the images and visibility 0 or 1.
            joints: whether to return embeddings of the keypoints' joints.
            dense: whether to return dense embeddings.
        """
        model = self.model
        parameter = next(model.parameters())
        device, dtype = parameter.device, parameter.dtype

        def sent(array: np.ndarray) -> Tensor:
            return torch.from_numpy(np.ascontiguousarray(array)).to(device)

        features: dict[str, Any] = {}
        keypoints = None if rows["keypoints"] is None else sent(rows["keypoints"])
        if rows["rgb"] is not None:
            features["rgb"] = model.encode_rgb(model.prepare_rgb(sent(rows["rgb"])).to(dtype))
        if rows["depth"] is not None:
            features["depth"] = model.encode_depth(model.prepare_depth(sent(rows["depth"])).to(dtype))
        if keypoints is not None:
            normalized = model.prepare_keypoints(keypoints).to(dtype)
            features["keypoints"] = model.encode_keypoints(normalized, keypoints[..., 2])
        found = {}
        for name, each in features.items():
            at_joints = None
            if joints and keypoints is not None:
                size = None if name == "keypoints" else rows[name].shape[1:3]  # type: ignore[union-attr]
                at_joints = (
                    model.joint_embedding(each)
                    if size is None
                    else model.dense_at(name, each, model.joint_cells(keypoints, size))
                )
                at_joints = at_joints.where(keypoints[..., 2:] > 0, 0)
            with_map = dense and name != "keypoints"
            found[name] = Embeddings(
                model.global_embedding(name, each), model.dense_map(name, each) if with_map else None, at_joints
            )
        return Embedded(**found)

    def _augmentation(self, size: Sequence[int], box: Sequence[float] | None, side: int) -> Augmentation:
        height, width = size
        corners = None if box is None else np.asarray(box, np.float64)
        if corners is not None and corners.shape != (4,):
            raise ValueError(f"a box is x0, y0, x1, y1, four numbers; this has the shape {list(corners.shape)}")
        if corners is not None and not _lies_in(corners, height, width):
            raise ValueError(
                f"a box is x0, y0, x1, y1 in pixels; {corners.tolist()} is beside a picture of {width} x {height}"
            )
        return center_affine(AugmentConfig(size=side), corners, (width, height))

    def _check(self, given: Mapping[str, np.ndarray | None]) -> None:
        """Raise ValueError for sizes that the encoders or the other modality do not have, and warn of depth of another
        kind than that of the training."""
        sizes = {name: rows.shape[1:3] for name in ("rgb", "depth") if (rows := given[name]) is not None}
        for name, (height, width) in sizes.items():
            stride = max(getattr(self.model, name).strides[-1], 32)
            if height % stride or width % stride or not min(height, width):
                raise ValueError(
                    f"{name} is {width} x {height} pixels; both sides must be multiples of {stride}: "
                    "`crop` cuts people out in a size that fits"
                )
        if len(set(sizes.values())) > 1 and given["keypoints"] is not None:
            raise ValueError(f"keypoints are pixels of both images, which differ in size: {sizes}")
        if given["depth"] is not None and self.model.config.depth.is_points:
            raise ValueError(
                f"the depth encoder is {self.model.config.depth.name}, which reads points in the camera's frame; embed "
                "rgb and keypoints, or call `depth` with points"
            )
        depth, trained = given["depth"], str(self.training_info.get("depth_masking", ""))
        if depth is not None and trained in SHOWN:
            found = "unmasked" if all(shows_background(each) for each in depth[:8]) else ""
            if differs(trained, found):
                warnings.warn(
                    f"the encoder was trained on depth that is {SHOWN[trained]}, this depth is {SHOWN[found]}: "
                    "the embeddings mean little; set the background to 0 first",
                    stacklevel=4,
                )


def _lies_in(box: np.ndarray, height: int, width: int) -> bool:
    """Whether a box shares at least a pixel with a picture."""
    x0, y0, x1, y1 = box
    return bool(min(x1, width) - max(x0, 0) >= 1 and min(y1, height) - max(y0, 0) >= 1)


def load(
    name: str | PathLike[str], *, device: str | torch.device = "cpu", dtype: torch.dtype = torch.float32
) -> Pretrained:
    """Load pre-trained encoders with their mappers into the shared space.

    Args:
        name: a name of `hcmoco.list_weights()`; a folder or URI (`s3://...`) of a finished pre-training or of its
            export, a relative one below the current folder; or `owner/name` of a repository of the Hugging Face Hub
            that holds an export.
        device: where it is to compute.
        dtype: of the encoders' arithmetic; embeddings are float32 always.

    Returns:
        The model, in evaluation mode.

    Raises:
        UserError: nothing is there, or it is no export, damaged, or without mappers.
        TypeError, RuntimeError: `dtype` is none of PyTorch's, or it has no such device.
    """
    if not isinstance(dtype, torch.dtype) or not dtype.is_floating_point:
        raise TypeError(f"dtype is one of PyTorch's floating types, such as torch.bfloat16; this is {dtype!r}")
    if not isinstance(name, str | PathLike):
        raise TypeError(f"name is a text or a path; this is {name!r}")
    export = load_export(find_weights(fspath(name)))
    return Pretrained(export.model_with_mappers(), export.training).to(device, dtype).eval()


def _joined(parts: Sequence[Embeddings | None]) -> Embeddings | None:
    """The embeddings of all batches together."""
    found = [part for part in parts if part is not None]
    if not found:
        return None
    dense = [part.dense for part in found if part.dense is not None]
    joints = [part.joints for part in found if part.joints is not None]
    return Embeddings(
        torch.cat([part.pooled for part in found]),
        torch.cat(dense) if dense else None,
        torch.cat(joints) if joints else None,
    )
