"""What a joint set is: names, left/right pairs and skeleton of a set of 2D or 3D joints."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class JointSet:
    """A named, ordered set of joints with the edges of its skeleton graph.

    Attributes:
        name: what configs and manifests call it.
        joints: joint names in storage order.
        edges: the bones, undirected edges as pairs of joint names: one connected graph over all joints, each bone once;
            or empty if no graph is defined. The graph encoder convolves over them.
        stand_ins: (name that another set asks for and this set lacks, joint of this set that is used for it).
        labels: what the tool or data set itself calls the joints, in storage order; empty: the same as `joints`.
        source: where the order is described.
    """

    name: str
    joints: tuple[str, ...]
    edges: tuple[tuple[str, str], ...] = ()
    stand_ins: tuple[tuple[str, str], ...] = ()
    labels: tuple[str, ...] = ()
    source: str = ""

    def __len__(self) -> int:
        return len(self.joints)

    def index(self, joint: str) -> int:
        """Return the position of `joint` in storage order; raise ValueError if the set lacks it."""
        return self.joints.index(joint)

    @property
    def edge_indices(self) -> tuple[tuple[int, int], ...]:
        """Return the edges as pairs of positions."""
        return tuple((self.index(a), self.index(b)) for a, b in self.edges)

    @property
    def flip(self) -> np.ndarray:
        """Return the gather that exchanges left and right after a mirror image, int64 [J]; it is its own inverse."""
        return np.array([self.index(_mirror_name(joint)) for joint in self.joints])

    def find(self, joint: str) -> int:
        """Return the position of `joint` or of its declared stand-in, or -1."""
        if joint in self.joints:
            return self.index(joint)
        stand_in = dict(self.stand_ins).get(joint)
        return -1 if stand_in is None else self.index(stand_in)


def _mirror_name(joint: str) -> str:
    if joint.startswith("left_"):
        return "right_" + joint.removeprefix("left_")
    if joint.startswith("right_"):
        return "left_" + joint.removeprefix("right_")
    return joint
