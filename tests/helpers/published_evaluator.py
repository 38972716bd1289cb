"""DensePose's evaluator once more, pair by pair in plain loops: what the fast one is compared with.

Written from the published definition: COCO's matching and averaging (`COCOeval`), and what DensePose's evaluator
changes of them (`DensePoseCocoEval`): people without points are ignored, GPS by geodesic distances, masks from parts,
GPSM as the square root of GPS times IoU, and boxes that rescue detections of people who are not annotated. It shares no
code with the package: boxes, masks, points, distances, matching and averages are its own.
"""

import math
from collections.abc import Callable, Sequence

# Both as `numpy.linspace` gives them to the published evaluators, to the last bit: ties depend on it.
THRESHOLDS = [*(0.5 + k * ((0.95 - 0.5) / 9) for k in range(9)), 0.95]
RECALLS = [k * 0.01 for k in range(101)]
RANGES = {"all": (0.0, 1e10), "medium": (32.0**2, 96.0**2), "large": (96.0**2, 1e10)}
_LARGEST = {"box": 100, "gps": 20, "gpsm": 20, "mask": 20}
# Mean distances of the challenge by chart 1..24: torso, hands, feet, upper and lower legs and arms, head.
_KAPPA = [0.351] * 2 + [0.107] * 2 + [0.126] * 2 + [0.237] * 4 + [0.173] * 4 + [0.142] * 4 + [0.128] * 4 + [0.150] * 2


def box_iou(found: Sequence[float], person: Sequence[float], crowd: bool) -> float:
    """Boxes are x0, y0, x1, y1; of a crowd the union is the detection."""
    width = min(found[2], person[2]) - max(found[0], person[0])
    height = min(found[3], person[3]) - max(found[1], person[1])
    if width <= 0 or height <= 0:
        return 0.0
    inside = width * height
    area = (found[2] - found[0]) * (found[3] - found[1])
    return inside / (area if crowd else area + (person[2] - person[0]) * (person[3] - person[1]) - inside)


def pixels_of(detection: dict) -> dict[tuple[int, int], tuple[float, float, float]]:
    """Chart, U, V of the body's pixels, by column and row of the picture."""
    left, top = int(detection["box"][0]), int(detection["box"][1])
    found = {}
    for row, line in enumerate(detection["iuv"]):
        for column, (chart, u, v) in enumerate(line):
            if chart > 0:
                found[left + column, top + row] = (int(chart), float(u), float(v))
    return found


def mask_iou(body: set, mask: set, crowd: bool) -> float:
    inside = len(body & mask)
    if not inside:
        return 0.0
    return inside / (len(body) if crowd else len(body) + len(mask) - inside)


def gps(body: dict, points: Sequence, distance: Callable) -> float:
    total = 0.0
    for x, y, chart, u, v in points:
        seen = body.get((math.floor(x), math.floor(y)))
        if seen is not None:
            way = distance((int(chart), u, v), seen)
            total += math.exp(-(way**2) / (2 * _KAPPA[int(chart) - 1] ** 2))
    return total / len(points)


def compare(image: dict, distance: Callable) -> dict:
    """Return the image with its detections by descending score, and `alike`: kind -> [detection][person]."""
    detections = sorted(image["detections"], key=lambda each: -each["score"])
    alike: dict[str, list] = {kind: [] for kind in _LARGEST}
    for detection in detections:
        body = pixels_of(detection)
        lines: dict[str, list] = {kind: [] for kind in _LARGEST}
        for person in image["people"]:
            mask = mask_iou(set(body), person["mask"], person["crowd"])
            points = gps(body, person["points"], distance) if person["points"] else 0.0
            lines["box"].append(box_iou(detection["box"], person["box"], person["crowd"]))
            lines["mask"].append(mask)
            lines["gps"].append(points)
            lines["gpsm"].append(math.sqrt(mask * points))
        for kind, line in lines.items():
            alike[kind].append(line)
    return {**image, "detections": detections, "alike": alike}


def match(image: dict, kind: str, area: tuple[float, float]) -> list[list[dict]]:
    """Return for each threshold what each detection is: `score`, `matched`, `ignored`."""
    detections, people = image["detections"][: _LARGEST[kind]], image["people"]
    alike, boxes = image["alike"][kind], image["alike"]["box"]
    surface = kind != "box"
    ignored = []
    for person in people:
        unannotated = not person["points"] if surface else person["crowd"]
        ignored.append(unannotated or person["area"] < area[0] or person["area"] > area[1])
    order = [g for g in range(len(people)) if not ignored[g]] + [g for g in range(len(people)) if ignored[g]]
    lines = []
    for threshold in THRESHOLDS:
        taken: set[int] = set()
        line = [{"score": each["score"], "matched": False, "ignored": False} for each in detections]
        if surface and all(ignored):
            for entry in line:
                entry["ignored"] = True
        for d, entry in enumerate(line):
            best, least = None, min(threshold, 1 - 1e-10)
            for g in order:
                if g in taken and not people[g]["crowd"]:
                    continue
                if best is not None and not ignored[best] and ignored[g]:
                    break
                if alike[d][g] < least or (surface and alike[d][g] == 0):
                    continue
                best, least = g, alike[d][g]
            if best is not None:
                taken.add(best)
                entry["matched"], entry["ignored"] = True, ignored[best]
        lines.append((line, taken))
    if surface:
        last, taken = lines[-1]
        for d in range(len(detections)):
            if last[d]["matched"]:
                continue
            best, least = None, 0.8
            for g in order:
                if (g in taken and not people[g]["crowd"]) or boxes[d][g] < least:
                    continue
                best, least = g, boxes[d][g]
            if best is not None:
                for line, _ in lines:
                    line[d]["ignored"] = ignored[best]
                if ignored[best]:
                    last[d]["matched"] = True
                    taken.add(best)
    for line, _ in lines:
        for d, entry in enumerate(line):
            x0, y0, x1, y1 = detections[d]["box"]
            size = (x1 - x0) * (y1 - y0)
            if not entry["matched"] and (size < area[0] or size > area[1]):
                entry["ignored"] = True
    return [line for line, _ in lines]


def precision_and_recall(images: Sequence[dict], kind: str, area: str) -> tuple[list[float], list[float]]:
    """Average precision and recall at each threshold.

    Args:
        images: of `compare`: `detections` (`box`, `score`, `iuv` [h][w][3]) and `people` (`box`, `crowd`, `area`,
            `mask`, a set of (column, row), and `points`, lists of x, y, chart, U, V; none of a person without labels).
        kind: box, gps, gpsm or mask.
        area: a key of RANGES.
    """
    people, matches = 0, []
    for image in images:
        matches.append(match(image, kind, RANGES[area]))
        for person in image["people"]:
            unannotated = not person["points"] if kind != "box" else person["crowd"]
            outside = person["area"] < RANGES[area][0] or person["area"] > RANGES[area][1]
            people += not (unannotated or outside)
    if not people:
        return [math.nan] * 10, [math.nan] * 10
    precisions, recalls = [], []
    for t in range(len(THRESHOLDS)):
        entries = [entry for found in matches for entry in found[t]]
        entries = sorted(entries, key=lambda entry: -entry["score"])  # equal scores stay in the images' order
        right = wrong = 0
        curve = []
        for entry in entries:
            if entry["ignored"]:
                curve.append((right / people, right / (right + wrong) if right + wrong else 0.0))
                continue
            right += entry["matched"]
            wrong += not entry["matched"]
            curve.append((right / people, right / (right + wrong)))
        total = 0.0
        for least in RECALLS:
            total += max((precision for recall, precision in curve if recall >= least), default=0.0)
        precisions.append(total / 101)
        recalls.append(right / people)
    return precisions, recalls
