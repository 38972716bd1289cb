"""Scenes of one or two synthetic people cut out of their pictures and pasted onto a plain canvas, as rows of
`scene_schema`."""

import cv2
import numpy as np

from hcmoco.data import codecs
from hcmoco.data.shards.manifest import About, Provenance
from hcmoco.synthetic import PeopleConfig, make_person

SIDE = 192


def about() -> About:
    return About(kind="scene", dataset="pasted", provenance=Provenance(program="tests", arguments={"source": "people"}))


def pasted_scene(number: int, points: int = 100, height: int = SIDE, width: int = SIDE) -> dict:
    """Scene `number`: always the same row."""
    rng = np.random.default_rng(number)
    shades = rng.integers(40, 220, (6, 6, 3)).astype(np.uint8)
    canvas = cv2.resize(shades, (width, height), interpolation=cv2.INTER_CUBIC)
    iuv = np.zeros((height, width, 3), np.uint8)
    owner = np.full((height, width), -1)
    count = 1 + number % 2
    for who in range(count):
        person = make_person(PeopleConfig(domain="wild", size=128), 2 * number + who, dataset="pasted", split="train")
        mask = codecs.decode_labels(person.mask) > 127
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        cut = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        zoom = min(
            rng.uniform(0.6, 0.85) * height / (rows[-1] + 1 - rows[0]),
            0.9 * width / count / (columns[-1] + 1 - columns[0]),
        )
        tall, wide = int(zoom * (rows[-1] + 1 - rows[0])), int(zoom * (columns[-1] + 1 - columns[0]))

        def scaled(image, how=cv2.INTER_NEAREST, size=(wide, tall)):
            return cv2.resize(image, size, interpolation=how)

        y = rng.integers(0, height - tall)
        x = who * width // count + rng.integers(0, width // count - wide + 1)
        here = np.s_[y : y + tall, x : x + wide]
        shape = scaled(mask[cut].astype(np.uint8)) > 0
        canvas[here][shape] = scaled(codecs.decode_rgb(person.rgb)[cut], cv2.INTER_LINEAR)[shape]
        iuv[here][shape] = scaled(codecs.decode_iuv(person.iuv)[cut])[shape]
        owner[here][shape] = who
    instances = [_instance(owner == who, iuv, points, rng) for who in range(count)]
    return {
        "id": f"pasted/{number}", "index": number, "dataset": "pasted", "split": "train",
        "rgb": cv2.imencode(".png", canvas[..., ::-1])[1].tobytes(), "width": width, "height": height,
        "instances": instances,
    }  # fmt: skip


def _instance(mask: np.ndarray, iuv: np.ndarray, points: int, rng: np.random.Generator) -> dict:
    y, x = np.nonzero(mask)
    chosen = rng.choice(len(x), min(points, len(x)), replace=False)
    labels = iuv[y[chosen], x[chosen]] / [1, 255, 255]
    return {
        "box": [float(x.min()), float(y.min()), float(x.max() + 1), float(y.max() + 1)],
        "mask": codecs.encode_labels(mask.astype(np.uint8) * 255),
        "dp_points": np.column_stack([x[chosen] + 0.5, y[chosen] + 0.5, labels]).astype(np.float32).ravel().tolist(),
        "crowd": False,
    }
