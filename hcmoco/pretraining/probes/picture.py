"""Dense embeddings as a picture: three principal components as red, green and blue, inside the silhouette, on black.

One basis serves both modalities and all people of the picture, so equal colors mean equal embeddings. A principal
component has no sign of its own and an embedding no preferred axes; the sign is fixed by the body (see `orient`), so
that a picture depends on the distances between embeddings only, and pictures of different steps can be laid side by
side.

Shape suffixes: N people, D embedding width, h, w cells, S pixels of the crop, Q body cells of all people and both
modalities.
"""

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

ROWS = ("RGB", "depth", "RGB features", "depth features")
MARGIN = 120  # pixels left of the panels, for the rows' names
COMPONENTS = 3
_SPREAD = (2.0, 98.0)  # percentiles that become the ends of a color channel


def principal_axes(cells_QD: Tensor, places_Q2: Tensor) -> tuple[Tensor, Tensor]:
    """The first three principal components of normalized embeddings.

    Args:
        cells_QD: embeddings of body cells, normalized here.
        places_Q2: each cell's x, y relative to its person (see `body_places`).
    Returns:
        mean float64 [D] and axes float64 [D, 3] with signs from `orient`; axes beyond the embeddings' rank are zero.
    """
    cells_QD = F.normalize(cells_QD.double(), dim=1)
    mean_D = cells_QD.mean(dim=0)
    centerd_QD = cells_QD - mean_D
    variance_D, axes_DD = torch.linalg.eigh(centerd_QD.T @ centerd_QD / len(centerd_QD))
    axes_D3 = axes_DD.flip(1)[:, :COMPONENTS]
    # Directions that hold only rounding would paint noise over a constant embedding.
    axes_D3 = axes_D3 * (variance_D.flip(0)[:COMPONENTS] > 1e-12)
    return mean_D, axes_D3 * orient(centerd_QD @ axes_D3, places_Q2)


def orient(scores_Q3: Tensor, places_Q2: Tensor) -> Tensor:
    """[3] of +1 or -1.

    Each component grows along that axis of the body, down or rightwards, with which it correlates more.
    """
    places_Q2 = places_Q2.to(scores_Q3.dtype)
    covariance_32 = (scores_Q3 - scores_Q3.mean(dim=0)).T @ (
        (places_Q2 - places_Q2.mean(dim=0)) / places_Q2.std(dim=0).clamp(min=1e-12)
    )
    strongest_31 = covariance_32.abs().argmax(dim=1, keepdim=True)
    return torch.where(covariance_32.gather(1, strongest_31)[:, 0] < 0, -1.0, 1.0).to(scores_Q3.dtype)


def body_places(body_Nhw: Tensor) -> Tensor:
    """float64 [Q, 2].

    X, y of every body cell, person by person, as shares of the extent of that person's body cells.
    """
    places = []
    for body_hw in body_Nhw:
        place_Q2 = body_hw.nonzero().flip(1).double()
        if len(place_Q2):
            low_2 = place_Q2.amin(dim=0)
            place_Q2 = (place_Q2 - low_2) / (place_Q2.amax(dim=0) - low_2).clamp(min=1)
        places.append(place_Q2)
    return torch.cat(places)


def paint(maps: list[Tensor], body_Nhw: Tensor, silhouettes_NSS: Tensor) -> list[np.ndarray]:
    """Colours of dense maps of the same people, in one common basis.

    Args:
        maps: [N, D, h, w] embeddings of each modality.
        body_Nhw: bool, cells on the person; the basis is fitted over these.
        silhouettes_NSS: bool, pixels on the person; the rest is black.
    Returns:
        for each map uint8 [N, S, S, 3], RGB; all black where nobody is to be seen.
    """
    size = silhouettes_NSS.shape[1:]
    if not body_Nhw.any():
        return [np.zeros((len(body_Nhw), *size, 3), np.uint8) for _ in maps]
    normalized = [F.normalize(each.double(), dim=1).permute(0, 2, 3, 1) for each in maps]
    places_Q2 = body_places(body_Nhw).repeat(len(maps), 1)
    mean_D, axes_D3 = principal_axes(torch.cat([each[body_Nhw] for each in normalized]), places_Q2)
    scores = [(each - mean_D) @ axes_D3 for each in normalized]
    body_Q3 = torch.cat([each[body_Nhw] for each in scores]).cpu().numpy()
    low_3, high_3 = np.percentile(body_Q3, _SPREAD, axis=0)
    span_3 = np.where(high_3 - low_3 > 1e-6, high_3 - low_3, np.inf)

    # Positions beside the body count for little, yet color pixels of the silhouette that are far from any on it.
    weight_N1hw = body_Nhw[:, None].double().clamp(min=1e-3)
    pictures = []
    for each in scores:
        sums = (each.permute(0, 3, 1, 2) * weight_N1hw, weight_N1hw)
        above, below = (F.interpolate(part, size=size, mode="bilinear", align_corners=False) for part in sums)
        smooth_NSS3 = (above / below).permute(0, 2, 3, 1).cpu().numpy()
        share_NSS3 = np.where(np.isfinite(span_3), (smooth_NSS3 - low_3) / span_3, 0.5)
        # Black is kept for "not the person".
        color_NSS3 = np.round(30 + 225 * share_NSS3.clip(0, 1)).astype(np.uint8)
        pictures.append(color_NSS3 * silhouettes_NSS[..., None].cpu().numpy())
    return pictures


def gray_depth(depth_NSS: np.ndarray, silhouettes_NSS: np.ndarray) -> np.ndarray:
    """uint8 [N, S, S, 3]: depth as gray, near is bright, over the person's own range; what was not read is black."""
    gray_NSS = np.zeros(depth_NSS.shape, np.uint8)
    for row, (depth_SS, silhouette_SS) in enumerate(zip(depth_NSS.astype(np.float64), silhouettes_NSS, strict=True)):
        read_SS = depth_SS > 0
        person = depth_SS[read_SS & silhouette_SS]
        person = person if len(person) else depth_SS[read_SS]
        if not len(person):
            continue
        near, far = np.percentile(person, _SPREAD)
        share_SS = ((far - depth_SS) / max(far - near, 1.0)).clip(0, 1)
        gray_NSS[row] = np.where(read_SS, np.round(60 + 195 * share_SS), 0)
    return np.repeat(gray_NSS[..., None], 3, axis=-1)


def compose(
    rgb_NSS3: np.ndarray | None,
    depth_NSS: np.ndarray | None,
    rgb_map_NDhw: Tensor | None,
    depth_map_NDhw: Tensor | None,
    body_Nhw: Tensor,
    silhouettes_NSS: Tensor,
    *,
    panel: int = 128,
    title: str = "",
) -> np.ndarray:
    """The picture: a row each for RGB, depth and the features of both, a column a person.

    Args:
        rgb_NSS3: uint8. depth_NSS: uint16, millimeters, 0 = no reading. None: nobody has it, and its rows are omitted.
        rgb_map_NDhw, depth_map_NDhw: see `paint`; None with their pictures.
        body_Nhw, silhouettes_NSS: see `paint`.
        panel: side of a panel in the picture, pixels.
        title: one line above the rows, for example the step.
    Returns:
        uint8 [header + rows * panel, MARGIN + N * panel, 3], RGB.
    """
    pictures = (
        rgb_NSS3,
        None if depth_NSS is None else gray_depth(depth_NSS, silhouettes_NSS.cpu().numpy()),
    )
    maps = (rgb_map_NDhw, depth_map_NDhw)
    painted = iter(paint([each for each in maps if each is not None], body_Nhw, silhouettes_NSS))
    rows = [*pictures, *(None if each is None else next(painted) for each in maps)]
    lines = []
    for name, row_NSS3 in zip(ROWS, rows, strict=True):
        if row_NSS3 is None:
            continue
        label = np.zeros((panel, MARGIN, 3), np.uint8)
        for number, word in enumerate(name.split()):
            _write(label, word, 6, panel // 2 + 18 * number)
        panels = [cv2.resize(each, (panel, panel), interpolation=cv2.INTER_CUBIC) for each in row_NSS3]
        lines.append(np.concatenate([label, *panels], axis=1))
    if title:
        header = np.zeros((24, lines[0].shape[1], 3), np.uint8)
        _write(header, title, 6, 17)
        lines.insert(0, header)
    return np.concatenate(lines)


def _write(picture: np.ndarray, text: str, x: int, y: int) -> None:
    cv2.putText(picture, text, (x, y), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (255, 255, 255), 1, cv2.LINE_AA)
