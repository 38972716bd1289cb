"""People where Embree is not: prepared in NumPy, said so, and the same people."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from hcmoco import synthetic
from hcmoco.config import build
from hcmoco.data import codecs
from hcmoco.data.schema import Person
from hcmoco.data.shards.dataset_card import CARD
from hcmoco.data.shards.reader import Shards
from hcmoco.rng import make_rng
from hcmoco.synthetic import DEPTH_CODEC, PeopleConfig, make_person
from hcmoco.synthetic.render import embree, raycast
from hcmoco.training.config import SourceConfig
from hcmoco_ray.commands.prepare import main
from hcmoco_ray.prepare import ensure
from tests.helpers.waiting import CEILING

ROOT = Path(__file__).parents[3]
COUNT, SIZE = 6, 64
COMMAND = ["people", "--size", str(SIZE), "--count", str(COUNT), "--out"]
CONFIG = PeopleConfig(size=SIZE)


def rows_of(folder) -> list[Person]:
    shards = Shards.open(str(folder))
    return [
        Person.from_row(row) for group in range(len(shards.group_rows)) for row in shards.read_group(group).to_pylist()
    ]


def assert_made_by(people: list[Person], caster: str) -> None:
    order = make_rng(CONFIG.seed, "write").permutation(COUNT).tolist()
    for person, number in zip(people, order, strict=True):
        expected = make_person(CONFIG, number, dataset="people", split="train", caster=caster)
        for name, value in vars(expected).items():
            np.testing.assert_array_equal(value, getattr(person, name), err_msg=name)


def assert_same_people(people: list[Person], others: list[Person]) -> None:
    """Apart from the colors, which depend on the ray caster where faces lie in one plane."""
    for person, other in zip(people, others, strict=True):
        assert person.id == other.id
        np.testing.assert_allclose(person.keypoints, other.keypoints, atol=1e-3)
        np.testing.assert_allclose(person.joints3d, other.joints3d, atol=1e-5)
        for name in ("parts", "mask"):
            labels, others_ = (codecs.decode_labels(getattr(each, name), SIZE) for each in (person, other))
            assert (labels != others_).sum() <= 4
        depth, others_ = (codecs.decode_depth(each.depth, DEPTH_CODEC, SIZE).astype(int) for each in (person, other))
        assert (np.abs(depth - others_) > 1).sum() <= 4


@pytest.fixture
def without_embree(monkeypatch):
    """This process imports no Embree. Ray's workers may, as on a cluster of several kinds of machines."""
    monkeypatch.delenv(raycast.VARIABLE, raising=False)
    monkeypatch.setitem(sys.modules, "embreex", None)
    for function in (synthetic.raycaster, embree._embree):
        function.cache_clear()
    yield monkeypatch
    for function in (synthetic.raycaster, embree._embree):
        function.cache_clear()


def test_people_without_embree(ray_session, tmp_path, capfd, without_embree):
    assert main([*COMMAND, str(tmp_path / "numpy")]) == 0
    said = [line for line in capfd.readouterr().err.splitlines() if "embree" in line]
    assert len(said) == 1
    assert "times slower" in said[0]
    people, manifest = rows_of(tmp_path / "numpy"), Shards.open(str(tmp_path / "numpy")).manifest
    assert_made_by(people, "numpy")
    assert manifest.provenance.raycaster == "numpy"
    assert "numpy" in (tmp_path / "numpy" / CARD).read_text()

    without_embree.undo()
    if embree.why_not():
        pytest.skip("embreex is not installed")
    synthetic.raycaster.cache_clear()
    # The same people for `prepare` and for a training.
    assert main([*COMMAND, str(tmp_path / "numpy")]) == 0
    assert "already prepared" in capfd.readouterr().out
    made = {"path": str(tmp_path / "numpy"), "people": {"size": SIZE, "count": COUNT}}
    source = build(SourceConfig, made, "here")
    assert ensure.open_data("indoor", source).manifest.content == manifest.content

    assert main([*COMMAND, str(tmp_path / "embree")]) == 0
    other = Shards.open(str(tmp_path / "embree")).manifest
    assert other.provenance.raycaster == "embree"
    assert other.provenance.arguments == manifest.provenance.arguments
    assert_made_by(rows_of(tmp_path / "embree"), "embree")
    assert_same_people(people, rows_of(tmp_path / "embree"))
    there = build(SourceConfig, made | {"path": str(tmp_path / "embree")}, "here")
    assert ensure.identity(there) == ensure.identity(source)


@pytest.mark.long
@pytest.mark.slow
def test_the_program_where_no_process_can_import_embree(tmp_path):
    missing = tmp_path / "path" / "embreex" / "__init__.py"
    missing.parent.mkdir(parents=True)
    missing.write_text("raise ImportError('there is none for this machine')\n")
    environment = {key: value for key, value in os.environ.items() if key not in (raycast.VARIABLE, "RAY_ADDRESS")}
    paths = [str(missing.parents[1]), str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    done = subprocess.run(
        [sys.executable, "pipelines/prepare.py", *COMMAND, str(tmp_path / "people")],
        cwd=ROOT,
        env=environment | {"PYTHONPATH": os.pathsep.join(paths)},
        capture_output=True,
        text=True,
        timeout=CEILING,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("there is none for this machine") == 1
    assert_made_by(rows_of(tmp_path / "people"), "numpy")
