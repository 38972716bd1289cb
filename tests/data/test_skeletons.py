import numpy as np
import pytest

from hcmoco.data.skeletons import ITOP_15, JOINT_SETS, KINECT_25, PEOPLE_31, convert, joint_set


@pytest.mark.parametrize("name", sorted(JOINT_SETS))
def test_edges_are_one_tree_over_all_joints(name):
    joints = JOINT_SETS[name]
    reached, edges = {joints.joints[0]}, list(joints.edges)
    for _ in edges:
        reached |= {joint for edge in edges for joint in edge if set(edge) & reached}
    assert not edges or (len(edges) == len(joints) - 1 and reached == set(joints.joints))


@pytest.mark.parametrize("name", sorted(JOINT_SETS))
def test_stand_ins_are_for_names_the_set_lacks(name):
    joints = JOINT_SETS[name]
    for wanted, taken in joints.stand_ins:
        assert wanted not in joints.joints
        assert taken in joints.joints


@pytest.mark.parametrize("source", [KINECT_25, PEOPLE_31])
def test_itop_is_a_gather_of_kinect_and_people(source):
    keypoints = np.column_stack([np.arange(len(source)), np.arange(len(source)), np.ones(len(source))])
    places = convert(keypoints, source.name, "itop-15")
    taken = [source.joints[int(x)] for x in places[:, 0]]
    assert (places[:, 2] == 1).all()
    assert taken == [{"neck": "thorax", "torso": "spine_mid"}.get(joint, joint) for joint in ITOP_15.joints]


def test_itop_exchanges_sides():
    assert joint_set("itop-15").flip.tolist() == [0, 1, 3, 2, 5, 4, 7, 6, 8, 10, 9, 12, 11, 14, 13]
