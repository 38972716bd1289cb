"""Person masks by a Mask R-CNN (He et al., ICCV 2017) of torchvision, from the file of its state dict.

torchvision has two: maskrcnn_resnet50_fpn (its published file maskrcnn_resnet50_fpn_coco-bf2d0c1e.pth) and
maskrcnn_resnet50_fpn_v2 (maskrcnn_resnet50_fpn_v2_coco-73cbd019.pth), which the keys of a file tell apart. The first
is built by the shapes of its tensors, so it may have another ResNet and other widths. Class 1 is the person: of COCO's
91, and of a network that was trained on people alone. Each process loads a file once.
https://docs.pytorch.org/vision/stable/models/mask_rcnn.html
"""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from hcmoco.data.boxes import overlap
from hcmoco.errors import UserError

PERSON = 1
_COCO_CLASSES = 91
_LEAST_OVERLAP = 0.3  # of the person's box with that of a detection
_SURE = 0.5  # a pixel of the mask is on the person from this probability on
_MAX_LONG = 1333 / 800  # torchvision's longest over shortest side
_LOGITS = "roi_heads.mask_predictor.mask_fcn_logits.weight"
_FIRST = "roi_heads.mask_head.0.0.weight"
_UPSAMPLED = "roi_heads.mask_predictor.conv5_mask.weight"
_SECOND = "maskrcnn_resnet50_fpn_v2"


@dataclass(frozen=True)
class Found:
    """One person that was found.

    Attributes:
        score: 0 to 1.
        box: float [4], x0, y0, x1, y1, pixels.
        mask: bool [H, W].
    """

    score: float
    box: np.ndarray
    mask: np.ndarray


@dataclass(frozen=True)
class MaskRcnn:
    """A Mask R-CNN in a file.

    Attributes:
        path: of the file, absolute.
        min_score: people below do not count, 0 to 1.
        side: shorter side at which pictures are seen, pixels.
        sha256: of the file, "" if it was not measured.
    """

    path: str
    min_score: float
    side: int
    sha256: str = ""

    def mask(
        self, rgb_HW3: np.ndarray, box_4: Sequence[float] | None = None, joints_N2: np.ndarray | None = None
    ) -> np.ndarray:
        """Return bool [H, W]: the person.

        Args:
            rgb_HW3: uint8.
            box_4: of the person, x0, y0, x1, y1, pixels; None: not known.
            joints_N2: x, y of the person's visible joints, pixels; the box counts only where there is none.

        Raises:
            ValueError: nobody is found, or nobody where the person is.
            UserError: the file is no Mask R-CNN.
        """
        found = _network(self.path, self.side).people(rgb_HW3, self.min_score)
        if not found:
            raise ValueError(
                f"the Mask R-CNN finds no person with a score of {self.min_score:g} or more; see --min-person-score"
            )
        chosen = choose(found, box_4, joints_N2)
        if chosen is None:
            raise ValueError(f"none of the {len(found)} people that the Mask R-CNN finds is where the person is")
        return chosen.mask

    def facts(self) -> dict[str, Any]:
        """Return what the manifest has to say of it. Raises UserError if the file is no Mask R-CNN."""
        return {
            "by": "Mask R-CNN",
            "path": self.path,
            "sha256": sha256(self.path),
            "network": _network(self.path, self.side).name,
            "min_person_score": self.min_score,
            "segment_side": self.side,
        }


def choose(
    found: Sequence[Found], box_4: Sequence[float] | None = None, joints_N2: np.ndarray | None = None
) -> Found | None:
    """Return the detection of one person; arguments as of `MaskRcnn.mask`.

    With joints it is the one whose mask holds most of them, at least one; with a box the one whose box overlaps it
    most, by 0.3 of their union at least; with neither the largest.
    """
    if joints_N2 is not None and len(joints_N2):
        height, width = found[0].mask.shape
        xy = np.floor(joints_N2).astype(int)
        xy = xy[((xy >= 0) & (xy < (width, height))).all(1)]
        held = [(int(each.mask[xy[:, 1], xy[:, 0]].sum()), each.score) for each in found]
        best = max(range(len(found)), key=held.__getitem__)
        return found[best] if held[best][0] else None
    if box_4 is not None:
        overlaps = [overlap(np.asarray(box_4, np.float64), each.box) for each in found]
        best = int(np.argmax(overlaps))
        return found[best] if overlaps[best] >= _LEAST_OVERLAP else None
    return max(found, key=lambda each: int(each.mask.sum()))


def sha256(path: str) -> str:
    """Return the SHA-256 of a file. Raises UserError if it cannot be read."""
    try:
        with Path(path).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise UserError(f"weights {path} cannot be read: {error.strerror or error}") from None


class _Network:
    """The network in this process, and the name of its kind."""

    def __init__(self, path: str, side: int):
        # Late: the programs that read data sets start without PyTorch.
        from hcmoco.detection.rcnn_parts import with_current_names
        from hcmoco.models.weight_files import read_tensors

        state = {key.removeprefix("module."): value for key, value in read_tensors(path).items()}
        self.name, self.model = _loaded(with_current_names(state), path, side)

    def people(self, rgb_HW3: np.ndarray, min_score: float) -> list[Found]:
        import torch

        image = torch.from_numpy(np.ascontiguousarray(rgb_HW3)).permute(2, 0, 1).float() / 255
        device = next(self.model.parameters()).device
        with torch.inference_mode():
            (result,) = self.model([image.to(device)])
        kept = (result["labels"] == PERSON) & (result["scores"] >= min_score)
        scores, boxes = result["scores"][kept].cpu().numpy(), result["boxes"][kept].cpu().numpy()
        masks = (result["masks"][kept, 0] >= _SURE).cpu().numpy()
        people = [Found(float(each[0]), *each[1:]) for each in zip(scores, boxes, masks, strict=True)]
        return [each for each in people if each.mask.any()]


@lru_cache(maxsize=1)
def _network(path: str, side: int) -> _Network:
    return _Network(path, side)


def _loaded(state: dict[str, Any], path: str, side: int) -> tuple[str, Any]:
    """The network's name, and itself in evaluation mode, on the GPU if this process has one."""
    import torch
    from torchvision.ops.misc import FrozenBatchNorm2d

    from hcmoco.detection import rcnn_parts

    if _LOGITS not in state:
        other = "a Keypoint R-CNN" if any("keypoint_predictor" in key for key in state) else "something else"
        raise UserError(
            f"weights {path} are of {other}, which draws no masks; give the state dict of torchvision's "
            f"maskrcnn_resnet50_fpn or {_SECOND}"
        )
    classes = len(state.get("roi_heads.box_predictor.cls_score.bias", ()))
    if classes <= PERSON:
        raise UserError(f"weights {path} do not say of how many classes they are; give a whole state dict")
    name, model = _made(state, path, classes, {"min_size": side, "max_size": round(_MAX_LONG * side)})
    try:
        lacking, unknown = model.load_state_dict(state, strict=False)
    except RuntimeError as error:
        raise UserError(f"weights {path} do not fit {name}: {str(error).splitlines()[-1].strip()}") from None
    lacking = [key for key in lacking if not key.endswith(rcnn_parts.COUNTER)]
    if lacking or unknown:
        raise UserError(
            f"weights {path} do not fit {name}: {len(lacking)} tensors are missing, {len(unknown)} unknown, such as "
            f"{[*lacking, *unknown][0]}; give a whole state dict"
        )
    if classes == _COCO_CLASSES:
        # The published weights were trained with frozen batch norm without an epsilon: torchvision sets it, too.
        for module in model.modules():
            if isinstance(module, FrozenBatchNorm2d):
                module.eps = 0.0
    return name, model.eval().to("cuda" if torch.cuda.is_available() else "cpu")


def _made(state: dict[str, Any], path: str, classes: int, size: dict[str, int]) -> tuple[str, Any]:
    """The network that these tensors are of, by its name and without its weights."""
    from torchvision.models import detection
    from torchvision.models.detection.mask_rcnn import MaskRCNN, MaskRCNNHeads, MaskRCNNPredictor

    from hcmoco.detection import rcnn_parts

    if any(key.startswith("roi_heads.mask_head.0.1.") for key in state):  # its heads have normalization
        model = detection.maskrcnn_resnet50_fpn_v2(weights=None, weights_backbone=None, num_classes=classes, **size)
        return _SECOND, model
    if missing := [key for key in (*rcnn_parts.NEEDED, _FIRST, _UPSAMPLED) if key not in state]:
        raise UserError(
            f"weights {path} do not fit maskrcnn_resnet50_fpn: tensors that tell its shape are missing, such as "
            f"{missing[0]}; give a whole state dict"
        )
    heads = [key for key in state if re.fullmatch(r"roi_heads\.mask_head\.\d+\.0\.weight", key)]
    upsampled = state[_UPSAMPLED]
    model = MaskRCNN(
        rcnn_parts.make_backbone(state),
        mask_head=MaskRCNNHeads(
            rcnn_parts.width(state), [len(state[key]) for key in sorted(heads, key=_number)], dilation=1
        ),
        mask_predictor=MaskRCNNPredictor(upsampled.shape[0], upsampled.shape[1], classes),
        box_head=rcnn_parts.make_box_head(state),
        box_predictor=rcnn_parts.make_box_predictor(state),
        **size,
    )
    return f"maskrcnn_resnet{rcnn_parts.depth(state)}_fpn", model


def _number(key: str) -> int:
    return int(key.split(".")[2])
