"""Embed crops in batches of equal kind, and collect the embeddings of a part in the order of its people.

People are grouped by what they have, so that the rows that are encoded together follow from the part alone: its
embeddings are the same whoever computes them, and after however many interruptions.

Shapes: N people of a part, D embedding, J joints, h, w positions of the finest map.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from hcmoco.data.schema import MODALITIES, Modality
from hcmoco.embedding.crops import Crop
from hcmoco.errors import UserError
from hcmoco.pretrained import Embeddings, Pretrained


@dataclass(frozen=True)
class Kinds:
    """Which embeddings are kept besides the pooled ones."""

    joints: bool = False
    dense: bool = False


def shapes(model: Pretrained, modalities: Sequence[Modality], size: int, kinds: Kinds) -> dict[str, tuple[int, ...]]:
    """Return the shape of every column of embeddings, in the order of the columns: [D], [J, D] and [D, h, w].

    Args:
        model: in evaluation mode; it encodes one empty person.
        modalities: that have columns.
        size: side of the crops, pixels.
        kinds: what is kept besides pooled embeddings.
    """
    empty: dict[str, np.ndarray] = {
        "rgb": np.zeros((1, size, size, 3), np.uint8),
        "depth": np.zeros((1, size, size), np.uint16),
        "keypoints": np.ones((1, len(model.joints), 3), np.float32),
    }
    rows = {name: empty[name] if name in modalities else None for name in MODALITIES}
    with torch.inference_mode():
        embedded = model.encode(rows, joints=kinds.joints, dense=kinds.dense)
    found: dict[str, tuple[int, ...]] = {}
    for part, ending in (("pooled", ""), ("joints", "_joints"), ("dense", "_dense")):
        for name in modalities:
            values = getattr(getattr(embedded, name), part)
            if values is not None:
                found[name + ending] = tuple(values.shape[1:])
    return found


@dataclass
class Collected:
    """The embeddings of a part.

    Attributes:
        size: number of people that fit.
        kinds: what is kept.
        crops: the people without their pixels, by place.
        arrays: float16 [size, ...] by name of the column, zero where a person has none; `joints_visible`, bool
            [size, J]; and `present`, bool [people, 3], in the order of MODALITIES.
    """

    size: int
    kinds: Kinds
    crops: list[Crop] = field(default_factory=list)
    arrays: dict[str, np.ndarray] = field(default_factory=dict)

    def put(self, name: str, places: Sequence[int], values: np.ndarray) -> None:
        """Put rows [len(places), ...] into a column."""
        if name not in self.arrays:
            kind = values.dtype if values.dtype == bool else np.float16
            self.arrays[name] = np.zeros((self.size, *values.shape[1:]), kind)
        self.arrays[name][list(places)] = values


class Collector:
    """Embeds the people of one part as their crops come.

    Args:
        model: in evaluation mode.
        size: number of people of the part at most.
        kinds: what is kept.
        batch: number of people that are encoded at once.
    """

    def __init__(self, model: Pretrained, size: int, kinds: Kinds, batch: int):
        self._model, self._batch = model, batch
        self._waiting: dict[tuple[Modality, ...], list[tuple[int, Crop]]] = defaultdict(list)
        self._present: list[list[bool]] = []
        self.found = Collected(size, kinds)

    def add(self, crop: Crop) -> None:
        """Add a person; a batch that is full is encoded.

        Raises:
            UserError: an embedding is not finite.
        """
        place = len(self.found.crops)
        self.found.crops.append(Crop(crop.index, crop.id, crop.source, crop.subject, None, None, None, crop.unmasked))
        present = crop.present
        self._present.append([name in present for name in MODALITIES])
        if not present:
            return
        waiting = self._waiting[present]
        waiting.append((place, crop))
        if len(waiting) == self._batch:
            self._encode(present)

    def finish(self) -> Collected:
        """Encode what is left, and return all."""
        for present in sorted(self._waiting):
            self._encode(present)
        self.found.arrays["present"] = np.array(self._present, bool).reshape(-1, len(MODALITIES))
        return self.found

    def _encode(self, present: tuple[Modality, ...]) -> None:
        waiting, kinds = self._waiting.pop(present), self.found.kinds
        if not waiting:
            return
        places = [place for place, _ in waiting]
        rows = {
            name: np.stack([getattr(crop, name) for _, crop in waiting]) if name in present else None
            for name in MODALITIES
        }
        with torch.inference_mode():
            embedded = self._model.encode(rows, joints=kinds.joints, dense=kinds.dense)
            for name in present:
                self._keep(name, places, getattr(embedded, name))
        if kinds.joints and rows["keypoints"] is not None:
            self.found.put("joints_visible", places, rows["keypoints"][..., 2] > 0)

    def _keep(self, name: Modality, places: list[int], embeddings: Embeddings) -> None:
        pooled = embeddings.pooled.half().cpu().numpy()
        if not np.isfinite(pooled).all():
            bad = int(np.flatnonzero(~np.isfinite(pooled).all(1))[0])
            raise UserError(
                f"the {name} embedding of record {self.found.crops[places[bad]].id!r} is not finite: the weights are "
                "of a training that diverged, or the precision is too low; try --precision float32, or other weights"
            )
        self.found.put(name, places, pooled)
        if embeddings.joints is not None:
            self.found.put(f"{name}_joints", places, embeddings.joints.half().cpu().numpy())
        if embeddings.dense is not None:
            self.found.put(f"{name}_dense", places, embeddings.dense.half().cpu().numpy())
