"""Synthetic people as records: what `prepare` writes into shards."""

from hcmoco.data import codecs
from hcmoco.data.schema import Person
from hcmoco.synthetic.config import PeopleConfig
from hcmoco.synthetic.render.render import render_person

DEPTH_CODEC = "png16"


def make_person(config: PeopleConfig, number: int, *, dataset: str, split: str) -> Person:
    """Person `number` as a record: the same bytes for the same config and number, on any worker of one make of processor and
    in any order.

    `dataset` and `split` are only written into the record; splits that must not share people need disjoint numbers or another seed.
    Depth is in the codec DEPTH_CODEC; keypoints and joints3d are of the joint set `people-31`.

    Raises UserError where the renderer is missing (trace.py).
    """
    seen = render_person(config, number)
    return Person(
        id=f"{dataset}/{config.domain}-{config.seed}-{number}",
        dataset=dataset,
        split=split,
        size=config.size,
        rgb=codecs.encode_rgb(seen.rgb, config.jpeg_quality),
        depth=None if seen.depth is None else codecs.encode_depth(seen.depth, DEPTH_CODEC),
        camera=seen.camera,
        crop=seen.crop,
        box=seen.box,
        keypoints=seen.keypoints,
        joints3d=seen.joints3d,
        parts=codecs.encode_labels(seen.parts),
        iuv=codecs.encode_iuv(seen.iuv),
        mask=codecs.encode_labels(seen.mask.astype("uint8") * 255),
    )
