"""Fit a small heatmap network to synthetic people and export it as ONNX.

    python -m tests.helpers.fitted_heatmaps FOLDER

It has no use beyond the proof that what `prepare --detect` reads of such files is right: the people that it is scored
on are others than those that it was fitted to.
"""

import sys
import time
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.helpers.fitted_people import People, varied

NUM_PEOPLE = 3000
STEPS = 1500
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
            tile = varied(people, int(rng.integers(len(people.rgb))), rng, 25.0)
            box = tile.box + rng.uniform(-0.05, 0.05, 4) * (tile.box[2] - tile.box[0])
            cut, joints = crop(tile.rgb, tile.joints, box)
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


def write_heatmaps(folder: Path) -> Path:
    """Fit the heatmap network and write it as ONNX: 6 minutes of one core."""
    path = folder / "heatmaps.onnx"
    export(fit_heatmaps(People(0, NUM_PEOPLE), STEPS), path)
    return path


if __name__ == "__main__":
    torch.set_num_threads(1)
    write_heatmaps(Path(sys.argv[1]))
