"""NTU RGB+D 60 and 120: RGB registered onto masked depth, 25 joints in the picture and in space, of every tenth frame with one person.

The format is that of the release (A. Shahroudy et al., CVPR 2016; J. Liu et al., TPAMI 2020) and of its MATLAB reader,
read_skeleton_file.m. layout.py says which files there are, skeleton.py what is in the text files, registration.py how the pictures of the
two cameras are brought together.
"""

from collections.abc import Iterator

from hcmoco.data.schema import Person
from hcmoco.data.skeletons import KINECT_25
from hcmoco.datasets.ntu.calibration import Study, studies, study, with_studies
from hcmoco.datasets.ntu.clip import read
from hcmoco.datasets.ntu.config import NtuConfig
from hcmoco.datasets.ntu.layout import NtuItem, inventory, items
from hcmoco.datasets.person_crop import Rejected, Skipped

JOINT_SET = JOINT_SET_3D = KINECT_25.name
UNIT = "clips"
ROWS_PER_ITEM = 8
"""A clip has 84 frames on average."""

__all__ = [
    "JOINT_SET", "JOINT_SET_3D", "ROWS_PER_ITEM", "UNIT", "NtuConfig", "NtuItem", "Study", "inventory", "items", "persons", "read",
    "studies", "study", "with_studies",
]  # fmt: skip


def persons(config: NtuConfig) -> Iterator[Person | Rejected | Skipped]:
    """Every outcome of the data set in this process, clip by clip: registrations first, then the records."""
    found = items(config)
    results = {name: study(each) for name, each in studies(config, found).items()}
    for item in with_studies(config, found, results):
        outcome = read(item)
        yield from outcome if isinstance(outcome, list) else [outcome]
