"""Fit two small detectors to synthetic people: a Keypoint R-CNN, and a heatmap network that is exported as ONNX.

    python -m tests.helpers.fitted_detectors heatmaps FOLDER
    python -m tests.helpers.fitted_detectors rcnn FOLDER

They have no use beyond the proof that what `prepare --detect` reads of such files is right: the people that they are
scored on are others than those that they were fitted to.
"""

import json
import sys
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models.detection import KeypointRCNN
from torchvision.models.detection.backbone_utils import BackboneWithFPN
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.keypoint_rcnn import KeypointRCNNHeads, KeypointRCNNPredictor
from torchvision.models.resnet import BasicBlock, ResNet

from hcmoco.data.codecs import decode_rgb, encode_png
from hcmoco.data.schema import Person
from hcmoco.data.shards.reader import Shards
from hcmoco.data.skeletons import COCO_17, PEOPLE_31, convert
from hcmoco.synthetic import PeopleConfig, make_person

SIDE = 96  # of the pictures, pixels
NUM_PEOPLE = 3000
_FLIP = torch.from_numpy(COCO_17.flip)


class People:
    """Synthetic people indoors.

    Attributes:
        rgb: uint8 [N, SIDE, SIDE, 3].
        joints: float32 [N, 17, 3], COCO's joints in pixels, pixel centers at +0.5, and whether they are visible.
        box: float32 [N, 4].
    """

    def __init__(self, first: int, count: int):
        config = PeopleConfig(domain="indoor", size=SIDE)
        people = [make_person(config, first + k, dataset="people", split="train") for k in range(count)]
        self.rgb = np.stack([decode_rgb(each.rgb) for each in people])
        self.joints = np.stack([convert(each.keypoints, PEOPLE_31.name, COCO_17.name) for each in people])
        self.box = np.stack([each.box for each in people])


def varied(people: People, k: int, rng: np.random.Generator, turn: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Picture, joints and box of a person, mirrored, turned by up to `turn` degrees, scaled and moved at random."""
    rgb, joints, box = people.rgb[k], people.joints[k].copy(), people.box[k].copy()
    if rng.random() < 0.5:
        rgb, joints, box = rgb[:, ::-1], joints[COCO_17.flip], box[[2, 1, 0, 3]]
        joints[:, 0], box[[0, 2]] = SIDE - joints[:, 0], SIDE - box[[0, 2]]
    scale, angle = np.exp(rng.uniform(-0.25, 0.15)), rng.uniform(-turn, turn)
    matrix = cv2.getRotationMatrix2D((SIDE / 2 - 0.5, SIDE / 2 - 0.5), angle, scale)
    matrix[:, 2] += rng.uniform(-0.06, 0.06, 2) * SIDE
    rgb = cv2.warpAffine(np.ascontiguousarray(rgb), matrix, (SIDE, SIDE), borderMode=cv2.BORDER_REFLECT_101)

    def moved(xy: np.ndarray) -> np.ndarray:
        return (xy - 0.5) @ matrix[:, :2].T + matrix[:, 2] + 0.5

    joints[:, :2] = moved(joints[:, :2])
    corners = moved(np.array([[box[x], box[y]] for x in (0, 2) for y in (1, 3)]))
    low, high = corners.min(0), corners.max(0)
    box = np.concatenate([low, high]).clip(0, SIDE)
    joints[:, 2] *= ((joints[:, :2] > 0) & (joints[:, :2] < SIDE)).all(1)
    rgb = np.clip(rgb * rng.uniform(0.8, 1.2, 3), 0, 255)
    return rgb.astype(np.uint8), joints, box


# --- Keypoint R-CNN


def small_keypoint_rcnn() -> KeypointRCNN:
    """ResNet of one block a stage, FPN and heads of 64 channels."""
    body = ResNet(BasicBlock, [1, 1, 1, 1])
    names = {f"layer{number}": str(number - 1) for number in (1, 2, 3, 4)}
    return KeypointRCNN(
        BackboneWithFPN(body, names, [64, 128, 256, 512], 64),
        keypoint_head=KeypointRCNNHeads(64, (64, 64, 64)),
        keypoint_predictor=KeypointRCNNPredictor(64, 17),
        box_head=TwoMLPHead(64 * 49, 128),
        box_predictor=FastRCNNPredictor(128, 2),
        min_size=SIDE, max_size=2 * SIDE, rpn_pre_nms_top_n_train=200, rpn_post_nms_top_n_train=40,
        rpn_batch_size_per_image=64, box_batch_size_per_image=32,
    )  # fmt: skip


def _pictures(people: People, rng: np.random.Generator, count: int) -> Iterator[tuple[Tensor, dict[str, Tensor]]]:
    """Pictures of one person or of two beside each other, with COCO's numbers: joints count pixels' centers from 0."""
    for _ in range(count):
        tiles = [varied(people, int(rng.integers(len(people.rgb))), rng, 0.0) for _ in range(rng.integers(1, 3))]
        rgb = np.concatenate([tile[0] for tile in tiles], axis=1)
        joints = np.stack([tile[1] + (SIDE * at - 0.5, -0.5, 0) for at, tile in enumerate(tiles)])
        boxes = np.stack([tile[2] + np.array([1, 0, 1, 0]) * SIDE * at for at, tile in enumerate(tiles)])
        yield (
            torch.from_numpy(rgb).permute(2, 0, 1).float() / 255,
            {
                "boxes": torch.from_numpy(boxes).float(),
                "labels": torch.ones(len(boxes), dtype=torch.int64),
                "keypoints": torch.from_numpy(joints).float(),
            },
        )


def fit_keypoint_rcnn(people: People, steps: int, batch: int = 6, seed: int = 0) -> dict[str, Tensor]:
    """Fit the small Keypoint R-CNN and return its state dict."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    model = small_keypoint_rcnn().train()
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, steps, pct_start=0.15)
    begun = time.process_time()
    for step in range(1, steps + 1):
        pictures, targets = zip(*_pictures(people, rng, batch), strict=True)
        losses = model(list(pictures), list(targets))
        loss = sum(losses.values())
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimizer.step()
        schedule.step()
        if step % 50 == 0:
            shown = " ".join(f"{name[5:]} {each.item():.2f}" for name, each in losses.items())
            print(f"  step {step} {time.process_time() - begun:.0f} s CPU {shown}", flush=True)
    return model.state_dict()


# --- heatmaps

INPUT, MAP = 64, 32
PADDING = 1.25


def _block(channels_in: int, channels: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels_in, channels, 3, stride, 1, bias=False), nn.BatchNorm2d(channels), nn.ReLU(inplace=True)
    )


class HeatmapNet(nn.Module):
    """Heatmaps [N, 17, 32, 32] of pictures [N, 3, 64, 64], 0 to 1 around each joint; an hourglass with skips."""

    def __init__(self) -> None:
        super().__init__()
        widths = (32, 64, 128, 160)
        self.stem = _block(3, widths[0], 2)
        self.down = nn.ModuleList(nn.Sequential(_block(a, b, 2), _block(b, b)) for a, b in pairwise(widths))
        self.same = _block(widths[0], widths[0])
        self.up = nn.ModuleList(_block(b, a) for a, b in pairwise(widths))
        self.last = _block(widths[0], widths[0])
        self.head = nn.Conv2d(widths[0], 17, 1)

    def forward(self, x: Tensor) -> Tensor:
        levels = [self.same(self.stem(x))]
        for down in self.down:
            levels.append(down(levels[-1]))
        x = levels.pop()
        for up in reversed(self.up):
            x = F.interpolate(up(x), scale_factor=2.0, mode="nearest") + levels.pop()
        return self.head(self.last(x))


def crop(rgb: np.ndarray, joints: np.ndarray, box: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The square of PADDING times the longer side around a box, INPUT pixels wide, and the joints in its pixels."""
    center, side = (box[:2] + box[2:]) / 2, PADDING * max(box[2] - box[0], box[3] - box[1], 2.0)
    scale = INPUT / side
    matrix = np.array([[scale, 0, 0], [0, scale, 0]])
    matrix[:, 2] = INPUT / 2 - scale * (center - 0.5) - 0.5
    cut = cv2.warpAffine(rgb, matrix, (INPUT, INPUT))
    joints = joints.copy()
    joints[:, :2] = (joints[:, :2] - center) * scale + INPUT / 2
    return cut, joints


def fit_heatmaps(people: People, steps: int, batch: int = 32, seed: int = 0) -> HeatmapNet:
    """Fit the small heatmap network; colors are 0 to 1."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    model = HeatmapNet().train()
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, steps, pct_start=0.15)
    # Pixel 0 of the map lies on pixel 0 of the input, the last on the last.
    cells = np.arange(MAP) * (INPUT - 1) / (MAP - 1)
    begun = time.process_time()
    for step in range(1, steps + 1):
        pictures, maps, weights = [], [], []
        for _ in range(batch):
            rgb, joints, box = varied(people, int(rng.integers(len(people.rgb))), rng, 25.0)
            box = box + rng.uniform(-0.05, 0.05, 4) * (box[2] - box[0])
            cut, joints = crop(rgb, joints, box)
            near_x, near_y = (np.exp(-((joints[:, at : at + 1] - 0.5 - cells) ** 2) / (2 * 3.0**2)) for at in (0, 1))
            maps.append(near_y[:, :, None] * near_x[:, None, :])
            weights.append(joints[:, 2])
            pictures.append(cut)
        x = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).float() / 255
        target, weight = torch.from_numpy(np.stack(maps)).float(), torch.from_numpy(np.stack(weights)).float()
        error = ((model(x) - target) ** 2 * (1 + 8 * target)).mean((2, 3))
        loss = (error * (weight > 0)).sum() / (weight > 0).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if step % 100 == 0:
            print(f"  step {step} {time.process_time() - begun:.0f} s CPU loss {loss.item():.4f}", flush=True)
    return model.eval()


def export(model: HeatmapNet, path: Path) -> None:
    """Write the network as one ONNX file."""
    example = torch.zeros(2, 3, INPUT, INPUT)
    torch.onnx.export(
        model, (example,), str(path), input_names=["image"], output_names=["heatmaps"],
        dynamic_shapes={"x": {0: torch.export.Dim("people")}}, external_data=False,
    )  # fmt: skip


# --- the proof


def write_unseen(folder: Path, first: int, count: int) -> dict[str, list[tuple[np.ndarray, np.ndarray]]]:
    """Write pictures of people who were not fitted to, two beside each other, and people.jsonl with their boxes.

    Returns:
        By the picture's name, joints and box of both, in its pixels.
    """
    people, truth, lines = People(first, 2 * count), {}, []
    for k in range(count):
        name, pair = f"{k:03d}.png", (2 * k, 2 * k + 1)
        (folder / name).write_bytes(encode_png(np.concatenate([people.rgb[at] for at in pair], axis=1)))
        truth[name] = []
        for number, at in enumerate(pair):
            joints = people.joints[at] + np.array([SIDE * number, 0, 0])
            box = people.box[at] + np.array([1, 0, 1, 0]) * SIDE * number
            truth[name].append((joints, box))
            lines.append({"rgb": name, "id": f"{name}/{number}", "box": [float(each) for each in box]})
    (folder / "people.jsonl").write_text("\n".join(map(json.dumps, lines)))
    return truth


def share_placed(uri: str, truth: dict[str, list[tuple[np.ndarray, np.ndarray]]]) -> float:
    """The share of all visible joints that a prepared data set has within 10 % of the longer side of the person's box.

    A person of the data set is the one of the picture whose middle is nearest; whom nobody is, has no joint right.
    """
    shards = Shards.open(uri)
    found: dict[tuple[str, int], np.ndarray] = {}
    for group in range(len(shards.group_rows)):
        for row in shards.read_group(group).to_pylist():
            person = Person.from_row(row)
            x0, y0, side = person.crop[:3]
            joints = person.keypoints.copy()
            joints[:, :2] = joints[:, :2] * (side / person.size) + (x0, y0)
            name = person.id.partition("/")[2].partition("#")[0][:7]
            middle = x0 + side / 2
            found[name, min((0, 1), key=lambda at: abs((truth[name][at][1][[0, 2]]).mean() - middle))] = joints
    right = visible = 0
    for name, pair in truth.items():
        for number, (joints, box) in enumerate(pair):
            seen = joints[:, 2] > 0
            visible += seen.sum()
            if (name, number) in found:
                own = found[name, number]
                apart = np.linalg.norm(own[:, :2] - joints[:, :2], axis=1)
                right += (seen & (own[:, 2] > 0) & (apart <= 0.1 * max(box[2] - box[0], box[3] - box[1]))).sum()
    return float(right / visible)


HEATMAP_STEPS, RCNN_STEPS = 1500, 1500


def write_heatmaps(folder: Path) -> Path:
    """Fit the heatmap network and write it as ONNX: 6 minutes of one core."""
    path = folder / "heatmaps.onnx"
    export(fit_heatmaps(People(0, NUM_PEOPLE), HEATMAP_STEPS), path)
    return path


def write_keypoint_rcnn(folder: Path) -> Path:
    """Fit the Keypoint R-CNN and write its state dict: about 14 minutes of one core. How well it does is not known."""
    path = folder / "keypoint-rcnn.pth"
    torch.save(fit_keypoint_rcnn(People(0, NUM_PEOPLE), RCNN_STEPS), path)
    return path


if __name__ == "__main__":
    torch.set_num_threads(1)
    {"heatmaps": write_heatmaps, "rcnn": write_keypoint_rcnn}[sys.argv[1]](Path(sys.argv[2]))
