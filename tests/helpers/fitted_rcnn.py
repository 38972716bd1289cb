"""Fit a small Keypoint R-CNN and a small Mask R-CNN to synthetic people.

    python -m tests.helpers.fitted_rcnn FOLDER

Both are one network with torchvision's names: a ResNet with an FPN, and heads for boxes, joints and masks. It is fitted
in two phases, since neither needs the other. First the backbone and the heads of joints and masks learn on the true
boxes, moved a little. Then the proposals and the boxes learn on the features of the finished backbone. A person costs a
third of what they do in torchvision's own loop, and joints take tens of thousands of people. The best map that does
not look at the picture has a loss of 6.57, where a guess has log(56 * 56) = 8.05; the fit passes it after 2,000 people,
and is at 4.0 after all 38,400.

The two files have no use beyond the proof that what `prepare --detect` and `--segment` read of such files is right: the
people that they are scored on are others.

Shapes: B pictures, K people of one, H, W of a picture, J joints.
"""

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torchvision.models.detection import KeypointRCNN
from torchvision.models.detection.backbone_utils import BackboneWithFPN
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.keypoint_rcnn import KeypointRCNNHeads, KeypointRCNNPredictor
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
from torchvision.models.detection.roi_heads import keypointrcnn_loss, maskrcnn_loss
from torchvision.models.resnet import BasicBlock, ResNet
from torchvision.ops import MultiScaleRoIAlign

from tests.helpers.fitted_people import SIDE, People, varied

WIDTH = 64
BESIDE = 2  # people in a picture
BATCH = 16  # pictures
JITTER = 0.1  # of a box's side, by which the true boxes are moved
JOINT_STEPS, BOX_STEPS = 1200, 250
NUM_PEOPLE = 3000


def small_keypoint_rcnn() -> KeypointRCNN:
    """ResNet of one block a stage; FPN and heads of WIDTH channels."""
    body = ResNet(BasicBlock, [1, 1, 1, 1])
    names = {f"layer{number}": str(number - 1) for number in (1, 2, 3, 4)}
    return KeypointRCNN(
        BackboneWithFPN(body, names, [64, 128, 256, 512], WIDTH),
        keypoint_head=KeypointRCNNHeads(WIDTH, (WIDTH,) * 3),
        keypoint_predictor=KeypointRCNNPredictor(WIDTH, 17),
        box_head=TwoMLPHead(WIDTH * 49, 128),
        box_predictor=FastRCNNPredictor(128, 2),
        min_size=SIDE, max_size=4 * SIDE, rpn_pre_nms_top_n_train=200, rpn_post_nms_top_n_train=40,
        rpn_batch_size_per_image=64, box_batch_size_per_image=32,
    )  # fmt: skip


def small_rcnn() -> KeypointRCNN:
    """The same with a head that draws masks."""
    model = small_keypoint_rcnn()
    model.roi_heads.mask_roi_pool = MultiScaleRoIAlign(["0", "1", "2", "3"], 14, 2)
    model.roi_heads.mask_head = MaskRCNNHeads(WIDTH, (WIDTH,) * 2, 1)
    model.roi_heads.mask_predictor = MaskRCNNPredictor(WIDTH, WIDTH, 2)
    return model


def without(state: dict[str, Tensor], head: str) -> dict[str, Tensor]:
    """The tensors of a model that lacks one head: "keypoint" or "mask"."""
    return {name: value for name, value in state.items() if not name.startswith(f"roi_heads.{head}_")}


@dataclass(frozen=True)
class Batch:
    """Pictures, and for each [K, ...] boxes, joints by COCO's numbers (the first pixel's center is 0) and masks."""

    images: ImageList
    boxes: list[Tensor]
    joints: list[Tensor]
    masks: list[Tensor]

    @property
    def targets(self) -> list[dict[str, Tensor]]:
        labels = torch.ones(BESIDE, dtype=torch.int64)
        return [
            {"boxes": boxes, "labels": labels, "masks": masks}
            for boxes, masks in zip(self.boxes, self.masks, strict=True)
        ]


def make_batch(people: People, rng: np.random.Generator, model: KeypointRCNN) -> Batch:
    """BATCH pictures of BESIDE people beside each other."""
    images, boxes, joints, masks = [], [], [], []
    for _ in range(BATCH):
        tiles = [varied(people, int(rng.integers(len(people.rgb))), rng, 0.0) for _ in range(BESIDE)]
        rgb = np.concatenate([tile.rgb for tile in tiles], axis=1)
        images.append(model.transform.normalize(torch.from_numpy(rgb).permute(2, 0, 1).float() / 255))
        boxes.append(np.stack([tile.box + np.array([1, 0, 1, 0]) * SIDE * at for at, tile in enumerate(tiles)]))
        joints.append(np.stack([tile.joints + np.array([SIDE * at - 0.5, -0.5, 0]) for at, tile in enumerate(tiles)]))
        own = np.zeros((BESIDE, *rgb.shape[:2]), np.uint8)
        for at, tile in enumerate(tiles):
            own[at, :, SIDE * at : SIDE * (at + 1)] = tile.mask
        masks.append(torch.from_numpy(own))
    return Batch(
        ImageList(torch.stack(images).contiguous(memory_format=torch.channels_last), [(SIDE, BESIDE * SIDE)] * BATCH),
        [torch.from_numpy(each).float() for each in boxes],
        [torch.from_numpy(each).float() for each in joints],
        masks,
    )


def joint_losses(model: KeypointRCNN, batch: Batch, rng: np.random.Generator) -> dict[str, Tensor]:
    """torchvision's losses of joints and masks on the true boxes, each side moved by up to JITTER of the box."""
    features = model.backbone(batch.images.tensors)
    near = []
    for boxes in batch.boxes:
        sides = (boxes[:, 2:] - boxes[:, :2]).repeat(1, 2)
        near.append(boxes + torch.from_numpy(rng.uniform(-JITTER, JITTER, boxes.shape)).float() * sides)
    own = [torch.arange(BESIDE)] * BATCH
    heads, sizes = model.roi_heads, batch.images.image_sizes
    cut = heads.keypoint_roi_pool(features, near, sizes)
    maps = heads.keypoint_predictor(heads.keypoint_head(cut)).contiguous()
    drawn = heads.mask_predictor(heads.mask_head(heads.mask_roi_pool(features, near, sizes)))
    return {
        "joints": keypointrcnn_loss(maps, near, batch.joints, own),
        "masks": maskrcnn_loss(drawn, near, batch.masks, [torch.ones(BESIDE, dtype=torch.int64)] * BATCH, own),
    }


def box_losses(model: KeypointRCNN, batch: Batch) -> dict[str, Tensor]:
    """torchvision's losses of proposals and boxes; the backbone stays as it is."""
    with torch.no_grad():
        features = model.backbone(batch.images.tensors)
    proposals, losses = model.rpn(batch.images, features, batch.targets)
    heads = model.roi_heads
    # Without these two heads its forward pass is that of a Faster R-CNN.
    joints, heads.keypoint_head, masks, heads.mask_head = heads.keypoint_head, None, heads.mask_head, None
    try:
        losses |= heads(features, proposals, batch.images.image_sizes, batch.targets)[1]
    finally:
        heads.keypoint_head, heads.mask_head = joints, masks
    return losses


def fit(people: People, joint_steps: int = JOINT_STEPS, box_steps: int = BOX_STEPS, seed: int = 0) -> KeypointRCNN:
    """Fit the small network to people: joints and masks first, then proposals and boxes."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    model = small_rcnn().to(memory_format=torch.channels_last).train()
    heads = model.roi_heads
    parts = [model.backbone, heads.keypoint_head, heads.keypoint_predictor, heads.mask_head, heads.mask_predictor]
    _descend(parts, lambda: joint_losses(model, make_batch(people, rng, model), rng), joint_steps, 1.5e-3)
    model.backbone.eval()  # normalization with the statistics that it will be used with
    parts = [model.rpn, heads.box_head, heads.box_predictor]
    _descend(parts, lambda: box_losses(model, make_batch(people, rng, model)), box_steps, 2e-3)
    return model.eval()


def _descend(parts: list[nn.Module], losses_of: Callable[[], dict[str, Tensor]], steps: int, rate: float) -> None:
    parameters = [each for part in parts for each in part.parameters()]
    optimizer = torch.optim.AdamW(parameters, rate, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, steps, pct_start=0.1)
    begun = time.process_time()
    for step in range(1, steps + 1):
        losses = losses_of()
        optimizer.zero_grad()
        torch.stack(list(losses.values())).sum().backward()
        nn.utils.clip_grad_norm_(parameters, 5.0)
        optimizer.step()
        schedule.step()
        if step % 50 == 0:
            shown = " ".join(f"{name} {each.item():.2f}" for name, each in losses.items())
            print(f"  step {step} {time.process_time() - begun:.0f} s CPU {shown}", flush=True)


def write_rcnn(folder: Path) -> tuple[Path, Path]:
    """Fit the network and write the state dicts of a Keypoint R-CNN and of a Mask R-CNN: 9 minutes of one core."""
    state = fit(People(0, NUM_PEOPLE)).state_dict()
    paths = folder / "keypoint-rcnn.pth", folder / "mask-rcnn.pth"
    for path, other in zip(paths, ("mask", "keypoint"), strict=True):
        torch.save({name: value.contiguous() for name, value in without(state, other).items()}, path)
    return paths


if __name__ == "__main__":
    torch.set_num_threads(1)
    write_rcnn(Path(sys.argv[1]))
