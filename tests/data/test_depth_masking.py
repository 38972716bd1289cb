"""Whether depth is masked: told from pictures, kept in manifests, compared with what was trained on."""

import copy
import json

import numpy as np
import pytest

from hcmoco.data.codecs import decode_depth, encode_depth
from hcmoco.data.depth_masking import combined, counted, differs, masking_of, shows_background, warning
from hcmoco.data.schema import Person
from hcmoco.data.shards.manifest import About, Provenance
from hcmoco.data.shards.reader import Shards
from hcmoco.data.shards.writer import write_shards
from hcmoco.datasets.registry import REGISTRY
from hcmoco.datasets.synthetic import NumberedPeople
from hcmoco.storage import Folder
from hcmoco.synthetic import PeopleConfig, make_person
from tests.helpers.real_samples import real_sample

SIZE = 64


@pytest.fixture(scope="module")
def both() -> list[tuple[Person, Person]]:
    """The same people, masked and with their room."""
    configs = [PeopleConfig(size=SIZE, seed=8, masked_depth=masked) for masked in (True, False)]
    return [
        tuple(make_person(each, number, dataset="people", split="train") for each in configs) for number in range(6)
    ]


def depth(person: Person) -> np.ndarray:
    return decode_depth(person.depth, "png16")


def test_synthetic_people_are_told_apart_with_and_without_their_box(both):
    for masked, whole in both:
        for box in (masked.box, None):
            assert not shows_background(depth(masked), box)
            assert shows_background(depth(whole), box)


def test_a_mask_decides():
    scene, mask = np.full((40, 40), 2000, np.uint16), np.zeros((40, 40), np.uint8)
    mask[1:39, 1:39] = 255
    assert not shows_background(np.where(mask > 0, scene, 0), None, mask)
    assert shows_background(np.where(mask > 0, scene, 0), None)  # so full a picture is a room, else
    assert shows_background(scene, None, mask)


def test_nothing_read_shows_no_background():
    assert not shows_background(np.zeros((20, 20), np.uint16))
    assert not shows_background(np.zeros((20, 20), np.uint16), np.array([2.0, 2, 9, 9]))


def test_real_depth_is_told_apart():
    import cv2

    for path in real_sample("kinect1-masked-depth").glob("*.png"):
        assert not shows_background(cv2.imread(str(path), cv2.IMREAD_UNCHANGED))
    assert shows_background(np.load(real_sample("itop-side") / "depth_mm_side_test_00053.npy"))
    whole = real_sample("kinect1-person-pcl") / "person_depth_mm.png"
    assert shows_background(cv2.imread(str(whole), cv2.IMREAD_UNCHANGED))


@pytest.mark.parametrize(
    ("kinds", "together"),
    [
        ([], ""),
        (["masked"], "masked"),
        (["unmasked", "unmasked"], "unmasked"),
        (["masked", "unmasked"], "mixed"),
        (["mixed", "masked"], "mixed"),
        (["masked", ""], ""),
    ],
)
def test_several_data_sets_together(kinds, together):
    assert combined(kinds) == together


def test_rows_are_counted():
    assert [counted(*each) for each in ((0, 0), (5, 0), (5, 5), (5, 2))] == ["", "masked", "unmasked", "mixed"]


def test_only_what_was_not_seen_differs():
    kinds = ("masked", "unmasked", "mixed", "")
    wrong = {(trained, given) for trained in kinds for given in kinds if differs(trained, given)}
    assert wrong == {("masked", "unmasked"), ("masked", "mixed"), ("unmasked", "masked"), ("unmasked", "mixed")}
    assert warning("the model", "masked", "data/x", "masked", "do that") == ""
    assert warning("the model", "masked", "data/x", "unmasked", "give --mask").endswith("; give --mask")


def about(**over) -> About:
    values = {"dataset": "mine", "joints": "people-31", "joints3d": "people-31", "size": SIZE}
    return About(**{**values, "provenance": Provenance(program="tests"), **over})


@pytest.mark.parametrize(("chosen", "masking"), [((0, 0, 0), "masked"), ((1, 1, 1), "unmasked"), ((0, 1, 0), "mixed")])
def test_rows_tell_the_manifest_and_the_card(tmp_path, both, chosen, masking):
    rows = [copy.copy(both[number][which]) for number, which in enumerate(chosen)]
    for each in rows:
        each.mask = None  # the reader of somebody's own pictures has none
    write_shards(str(tmp_path / "data"), rows, about())
    assert Shards.open(str(tmp_path / "data")).manifest.depth_masking == masking
    card = (tmp_path / "data" / "README.md").read_text()
    assert {"masked": "masked to the person", "unmasked": "unmasked (the", "mixed": "partly masked"}[masking] in card


def test_a_square_that_reaches_beyond_its_picture_is_not_masked_by_that(tmp_path, both):
    """Half of the stored square is off the picture: the half that shows it is full."""
    whole = copy.copy(both[0][1])
    half = depth(whole).copy()
    half[:, : SIZE // 2] = 0
    whole.depth, whole.crop, whole.mask = encode_depth(half, "png16"), np.array([-32, 0, 64, 32, 64.0]), None
    whole.box = np.array([SIZE // 2, 10, SIZE // 2 + 20, 50.0])
    write_shards(str(tmp_path / "data"), [whole], about())
    assert Shards.open(str(tmp_path / "data")).manifest.depth_masking == "unmasked"


def test_what_a_reader_says_is_not_looked_at(tmp_path, both):
    write_shards(str(tmp_path / "data"), [both[0][1]], about(depth_masking="masked"))
    assert Shards.open(str(tmp_path / "data")).manifest.depth_masking == "masked"


def test_readers_know_it():
    config = {"count": 1, "size": SIZE}
    people = REGISTRY["people"].load()
    told = [
        people.masking(NumberedPeople(**config, **more)) for more in ({}, {"masked_depth": False}, {"domain": "wild"})
    ]
    assert told == ["masked", "unmasked", ""]
    published = {name: REGISTRY[name].load().depth_masking for name in ("ntu", "ntu-parsing", "itop", "coco", "mpii")}
    assert published == {"ntu": "masked", "ntu-parsing": "masked", "itop": "unmasked", "coco": "", "mpii": ""}


@pytest.mark.parametrize(
    ("arguments", "masking"),
    [
        ({"source": "people", "masked_depth": True}, "masked"),
        ({"source": "people", "masked_depth": False}, "unmasked"),
        ({"source": "ntu"}, "masked"),
        ({"source": "itop"}, "unmasked"),
        ({"source": "folder"}, ""),
    ],
)
def test_older_manifests_tell_by_what_made_them(tmp_path, both, arguments, masking):
    provenance = Provenance(program="pipelines/prepare.py", arguments=arguments)
    write_shards(str(tmp_path), [both[0][0]], about(provenance=provenance))
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    del manifest["depth_masking"]
    Folder(str(tmp_path)).write("manifest.json", json.dumps(manifest).encode())
    assert masking_of(Shards.open(str(tmp_path)).manifest) == masking
