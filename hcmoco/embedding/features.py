"""Draw the dense embeddings of the first people of a source: one basis of colors for RGB and depth together.

Shapes: N people, S pixels of the crop, D embedding, h, w positions of the map.
"""

import numpy as np
import torch

from hcmoco.data.schema import MAP_STRIDE
from hcmoco.embedding.crops import Crop, Cropping, cut_out
from hcmoco.embedding.sources import People, first_rows
from hcmoco.models.multimodal import DENSE_MODALITIES
from hcmoco.pretrained import Pretrained
from hcmoco.pretraining.probes.picture import compose

PEOPLE = 16
"""People that are drawn at most."""


def draw_features(model: Pretrained, people: People, cropping: Cropping, count: int) -> np.ndarray | None:
    """Return the picture, uint8 [H, W, 3]; None where there is nobody with a picture.

    People with both RGB and depth are drawn, where there are any among the first ones. The background is black where
    every one of them tells it: by a mask, by parts, or by depth without a background. Else all of the pictures is
    painted, and the title says so.

    Args:
        model: in evaluation mode.
        people: the source.
        cropping: how they are cut out.
        count: of people.
    """
    dense = tuple(name for name in DENSE_MODALITIES if name in cropping.modalities)
    for wanted in dict.fromkeys([dense, *((name,) for name in dense)]):
        rows = list(first_rows(people, count, wanted)) if wanted else []
        if rows:
            return _draw(model, [cut_out(row, cropping, shown=True) for row in rows], wanted)
    return None


def _draw(model: Pretrained, crops: list[Crop], wanted: tuple[str, ...]) -> np.ndarray:
    pictures = {name: np.stack([getattr(crop, name) for crop in crops]) for name in wanted}
    size = next(iter(pictures.values())).shape[1:3]
    known = [crop.silhouette for crop in crops if crop.silhouette is not None]
    is_masked = len(known) == len(crops)
    silhouettes_NSS = torch.from_numpy(np.stack(known) if is_masked else np.ones((len(crops), *size), bool))
    body_Nhw = silhouettes_NSS[:, MAP_STRIDE // 2 :: MAP_STRIDE, MAP_STRIDE // 2 :: MAP_STRIDE]
    with torch.inference_mode():
        maps = model.encode({"rgb": None, "depth": None, "keypoints": None, **pictures}, joints=False)
    found = {name: getattr(maps, name).dense for name in wanted}
    return compose(
        pictures.get("rgb"),
        pictures.get("depth"),
        found.get("rgb"),
        found.get("depth"),
        body_Nhw,
        silhouettes_NSS,
        title="three principal components of the dense embeddings"
        + ("" if is_masked else "; with the background, which nothing tells from the people"),
    )
