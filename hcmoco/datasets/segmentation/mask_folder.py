"""A folder of masks that are named like the pictures that they belong to."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from hcmoco.datasets.conventions import check_mask
from hcmoco.datasets.io.files import read_inside
from hcmoco.datasets.io.pictures import decode_mask


@dataclass(frozen=True)
class MaskFolder:
    """Masks by the names of their pictures.

    Attributes:
        path: of the folder; or of the mask of a single picture.
        option: what messages call it.
    """

    path: str
    option: str = "--segment"

    def __getstate__(self) -> dict:
        return {"path": self.path, "option": self.option}

    @cached_property
    def _pictures(self) -> Any:
        # Late: the package of that module reads people's own pictures, which this one is part of.
        from hcmoco.datasets.keypoints.pictures import Pictures

        return Pictures(Path(self.path), self.option)

    def find(self, picture: str) -> tuple[str, str]:
        """Return the folder and the name of a picture's mask.

        Args:
            picture: path of the picture; the mask has this path or name, with any ending.

        Raises:
            ValueError: there is none, or more than one fits.
        """
        if Path(self.path).is_file():
            return str(Path(self.path).parent), Path(self.path).name
        name = Path(picture).with_suffix("").as_posix()
        try:
            return self.path, self._pictures.find(name)
        except ValueError as error:
            raise ValueError(f"mask: {error}; name it like the picture") from None

    def read(self, picture: str, *, upright: bool) -> np.ndarray:
        """Return bool [H, W], True on the person.

        Raises:
            ValueError: see `find`; or the file cannot be used as a mask.
        """
        folder, name = self.find(picture)
        mask = decode_mask(read_inside(folder, name), upright=upright)
        check_mask(mask)
        return mask > 0

    def facts(self) -> dict[str, Any]:
        """Return what the manifest has to say of it."""
        one = Path(self.path).is_file()
        return {"by": "mask folder", "path": self.path, "pictures": 1 if one else len(self._pictures.names)}
