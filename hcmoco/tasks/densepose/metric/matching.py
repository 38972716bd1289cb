"""Match the detections of an image to its annotated people, at each similarity threshold.

Matching is greedy: the detection with the highest score chooses first. Shapes: D detections in descending order of
score, G annotated people, T thresholds.
"""

from dataclasses import dataclass

import numpy as np

THRESHOLDS = np.linspace(0.5, 0.95, 10)
# A detection with this box IoU to an unmatched person belongs to that person.
_SAME_BOX = 0.8


@dataclass(frozen=True)
class Matches:
    """The matches of one image.

    Attributes:
        matched: bool [T, D], the detection has a person.
        ignored: bool [T, D], it counts neither as right nor as wrong.
        people: number of people of the image that count.
    """

    matched: np.ndarray
    ignored: np.ndarray
    people: int


def match(similarity_DG: np.ndarray, ignored_G: np.ndarray, crowd_G: np.ndarray, far_D: np.ndarray) -> Matches:
    """Match as COCO does (`COCOeval.evaluateImg` of pycocotools).

    A detection takes the most similar person who is free and at least as similar as the threshold. Only if there is
    none may it take an ignored one; then it is ignored itself. A crowd can be taken many times. Of equally similar
    people the later one is taken.

    Args:
        similarity_DG: 0..1.
        ignored_G: bool, people that need not be found: crowds, or those outside the range of areas.
        crowd_G: bool, annotations of many people.
        far_D: bool, detections outside the range of areas: ignored unless they have a person.
    """
    _, matched_TD, ignored_TD = _assign(similarity_DG, ignored_G, crowd_G)
    return Matches(matched_TD, ignored_TD | (~matched_TD & far_D), int((~ignored_G).sum()))


def match_surfaces(
    similarity_DG: np.ndarray, box_iou_DG: np.ndarray, ignored_G: np.ndarray, crowd_G: np.ndarray, far_D: np.ndarray
) -> Matches:
    """Match as the DensePose protocol does, for GPS, GPSM and the IoU of masks.

    It is COCO's matching for images in which most people are not annotated. Beyond `match`: if no person of the image
    counts, all detections are ignored. And a detection without a person at the highest threshold, but with the box (IoU
    0.8) of a person who is free there, is ignored at all thresholds if that person is ignored, and counts at all of
    them if not. (That the highest threshold decides for all is what the published evaluator does; metrics are
    comparable only if it stays.)

    Args:
        similarity_DG, crowd_G, far_D: as for `match`.
        box_iou_DG: IoU of the boxes.
        ignored_G: as for `match`; people without annotated points are ignored too.
    """
    matched_TG, matched_TD, ignored_TD = _assign(similarity_DG, ignored_G, crowd_G)
    if ignored_G.all():
        ignored_TD[:] = True
    # The published loop sees ignored people last, and of equals takes the later.
    order = np.argsort(ignored_G, kind="stable")
    for detection in np.flatnonzero(~matched_TD[-1]):
        free_G = ~matched_TG[-1] | crowd_G
        iou_G = np.where(free_G, box_iou_DG[detection], -1.0)[order]
        if not len(iou_G) or iou_G.max() < _SAME_BOX:
            continue
        person = order[len(iou_G) - 1 - iou_G[::-1].argmax()]
        ignored_TD[:, detection] = ignored_G[person]
        if ignored_G[person]:
            matched_TD[-1, detection] = matched_TG[-1, person] = True
    return Matches(matched_TD, ignored_TD | (~matched_TD & far_D), int((~ignored_G).sum()))


def _assign(
    similarity_DG: np.ndarray, ignored_G: np.ndarray, crowd_G: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    detections, people = similarity_DG.shape
    thresholds_T1 = np.minimum(THRESHOLDS, 1 - 1e-10)[:, None]
    matched_TG = np.zeros((len(THRESHOLDS), people), bool)
    matched_TD = np.zeros((len(THRESHOLDS), detections), bool)
    ignored_TD = np.zeros((len(THRESHOLDS), detections), bool)
    if not people:
        return matched_TG, matched_TD, ignored_TD
    for detection in np.flatnonzero(similarity_DG.max(1) >= thresholds_T1.min()):
        similarity_G = similarity_DG[detection]
        open_TG = (similarity_G >= thresholds_T1) & (~matched_TG | crowd_G)
        counting_TG = open_TG & ~ignored_G
        open_TG = np.where(counting_TG.any(1, keepdims=True), counting_TG, open_TG)
        person_T = people - 1 - np.where(open_TG, similarity_G, -1.0)[:, ::-1].argmax(1)
        hit_T = np.flatnonzero(open_TG.any(1))
        person_T = person_T[hit_T]
        matched_TD[hit_T, detection] = True
        matched_TG[hit_T, person_T] = True
        ignored_TD[hit_T, detection] = ignored_G[person_T]
    return matched_TG, matched_TD, ignored_TD
