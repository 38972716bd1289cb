"""torchvision's Keypoint R-CNN (He et al. 2017) from the state dict of one.

The file tells everything but how pictures are resized: the depth of the ResNet, the widths of the FPN and the heads,
and the numbers of classes and joints are read off the shapes of its tensors (`rcnn_parts`). Released files:
https://docs.pytorch.org/vision/stable/models/keypoint_rcnn.html.

Joints. A head's map is 56 x 56; torchvision reports its highest logit, which has no scale. As in detectron2
(structures/keypoints.py, heatmaps_to_keypoints) the confidence is the share of a softmax over the map instead. COCO
counts pixels' centers from 0 and torchvision's training takes its numbers as they are, so half a pixel is added.

Shapes: H, W of a picture, K people, J joints.
"""

import re
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn
from torchvision.models.detection import KeypointRCNN
from torchvision.models.detection.keypoint_rcnn import KeypointRCNNHeads, KeypointRCNNPredictor
from torchvision.ops.misc import FrozenBatchNorm2d

from hcmoco.detection import rcnn_parts
from hcmoco.detection.detector import Detected
from hcmoco.errors import UserError

KIND = "Keypoint R-CNN"
MIN_CONFIDENCE, MIN_SCORE = 0.05, 0.5
WHOSE = "detectron2's own, of a joint and of a person"
SUFFIXES = (".pth", ".pt", ".safetensors")
PIXEL_CENTER = 0.5
"""Added to the joints of a model that was trained on COCO's numbers."""
# torchvision runs this released file (keypointrcnn_resnet50_fpn_coco-fc266e95.pth), and no other, without an epsilon in
# its normalization (models/detection/keypoint_rcnn.py); the file's name has the beginning of its SHA-256.
_WITHOUT_EPSILON = "fc266e95"
_PERSON = 1
_FIRST = "roi_heads.keypoint_head.0.weight"
_SCORES = "roi_heads.keypoint_predictor.kps_score_lowres.weight"
_SIZE = (800, 1333)  # torchvision's own


def build(state: Mapping[str, Tensor], size: tuple[int, int] | None = None, **settings: object) -> KeypointRCNN:
    """Build the model whose shapes these tensors have, and load them into it.

    Args:
        state: under torchvision's names, those of today or those from before 0.13.
        size: the shorter side to which pictures are resized, and the most that the longer one may have then; pixels.
            None: torchvision's 800 and 1333.
        settings: further ones of torchvision's KeypointRCNN.

    Raises:
        UserError: the tensors are not those of such a model; the line names the first that is missing or of another
            shape.
    """
    state = rcnn_parts.with_current_names(state)
    if missing := next((name for name in (*rcnn_parts.NEEDED, _FIRST, _SCORES) if name not in state), None):
        raise _other(f"it lacks {missing}")
    heads = [name for name in state if re.fullmatch(r"roi_heads\.keypoint_head\.\d+\.weight", name)]
    shortest, longest = size or _SIZE
    model = KeypointRCNN(  # what it does not take beside its parts, their numbers of classes and joints, they have
        rcnn_parts.make_backbone(state),
        keypoint_head=KeypointRCNNHeads(
            rcnn_parts.width(state), [len(state[name]) for name in sorted(heads, key=_number)]
        ),
        keypoint_predictor=KeypointRCNNPredictor(*state[_SCORES].shape[:2]),
        box_head=rcnn_parts.make_box_head(state),
        box_predictor=rcnn_parts.make_box_predictor(state),
        min_size=shortest,
        max_size=longest,
        **settings,
    )
    own = model.state_dict()
    for name, tensor in own.items():
        if name not in state:
            raise _other(f"it lacks {name}")
        if state[name].shape != tensor.shape:
            raise _other(f"{name} is {list(state[name].shape)}, not {list(tensor.shape)}")
    if unknown := next((name for name in state if name not in own), None):
        raise _other(f"it has {unknown}")
    model.load_state_dict(state)
    return model


def num_joints(state: Mapping[str, Tensor]) -> int:
    """Return the number of joints of a state dict's model; raise UserError if it is another model's."""
    if _SCORES not in state or state[_SCORES].ndim != 4:
        raise _other(f"it lacks {_SCORES}")
    return state[_SCORES].shape[1]


def _number(name: str) -> int:
    return int(name.split(".")[2])


def _other(fault: str) -> UserError:
    return UserError(
        f"its tensors are not those of torchvision's {KIND} with a ResNet and an FPN: {fault}; give the state dict of "
        "torchvision.models.detection.keypointrcnn_resnet50_fpn, or a pose model as ONNX"
    )


class KeypointRcnn:
    """A detector.

    Args:
        state: as of `build`.
        sha256: of the file.
        min_score: people below it are left out.
        size: as of `build`.
        device: where it computes.

    Raises:
        UserError: see `build`.
    """

    finds_people, takes_boxes = True, False

    def __init__(
        self,
        state: Mapping[str, Tensor],
        sha256: str = "",
        min_score: float = MIN_SCORE,
        size: tuple[int, int] | None = None,
        device: str = "cpu",
    ):
        self.num_joints = num_joints(state)
        self._device = device
        self._model = build(state, size, box_score_thresh=min_score).eval().to(device)
        if sha256.startswith(_WITHOUT_EPSILON):
            for module in self._model.modules():
                if isinstance(module, FrozenBatchNorm2d):
                    module.eps = 0.0
        self._maps = torch.empty(0)
        predictor: nn.Module = self._model.roi_heads.keypoint_predictor
        predictor.register_forward_hook(self._keep)

    def _keep(self, module: nn.Module, given: object, maps_KJHW: Tensor) -> None:
        self._maps = maps_KJHW

    @torch.inference_mode()
    def detect(self, rgb: np.ndarray, boxes: np.ndarray | None = None) -> list[Detected]:
        """Return the people of a picture; see `Detector`."""
        picture = torch.from_numpy(np.ascontiguousarray(rgb)).to(self._device).permute(2, 0, 1).float() / 255
        found = self._model([picture])[0]
        confidence_KJ = self._maps.flatten(2).softmax(2).amax(2)
        people = []
        for k in (found["labels"] == _PERSON).nonzero()[:, 0].tolist():
            xy = found["keypoints"][k, :, :2].double().cpu().numpy() + PIXEL_CENTER
            joints = np.column_stack([xy, confidence_KJ[k].double().cpu().numpy()])
            people.append(Detected(found["boxes"][k].double().cpu().numpy(), float(found["scores"][k]), joints))
        return people
