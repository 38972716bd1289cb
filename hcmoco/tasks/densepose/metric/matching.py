"""Which detection of an image answers for which annotated person, at each similarity threshold.

Shapes: D detections in falling order of score, G annotated people, T thresholds. All of it is greedy: the surest detection chooses first.
"""

from dataclasses import dataclass

import numpy as np

THRESHOLDS = np.linspace(0.5, 0.95, 10)
# A detection this near an unanswered person in box IoU is about that person.
_SAME_BOX = 0.8


@dataclass(frozen=True)
class Matches:
    """How one image's detections fared.

    Attributes:
        matched: bool [T, D], the detection answers for somebody.
        left_out: bool [T, D], it counts neither as right nor as wrong.
        people: how many people of the image count.
    """

    matched: np.ndarray
    left_out: np.ndarray
    people: int


def match(similarity_DG: np.ndarray, ignored_G: np.ndarray, crowd_G: np.ndarray, far_D: np.ndarray) -> Matches:
    """COCO's matching (pycocotools' `COCOeval.evaluateImg`).

    A detection takes the most similar person that is free and at least as similar as the threshold; only where there is none may it fall
    to an ignored one, and then it counts for nothing. A crowd is never used up. Of equally similar people the later one is taken.

    Args:
        similarity_DG: 0..1.
        ignored_G: bool, people that need not be found: crowds, or those outside the range of areas in question.
        crowd_G: bool, people that stand for many.
        far_D: bool, detections outside the range of areas: they count for nothing unless they answer for somebody.
    """
    _, matched_TD, left_out_TD = _assign(similarity_DG, ignored_G, crowd_G)
    return Matches(matched_TD, left_out_TD | (~matched_TD & far_D), int((~ignored_G).sum()))


def match_surfaces(
    similarity_DG: np.ndarray, box_iou_DG: np.ndarray, ignored_G: np.ndarray, crowd_G: np.ndarray, far_D: np.ndarray
) -> Matches:
    """The matching of the DensePose protocol, for GPS, GPSM and the IoU of masks: COCO's, made for people of whom most are not annotated.

    Beyond `match`: where no person of the image counts, no detection does; and a detection that answers for nobody at the highest
    threshold, but has the box (IoU 0.8) of a person who is free there, is left out at all thresholds if that person is ignored, and
    counts at all of them if not. (That the highest threshold decides for all is how the published evaluator does it; metrics are
    comparable only if it stays.)

    Args:
        box_iou_DG: IoU of the boxes.
        others: as for `match`; ignored are also people without annotated points.
    """
    matched_TG, matched_TD, left_out_TD = _assign(similarity_DG, ignored_G, crowd_G)
    if ignored_G.all():
        left_out_TD[:] = True
    # The published loop sees ignored people last, and of equals takes the later.
    order = np.argsort(ignored_G, kind="stable")
    for detection in np.flatnonzero(~matched_TD[-1]):
        free_G = ~matched_TG[-1] | crowd_G
        iou_G = np.where(free_G, box_iou_DG[detection], -1.0)[order]
        if not len(iou_G) or iou_G.max() < _SAME_BOX:
            continue
        person = order[len(iou_G) - 1 - iou_G[::-1].argmax()]
        left_out_TD[:, detection] = ignored_G[person]
        if ignored_G[person]:
            matched_TD[-1, detection] = matched_TG[-1, person] = True
    return Matches(matched_TD, left_out_TD | (~matched_TD & far_D), int((~ignored_G).sum()))


def _assign(
    similarity_DG: np.ndarray, ignored_G: np.ndarray, crowd_G: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    detections, people = similarity_DG.shape
    thresholds_T1 = np.minimum(THRESHOLDS, 1 - 1e-10)[:, None]
    matched_TG = np.zeros((len(THRESHOLDS), people), bool)
    matched_TD = np.zeros((len(THRESHOLDS), detections), bool)
    left_out_TD = np.zeros((len(THRESHOLDS), detections), bool)
    if not people:
        return matched_TG, matched_TD, left_out_TD
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
        left_out_TD[hit_T, detection] = ignored_G[person_T]
    return matched_TG, matched_TD, left_out_TD
