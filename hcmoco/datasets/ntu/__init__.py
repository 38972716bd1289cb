"""NTU RGB+D 60 and 120: RGB registered onto masked depth, with 25 joints in the picture and in space.

Every tenth frame with one person is read. The format is that of the release (A. Shahroudy et al., CVPR 2016; J. Liu et
al., TPAMI 2020) and of its MATLAB reader, read_skeleton_file.m. layout.py finds the files, skeleton_file.py parses the
text files, registration.py aligns the pictures of the two cameras. With `--use rgb` depth is
neither needed nor read: rows are of the color picture, and joints lie where the skeleton file has them in it.
"""

from hcmoco.data.skeletons import KINECT_25
from hcmoco.datasets.base import DatasetReader
from hcmoco.datasets.ntu.calibration import Calibration, calibrate, calibrations, sampled, with_calibrations
from hcmoco.datasets.ntu.clip import read
from hcmoco.datasets.ntu.config import NtuConfig
from hcmoco.datasets.ntu.layout import NtuItem, inventory, items
from hcmoco.unused_options import check_unused

_OF_DEPTH = ("depth", "max_residual", "max_residual_p90", "max_clip_residual", "depth_codec")


def resolve(config: NtuConfig) -> tuple[NtuConfig, list[str]]:
    """Return the config as it is; raise UserError for an option that counts only beside depth, which is not read."""
    if config.use == "rgb":
        check_unused(config, _OF_DEPTH, "--use both")
    return config, []


READER = DatasetReader(
    NtuConfig,
    items,
    read,
    inventory,
    unit="clips",
    rows_per_item=8,  # a clip has 84 frames on average, of which every tenth is read
    joint_set=KINECT_25.name,
    joint_set_3d=KINECT_25.name,
    depth_codec=lambda config: config.depth_codec,
    depth_masking="masked",
    calibrations=calibrations,
    calibrate=calibrate,
    with_calibrations=with_calibrations,
    sampled=sampled,
    resolve=resolve,
)

__all__ = [
    "READER", "Calibration", "NtuConfig", "NtuItem", "calibrate", "calibrations", "inventory", "items", "read",
    "with_calibrations",
]  # fmt: skip
