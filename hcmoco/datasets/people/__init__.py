"""Synthetic people: rendered persons with exact labels, made on the fly from a committed body asset."""

from hcmoco.datasets.people.person import DEPTH_CODEC, make_person
from hcmoco.datasets.people.render import Rendered, render_person
from hcmoco.datasets.people.settings import PeopleConfig
from hcmoco.datasets.people.sheet import contact_sheet

__all__ = ["DEPTH_CODEC", "PeopleConfig", "Rendered", "contact_sheet", "make_person", "render_person"]
