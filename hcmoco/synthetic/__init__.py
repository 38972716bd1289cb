"""Render synthetic people, alone or several in a scene, with exact labels.

Everything is drawn on the fly from a committed body asset: no data set is downloaded.
"""

from hcmoco.synthetic.body.surface_labels import CHART_FLIP, mirror_iuv
from hcmoco.synthetic.config import PeopleConfig, ScenesConfig
from hcmoco.synthetic.contact_sheet import contact_sheet, scene_sheet
from hcmoco.synthetic.multi_person import RenderedScene, make_scene, render_scene
from hcmoco.synthetic.person import DEPTH_CODEC, make_person
from hcmoco.synthetic.render.raycast import raycaster
from hcmoco.synthetic.render.render import Rendered, render_person

PEOPLE_VERSION = 1
"""Increased when the same config gives other people. Results are compared only within one version."""

__all__ = [
    "CHART_FLIP", "DEPTH_CODEC", "PEOPLE_VERSION", "PeopleConfig", "Rendered", "RenderedScene", "ScenesConfig",
    "contact_sheet", "make_person", "make_scene", "mirror_iuv", "raycaster", "render_person", "render_scene",
    "scene_sheet",
]  # fmt: skip
