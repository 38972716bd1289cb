"""Synthetic people: rendered persons, and scenes of several, with exact labels, made on the fly from a committed body asset."""

from hcmoco.synthetic.body.surface_labels import CHART_FLIP, mirror_iuv
from hcmoco.synthetic.config import PeopleConfig, ScenesConfig
from hcmoco.synthetic.contact_sheet import contact_sheet, scene_sheet
from hcmoco.synthetic.multi_person import RenderedScene, make_scene, render_scene
from hcmoco.synthetic.person import DEPTH_CODEC, make_person
from hcmoco.synthetic.render.render import Rendered, render_person

PEOPLE_VERSION = 1
"""Raised when the same settings begin to give other people: results on them are compared by it."""

__all__ = [
    "CHART_FLIP", "DEPTH_CODEC", "PEOPLE_VERSION", "PeopleConfig", "Rendered", "RenderedScene", "ScenesConfig", "contact_sheet",
    "make_person", "make_scene", "mirror_iuv", "render_person", "render_scene", "scene_sheet",
]  # fmt: skip
