"""Pictures of a batch that are still encoded, with what becomes of their pixels: for decoding on the training device.

Shapes: B rows, S side of the result, 23 and 34 matrices as of `Augmentation`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hcmoco.data.transforms import Augmentation


@dataclass(frozen=True, eq=False)
class EncodedImages:
    """RGB pictures of B rows, to be decoded, colored and cropped by `hcmoco.data.device_decode.decode`.

    Attributes:
        ids: of the records, for messages.
        files: bytes of a JPEG or PNG, checked to be whole; None for a row without a picture, which becomes zeros.
        augmentations: of each row.
        size: S, side of the result, pixels.
        whole: the pictures of which these are some, if they are.
        first: number of the first row in `whole`.
    """

    ids: tuple[str, ...]
    files: tuple[bytes | None, ...]
    augmentations: tuple[Augmentation, ...]
    size: int
    whole: "EncodedImages | None" = None
    first: int = 0

    def __len__(self) -> int:
        return len(self.files)

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Return [B, S, S, 3], the shape of the decoded crops."""
        return (len(self), self.size, self.size, 3)

    def __getitem__(self, rows: slice) -> "EncodedImages":
        first, _, stride = rows.indices(len(self))
        if stride != 1:
            raise ValueError("rows of encoded pictures follow each other")
        parts = self.ids[rows], self.files[rows], self.augmentations[rows]
        return EncodedImages(*parts, self.size, self.whole or self, self.first + first)

    @staticmethod
    def concatenate(parts: "Sequence[EncodedImages]") -> "EncodedImages":
        """Concatenate the pictures of several micro-batches, in order."""
        return EncodedImages(
            tuple(each for part in parts for each in part.ids),
            tuple(each for part in parts for each in part.files),
            tuple(each for part in parts for each in part.augmentations),
            parts[0].size,
        )


def concatenate(parts: Sequence[np.ndarray] | Sequence[EncodedImages]) -> np.ndarray | EncodedImages:
    """Concatenate the RGB of several micro-batches, decoded or not."""
    encoded = [part for part in parts if isinstance(part, EncodedImages)]
    arrays = [part for part in parts if isinstance(part, np.ndarray)]
    if encoded and arrays:
        raise ValueError("micro-batches of one step are decoded in part")
    return EncodedImages.concatenate(encoded) if encoded else np.concatenate(arrays)
