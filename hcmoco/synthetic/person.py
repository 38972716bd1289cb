"""Turn rendered people into records of the data schema."""

from hcmoco.data import codecs
from hcmoco.data.schema import Person
from hcmoco.synthetic.config import PeopleConfig
from hcmoco.synthetic.render.render import render_person

DEPTH_CODEC = "png16"


def make_person(config: PeopleConfig, number: int, *, dataset: str, split: str, caster: str | None = None) -> Person:
    """Return person `number` as a record.

    The bytes depend only on the config, the number and the ray caster. They are equal in any order and on any worker
    with the same make of processor.

    Args:
        config: domain, image size and seed.
        number: which person, 0 or larger.
        dataset: name that is written into the record.
        split: name that is written into the record. Splits that must not share people need disjoint numbers or another
            seed.
        caster: as for `render_person`.

    Returns:
        The record. Depth is in the codec DEPTH_CODEC; keypoints and joints3d are of the joint set `people-31`.

    Raises:
        UserError: the ray caster is not there.
    """
    seen = render_person(config, number, caster)
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
