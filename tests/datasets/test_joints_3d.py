"""3D joints of one's own people: the numbers come through, and other conventions are refused with what helps."""

import json
import re

import numpy as np
import pytest

from hcmoco.data.codecs import decode_depth, decode_labels
from hcmoco.data.pinhole import project
from hcmoco.data.schema import Person
from hcmoco.data.skeletons import convert
from hcmoco.datasets import folder
from hcmoco.datasets.base import Rejected, read_all
from hcmoco.datasets.joints_3d import Seen, place_joints_3d
from hcmoco.errors import UserError
from hcmoco.synthetic import DEPTH_CODEC
from tests.helpers import own_people

PEOPLE = range(6)


def seen(number: int, *, keypoints: bool = False, depth: bool = False, mask: bool = False) -> Seen:
    """What a picture shows of a person."""
    each = own_people.person(number)
    return Seen(
        each.camera,
        each.box,
        each.keypoints if keypoints else None,
        "people-31",
        decode_depth(each.depth, DEPTH_CODEC) if depth else None,
        decode_labels(each.parts) > 0 if mask else None,
    )


def placed(joints, of: Seen, unit="m"):
    return place_joints_3d(joints, unit, "kinect-25", of)


@pytest.mark.parametrize(
    "signs", [{}, {"keypoints": True}, {"depth": True}, {"mask": True}, {"depth": True, "mask": True}]
)
def test_right_joints_come_through_in_any_unit(signs):
    for number in PEOPLE:
        joints = own_people.joints_in_space(number)
        for unit, factor in own_people.UNITS.items():
            found = placed((joints * factor).tolist(), seen(number, **signs), unit)
            assert np.allclose(found, joints, atol=1e-6)


def test_joints_that_are_not_annotated_are_zero():
    joints = own_people.joints_in_space(0)
    given = [None, (0.0, 0.0, 0.0), *joints[2:].tolist()]
    found = placed(given, seen(0, keypoints=True))
    assert not found[:2].any()
    assert np.allclose(found[2:], joints[2:])
    assert placed([None] * 25, seen(0)) is None


@pytest.mark.parametrize(
    ("axes", "told"), [((0,), "multiply x by -1"), ((1,), "multiply y by -1"), ((0, 1), "multiply both by -1")]
)
def test_axes_of_another_direction_are_refused_and_the_advice_helps(axes, told):
    for number in PEOPLE:
        joints = own_people.joints_in_space(number)
        other = joints.copy()
        other[:, axes] *= -1
        with pytest.raises(ValueError, match=re.escape(told)):
            placed(other.tolist(), seen(number, keypoints=True))
        other[:, axes] *= -1
        assert np.allclose(placed(other.tolist(), seen(number, keypoints=True)), joints)


def test_without_joints_in_the_picture_a_person_upside_down_is_seen_in_depth():
    told = 0
    for number in PEOPLE:
        joints = own_people.joints_in_space(number) * (1, -1, 1)
        try:
            placed(joints.tolist(), seen(number, depth=True, mask=True))
        except ValueError as error:
            told += "multiply y by -1" in str(error)
    assert told >= len(PEOPLE) / 2, told


def test_z_backward_is_told_apart_from_joints_around_a_root():
    joints = own_people.joints_in_space(0)
    with pytest.raises(ValueError, match="multiply z by -1"):
        placed((joints * (1, -1, -1)).tolist(), seen(0))
    with pytest.raises(ValueError, match=r"relative to one of the joints: add that joint's place"):
        placed((joints - joints[0] + (0, 0, 1e-9)).tolist(), seen(0))


@pytest.mark.parametrize(
    ("stored", "said"), [("mm", "m"), ("m", "mm"), ("cm", "mm"), ("mm", "cm"), ("cm", "m"), ("m", "cm")]
)
def test_another_unit_is_refused_and_the_advice_helps(stored, said):
    joints = own_people.joints_in_space(1)
    given = (joints * own_people.UNITS[stored]).tolist()
    with pytest.raises(ValueError, match=r"give --joint-unit-3d (mm|cm|m)$") as refused:
        placed(given, seen(1), said)
    assert np.allclose(placed(given, seen(1), str(refused.value).rpartition(" ")[2]), joints, atol=1e-6)


def test_joints_of_another_camera_or_person_are_refused():
    joints = own_people.joints_in_space(2)
    with pytest.raises(ValueError, match="project beside the person"):
        placed(np.add(joints, (4, 0, 0)).tolist(), seen(2))
    for shift, word in ((0.8, "behind"), (-0.8, "before")):
        with pytest.raises(ValueError, match=f"lie 0.[6-9].* m {word} what depth shows"):
            placed((joints * ((joints[:, 2:] + shift) / joints[:, 2:])).tolist(), seen(2, depth=True))


def test_joints_around_a_root_are_taken_with_the_roots_place():
    joints = own_people.joints_in_space(0)
    around = joints - joints[0]
    with pytest.raises(ValueError, match="add that joint's place in the camera's frame"):
        placed(around.tolist(), seen(0, keypoints=True))
    assert np.allclose(placed((around + joints[0]).tolist(), seen(0, keypoints=True)), joints, atol=1e-6)


def write_lines(root, change=lambda line: line):
    own_people.write(root, 2)
    lines = [change(json.loads(line)) for line in (root / "people.jsonl").read_text().splitlines()]
    (root / "people.jsonl").write_text("\n".join(map(json.dumps, lines)))


def read(root, **options):
    options = {"label_map": "lip", "joint_set_3d": "kinect-25", "joint_unit_3d": "mm", **options}
    return list(read_all(folder.READER, folder.FolderConfig(path=str(root), **options)))


def test_the_joints_of_a_folder_project_onto_those_of_its_pictures(tmp_path):
    own_people.write(tmp_path, 2)
    for number, person in enumerate(read(tmp_path)):
        assert isinstance(person, Person), person
        assert np.allclose(person.joints3d, own_people.joints_in_space(number), atol=1e-4)
        xy = convert(np.column_stack([project(person.joints3d, person.camera), np.ones(25)]), "kinect-25", "coco-17")
        both = (xy[:, 2] > 0) & (person.keypoints[:, 2] > 0) & (np.arange(17) > 4)  # the nose is no head
        assert both.sum() >= 6
        assert np.abs(xy - person.keypoints)[both, :2].max() < 0.2


def test_what_3d_joints_need_is_asked_for(tmp_path):
    own_people.write(tmp_path, 1)
    for missing in ("joint_set_3d", "joint_unit_3d"):
        with pytest.raises(UserError, match=r"say which they are .* --joint-set-3d kinect-25 --joint-unit-3d mm"):
            read(tmp_path, **{missing: ""})
    assert isinstance(read(tmp_path)[0], Person)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda line: {**line, "joints3d": line["joints3d"][:24]}, "there are 24 joints3d, kinect-25 has 25"),
        (lambda line: {key: value for key, value in line.items() if key != "camera"}, "give camera in the line"),
        (lambda line: {**line, "joints3d": [[x, -y, z] for x, y, z in line["joints3d"]]}, "multiply y by -1"),
    ],
)
def test_a_line_that_cannot_be_used_is_rejected_with_its_reason(tmp_path, change, reason):
    write_lines(tmp_path, change)
    for outcome in read(tmp_path):
        assert isinstance(outcome, Rejected)
        assert reason in outcome.reason
