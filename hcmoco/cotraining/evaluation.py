"""Scores of a co-trained model on fixed crops: read on RGB alone, on depth alone and on both.

Shape suffixes: B rows, S side of the crop in pixels.
"""

from collections.abc import Iterable

import numpy as np
import torch

from hcmoco.cotraining.loader import LabeledBatch
from hcmoco.cotraining.model import INPUTS, CoTrained
from hcmoco.errors import UserError
from hcmoco.pretraining.losses import encode
from hcmoco.pretraining.views import to_device
from hcmoco.tasks.base import Result
from hcmoco.tasks.parsing.metric import ParsingMetric
from hcmoco.tasks.parsing.task import ParsingBatch
from hcmoco.training.precision import float32


@float32()
@torch.inference_mode()
def predict(model: CoTrained, batch: LabeledBatch, device: torch.device) -> dict[str, np.ndarray]:
    """uint8 [B, S, S], the most likely part, by what the head is read on (INPUTS), of a model in evaluation mode.

    UserError where a row's crop shows no RGB or no depth: all three are to be of the same people.
    """
    views = to_device(batch.batch, device, model.encoders)
    features, _ = encode(model.encoders, views)
    everyone_B = np.ones(len(batch), bool)
    predicted = {}
    for which in INPUTS:
        dense_BDHW, rows = model.dense(features, views, which, everyone_B)
        if len(rows) < len(batch):
            raise UserError(
                f"{len(batch) - len(rows)} of {len(batch)} people to be scored have no {which} in "
                "their centered crop; name a data set without such rows"
            )
        predicted[which] = model.logits(dense_BDHW, views.size).argmax(1).to(torch.uint8).cpu().numpy()
    return predicted


def evaluate(model: CoTrained, batches: Iterable[LabeledBatch], device: torch.device) -> Result:
    """`<input>/mIoU`, `mAcc` and `aAcc` for each of INPUTS, from one confusion matrix over all pixels of all crops
    each.

    In float32 and with batch norm's running statistics, whatever the training's precision.
    """
    training = model.training
    model.eval()
    metrics = {which: ParsingMetric() for which in INPUTS}
    for batch in batches:
        names, side = tuple(map(str, batch.batch.index)), batch.parts_BSS.shape[1]
        rows = ParsingBatch(names, batch.batch.decoded_rgb, tuple(batch.parts_BSS), (side,) * len(batch))
        for which, parts_BSS in predict(model, batch, device).items():
            metrics[which].update(rows, [{"parts": each} for each in parts_BSS])
    model.train(training)
    results = {which: metric.compute() for which, metric in metrics.items()}
    scores = {
        f"{which}/{name}": result.metrics[name]
        for which, result in results.items()
        for name in ("mIoU", "mAcc", "aAcc")
    }
    return Result(scores, rows=results["rgb"].rows)
