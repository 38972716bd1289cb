"""The label maps of human parsing by name: what the numbers in label pictures mean.

The same number is another part in another map (3 is the right foot of Human3.6M, LIP's glove and ATR's sunglasses), and
a picture does not say which map it follows. So whoever names label pictures names their map, too.

Sources: Human3.6M (C. Ionescu et al., TPAMI 2014) in the order of the table that HCMoCo publishes, or with its raw ids;
LIP (K. Gong et al., CVPR 2017, https://sysu-hcp.net/lip/); ATR (X. Liang et al., TPAMI 2015,
https://github.com/lemondan/HumanParsing-Dataset); Pascal-Person-Part (X. Chen et al., CVPR 2014,
http://roozbehm.info/pascal-parts/pascal-parts.html).
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from hcmoco.data.body_parts import IGNORE, PART_NAMES, RAW_IDS
from hcmoco.errors import UserError

_SIDES = {"left": "right", "right": "left"}
DEFAULT_LABEL_MAP = "human3.6m"
"""The map of synthetic people and of the published data sets."""


@dataclass(frozen=True)
class LabelMap:
    """One label map.

    Attributes:
        name: as options have it.
        parts: names by number; 0 is background. Left is the person's.
        stored: numbers in label pictures, where they are others; IGNORE is allowed everywhere.
    """

    name: str
    parts: tuple[str, ...]
    stored: tuple[int, ...] = ()

    def __len__(self) -> int:
        return len(self.parts)

    @property
    def stored_as(self) -> str:
        """Return the name of the map whose numbers records hold after `read`."""
        return DEFAULT_LABEL_MAP if self.parts == PART_NAMES else self.name

    @cached_property
    def flip(self) -> np.ndarray:
        """Return uint8 [K]: the number that each part becomes in a mirror image."""
        return np.array([self.parts.index(_mirror(name)) for name in self.parts], np.uint8)

    @property
    def pairs(self) -> tuple[tuple[int, int], ...]:
        """Return the numbers that a mirror image exchanges, smaller first."""
        return tuple((int(a), int(b)) for a, b in enumerate(self.flip) if a < b)

    @property
    def numbers(self) -> str:
        """Return the allowed numbers for messages."""
        return f"{min(self.stored)}..{max(self.stored)} with gaps" if self.stored else f"0..{len(self) - 1}"

    def unknown(self, labels: np.ndarray) -> np.ndarray:
        """Return the numbers in a label picture that the map does not have."""
        values = np.flatnonzero(np.bincount(np.ravel(labels), minlength=256))
        return values[~np.isin(values, (*(self.stored or range(len(self))), IGNORE))]

    def read(self, labels: np.ndarray) -> np.ndarray:
        """Return the labels of a label picture as numbers of `parts`, uint8 of the same shape; IGNORE stays.

        Raises:
            ValueError: the map does not have a number; the message names the maps that have all of them.
        """
        if len(unknown := self.unknown(labels)):
            fits = [each.name for each in LABEL_MAPS.values() if not len(each.unknown(labels))]
            raise ValueError(
                f"there are labels {unknown[:5].tolist()}; {self.name} has {self.numbers} and {IGNORE}"
                + (f"; all numbers of the picture would fit {' or '.join(fits)}" if fits else "")
            )
        if not self.stored:
            return labels
        table = np.full(256, IGNORE, np.uint8)
        table[list(self.stored)] = range(len(self))
        return table[labels]


def _mirror(name: str) -> str:
    side, _, part = name.partition(" ")
    return f"{_SIDES[side]} {part}" if side in _SIDES else name


LABEL_MAPS = {
    each.name: each
    for each in (
        LabelMap(DEFAULT_LABEL_MAP, PART_NAMES),
        LabelMap("human3.6m-raw", PART_NAMES, RAW_IDS),
        LabelMap(
            "lip",
            (
                "background", "hat", "hair", "glove", "sunglasses", "upper clothes", "dress", "coat", "socks", "pants",
                "jumpsuit", "scarf", "skirt", "face", "left arm", "right arm", "left leg", "right leg", "left shoe",
                "right shoe",
            ),
        ),
        LabelMap(
            "atr",
            (
                "background", "hat", "hair", "sunglasses", "upper clothes", "skirt", "pants", "dress", "belt",
                "left shoe", "right shoe", "face", "left leg", "right leg", "left arm", "right arm", "bag", "scarf",
            ),
        ),
        LabelMap(
            "pascal-person",
            ("background", "head", "torso", "upper arms", "lower arms", "upper legs", "lower legs"),
        ),
    )
}  # fmt: skip


def label_map(name: str) -> LabelMap:
    """Return the label map of a name.

    Raises:
        UserError: there is none.
    """
    if name not in LABEL_MAPS:
        raise UserError(f"label map {name!r} is unknown; known are {', '.join(LABEL_MAPS)}")
    return LABEL_MAPS[name]
