"""Cameras are asked for before anything starts, where depth is read as points."""

import pytest

from hcmoco.data.shards.manifest import About
from hcmoco.data.shards.reader import Shards
from hcmoco.data.shards.writer import write_shards
from hcmoco.errors import UserError
from hcmoco_ray.cluster.preflight import check_cameras
from tests.helpers import local_pretraining as tiny


def test_a_data_set_without_cameras_is_refused_before_the_first_step(tmp_path):
    with_cameras, street = tiny.write_sources(tmp_path)
    people = [tiny.blob_person(k, dataset="bare", depth=k > 2) for k in range(8)]
    for person in people:
        person.camera = None
    about = About.model_validate({name: getattr(street.manifest, name) for name in About.model_fields})
    write_shards(str(tmp_path / "bare"), people, about.model_copy(update={"dataset": "bare"}))
    bare = Shards.open(str(tmp_path / "bare"))
    points = tiny.tiny_config(model={"depth": {"name": "pointnet2_msg"}})
    check_cameras(points, (with_cameras, street))
    check_cameras(tiny.tiny_config(), (with_cameras, bare))
    with pytest.raises(UserError, match=r"'bare/\d' has depth and no camera") as caught:
        check_cameras(points, (with_cameras, street, bare))
    assert "\n" not in str(caught.value)
