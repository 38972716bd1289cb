"""Draw the looks of a person: clothes, hair and skin."""

from dataclasses import dataclass

import numpy as np

from hcmoco.synthetic.body.mesh import HAIR, SKIRT
from hcmoco.synthetic.scene.textures import MAPS, Pattern, any_color, cloth_color, pick

_SKIN = np.array(
    [
        (0.96, 0.80, 0.70), (0.90, 0.70, 0.57), (0.80, 0.58, 0.43), (0.62, 0.42, 0.29),
        (0.45, 0.29, 0.20), (0.30, 0.19, 0.13),
    ],
    np.float32,
)  # fmt: skip
_HAIR = np.array(
    [
        (0.06, 0.05, 0.05), (0.13, 0.08, 0.05), (0.32, 0.20, 0.10), (0.58, 0.44, 0.22),
        (0.52, 0.51, 0.50), (0.40, 0.14, 0.06),
    ],
    np.float32,
)  # fmt: skip
_IRIS = np.array([(0.20, 0.12, 0.06), (0.25, 0.35, 0.45), (0.20, 0.30, 0.15)], np.float32)
# How far garments reach down a limb: 0 shoulder or hip, 1 elbow or knee, 2 wrist or ankle.
_SLEEVES = {"0.0": 0.1, "0.3": 0.22, "0.6": 0.3, "1.0": 0.08, "1.9": 0.3}
_LEGS = {"0.4": 0.07, "0.7": 0.14, "0.92": 0.12, "1.5": 0.1, "1.95": 0.57}


@dataclass(frozen=True)
class Outfit:
    """The looks of one person. Colors are float32 [3], RGB in 0..1; lengths are meters on the template.

    Attributes:
        skin, hair, iris, shoe, sock, hat, belt: colors.
        inner: color of what shows where a jacket is open, and of a print on the chest.
        top, bottom: patterns of the two garments.
        sleeve, leg: how far top and bottom reach down the limbs, 0 (shoulder, hip) to 2 (wrist, ankle).
        neckline: depth of the neck opening.
        waist: height of the top's hem above the hip joints.
        opening: half width of an open jacket's gap, 0 if closed.
        badge: radius of a print on the chest, 0 for none.
        hairline: how high the hair begins.
        bald, long_hair, skirt, shoes, capped, belted, beard: whether the person has it.
        thickness: distance of cloth from the skin, of top and bottom.
        creased: how far folds tilt the normals of cloth.
        folds: number of the noise map of cloth, skin and hair.
    """

    skin: np.ndarray
    hair: np.ndarray
    iris: np.ndarray
    shoe: np.ndarray
    sock: np.ndarray
    inner: np.ndarray
    hat: np.ndarray
    belt: np.ndarray
    top: Pattern
    bottom: Pattern
    sleeve: float
    leg: float
    neckline: float
    waist: float
    opening: float
    badge: float
    hairline: float
    bald: bool
    long_hair: bool
    skirt: bool
    shoes: bool
    capped: bool
    belted: bool
    beard: bool
    thickness: tuple[float, float]
    creased: float
    folds: int

    @classmethod
    def draw(cls, rng: np.random.Generator, female: float, age: float) -> "Outfit":
        """Draw a random outfit for an adult.

        Args:
            rng: source of the draws.
            female: 0..1. It only shifts how likely skirts, long hair and beards are.
            age: years. It only shifts how likely gray hair is.
        """
        tone = rng.uniform(0, len(_SKIN) - 1)
        low = min(int(tone), len(_SKIN) - 2)
        woman = rng.random() < 0.1 + 0.8 * female
        gray = age > 50 and rng.random() < 0.35
        skin = 0.94 * (_SKIN[low] + (tone - low) * (_SKIN[low + 1] - _SKIN[low]))
        top = Pattern.draw(rng, unlike=skin)
        skirt = bool(woman and rng.random() < 0.3)
        dress = skirt and rng.random() < 0.5
        return cls(
            skin=skin,
            hair=_HAIR[4] * np.float32(rng.uniform(0.6, 1.3))
            if gray
            else _HAIR[rng.choice(6, p=(0.3, 0.27, 0.18, 0.13, 0.05, 0.07))],
            iris=_IRIS[rng.integers(len(_IRIS))],
            shoe=cloth_color(rng, 0.7),
            sock=cloth_color(rng, 0.7),
            inner=cloth_color(rng, 0.6, skin),
            hat=cloth_color(rng, 0.5),
            belt=any_color(rng, (0.1, 0.6), (0.05, 0.3)),
            top=top,
            bottom=top if dress else Pattern.draw(rng, 0.7, skin),
            sleeve=float(pick(rng, _SLEEVES)) + rng.uniform(-0.05, 0.05),
            leg=float(pick(rng, _LEGS)) + rng.uniform(-0.05, 0.03),
            neckline=rng.uniform(0.0, 0.05),
            waist=rng.uniform(0.06, 0.12) if dress or rng.random() < 0.5 else rng.uniform(-0.09, 0.06),
            opening=rng.uniform(0.03, 0.08) if rng.random() < 0.18 else 0.0,
            badge=rng.uniform(0.04, 0.09) if rng.random() < 0.15 else 0.0,
            hairline=rng.uniform(0.0, 0.03),
            bald=bool(not woman and rng.random() < 0.12),
            long_hair=bool(rng.random() < (0.65 if woman else 0.06)),
            skirt=skirt,
            shoes=bool(rng.random() < 0.92),
            capped=bool(rng.random() < 0.1),
            belted=bool(not dress and rng.random() < 0.3),
            beard=bool(not woman and rng.random() < 0.25),
            thickness=(rng.uniform(0.007, 0.024), rng.uniform(0.005, 0.022)),
            creased=rng.uniform(0.3, 1.2),
            folds=int(rng.integers(MAPS)),
        )

    @property
    def pieces(self) -> tuple[int, ...]:
        """Return the optional pieces of the mesh (HAIR, SKIRT) that this outfit shows."""
        return (HAIR,) * (self.long_hair and not self.bald) + (SKIRT,) * self.skirt
