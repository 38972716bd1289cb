"""A data set that an earlier version prepared is still the one that is asked for."""

import json
from dataclasses import replace

import pytest

from hcmoco import synthetic
from hcmoco.config import canonical, fingerprint
from hcmoco.data.shards.manifest import Provenance
from hcmoco.data.shards.writer import write_shards
from hcmoco.data.skeletons import convert
from hcmoco.datasets.folder import FolderConfig
from hcmoco.datasets.synthetic import NumberedPeople, NumberedScenes
from hcmoco.errors import UserError
from hcmoco.storage import Folder
from hcmoco.synthetic import make_scene
from hcmoco.synthetic.render.raycast import RAYCASTERS, VARIABLE
from hcmoco.training.config import SourceConfig, SyntheticScenes
from hcmoco_ray.prepare import ensure, request
from hcmoco_ray.prepare.reader import Source
from tests.helpers import own_people

OLD_NAMES = {"min_people": "least", "max_people": "most", "num_points": "points"}


def old_scenes(folder, config: NumberedScenes):
    """Two scenes, with the manifest's arguments under the keys of version 0.1."""
    about = Source("scenes", config, seed=config.seed).about
    arguments = {OLD_NAMES.get(name, name): value for name, value in about.provenance.arguments.items()}
    assert {"least", "most", "points"} <= set(arguments)
    provenance = Provenance(program=about.provenance.program, arguments=arguments, version="0.1.0")
    scenes = [make_scene(config, number, dataset="scenes", split="train") for number in range(config.count)]
    write_shards(str(folder), scenes, about.model_copy(update={"provenance": provenance}))


def test_scenes_with_the_keys_of_an_earlier_version_are_not_prepared_again(tmp_path):
    config = NumberedScenes(size=64, count=2, max_people=2)
    old_scenes(tmp_path / "s", config)
    folder = Folder(str(tmp_path / "s"))
    assert request.is_prepared(folder, Source("scenes", config, seed=config.seed))
    other = config.model_copy(update={"max_people": 3})
    with pytest.raises(UserError, match="max_people = 2, not 3 as requested"):
        request.is_prepared(folder, Source("scenes", other, seed=other.seed))
    source = SourceConfig(path=str(tmp_path / "s"), scenes=SyntheticScenes(size=64, count=2, max_people=2))
    assert ensure.open_data("train", source, kind="scene").manifest.rows == 2


@pytest.fixture(params=RAYCASTERS)
def raycaster(request, monkeypatch):
    """The ray caster of this process."""
    if request.param == "embree":
        pytest.importorskip("embreex")
    monkeypatch.setenv(VARIABLE, request.param)
    synthetic.raycaster.cache_clear()
    yield request.param
    synthetic.raycaster.cache_clear()


def test_a_data_set_by_another_ray_caster_is_the_same_data_set(tmp_path, raycaster):
    config = NumberedScenes(size=64, count=2, max_people=2)
    old_scenes(tmp_path / "s", config)  # its manifest names no ray caster
    assert request.is_prepared(Folder(str(tmp_path / "s")), Source("scenes", config, seed=config.seed))
    source = SourceConfig(path=str(tmp_path / "s"), scenes=SyntheticScenes(size=64, count=2, max_people=2))
    assert ensure.open_data("train", source, kind="scene").manifest.rows == 2


def test_what_was_begun_goes_on_with_the_same_ray_caster_alone(tmp_path, raycaster):
    source = Source("people", NumberedPeople(size=64, count=2))
    wanted = request.request_of(source, 2)
    assert wanted["raycaster"] == raycaster
    folder = Folder(str(tmp_path))
    folder.write(request.REQUEST, json.dumps(wanted).encode())
    request.check_request(folder, source, 2)
    other = next(each for each in RAYCASTERS if each != raycaster)
    folder.write(request.REQUEST, json.dumps(wanted | {"raycaster": other}).encode())
    with pytest.raises(UserError, match=f"beginning of a data set with raycaster = '{other}', not '{raycaster}'"):
        request.check_request(folder, source, 2)
    # An earlier version had Embree alone, and wrote nothing of it.
    del wanted["raycaster"]
    folder.write(request.REQUEST, json.dumps(wanted).encode())
    if raycaster == "embree":
        request.check_request(folder, source, 2)
    else:
        with pytest.raises(UserError, match="raycaster = 'embree', not 'numpy'"):
            request.check_request(folder, source, 2)


def old_folder(folder, config: FolderConfig, without: tuple[str, ...]):
    """A data set of `folder` whose manifest lacks keys, as those from before these options do."""
    about = Source("folder", config).about
    arguments = {name: value for name, value in about.provenance.arguments.items() if name not in without}
    assert len(arguments) == len(about.provenance.arguments) - len(without)
    provenance = Provenance(program=about.provenance.program, arguments=arguments, version="0.1.0")
    person = own_people.person(0)
    person = replace(person, keypoints=convert(person.keypoints, "people-31", "coco-17"), joints3d=None)
    person = replace(person, depth=None)
    write_shards(str(folder), [person], about.model_copy(update={"provenance": provenance}))
    return Folder(str(folder))


NEW = ("orientation", "label_map", "depth_unit", "joint_set_3d", "joint_unit_3d", "min_confidence", "axes")


def test_the_same_command_finds_a_folder_from_before_its_options(tmp_path, capsys):
    """Orientation was ignored and parts were Human3.6M's: the line says so, and other wishes are refused."""
    config = FolderConfig(path=str(tmp_path))
    folder = old_folder(tmp_path / "s", config, NEW)
    assert request.is_prepared(folder, Source("folder", config))
    said = capsys.readouterr().out
    assert "before there was --orientation: it holds what stored means, and today's default is upright" in said
    assert "before there was --label-map: it holds what human3.6m means, and today's default is none" in said
    for options in ({"orientation": "stored"}, {"label_map": "human3.6m"}, {"orientation": "stored", "depth_unit": ""}):
        assert request.is_prepared(folder, Source("folder", FolderConfig(path=str(tmp_path), **options)))
    for options, told in (
        ({"orientation": "upright"}, "orientation = 'stored', not 'upright'"),
        ({"label_map": "lip"}, "label_map = 'human3.6m', not 'lip'"),
        ({"depth_unit": "m"}, "depth_unit = '', not 'm'"),
        ({"size": 64}, "size = 320, not 64"),
    ):
        with pytest.raises(UserError, match=told):
            request.is_prepared(folder, Source("folder", FolderConfig(path=str(tmp_path), **options)))


def test_a_folder_of_today_is_found_without_a_word(tmp_path, capsys):
    config = FolderConfig(path=str(tmp_path))
    assert request.is_prepared(old_folder(tmp_path / "s", config, ()), Source("folder", config))
    assert capsys.readouterr().out == ""


def test_other_data_has_no_ray_caster(tmp_path):
    source = Source("folder", FolderConfig(path=str(tmp_path)))
    assert source.raycaster == ""
    assert "raycaster" not in request.request_of(source, 2)


def test_the_identity_of_scenes_keeps_its_first_keys():
    scenes = SyntheticScenes(size=64, count=2, min_people=2, num_points=5)
    made = ensure.identity(SourceConfig(path="nowhere", scenes=scenes))["made"]
    assert (made["least"], made["most"], made["points"]) == (2, 3, 5)
    old = {"domain": "mixed", "size": 64, "least": 2, "most": 3, "points": 5, "seed": 0, "count": 2}
    old |= {"jpeg_quality": scenes.jpeg_quality}
    assert fingerprint(canonical(SyntheticScenes, scenes.model_dump(mode="json"))) == fingerprint(old)
