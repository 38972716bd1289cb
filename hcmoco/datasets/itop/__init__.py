"""ITOP, side view (Haque et al., ECCV 2016): depth of one person in a room and 15 joints in 3D.

The reader reads the published HDF5 files:

    ITOP_side_train_depth_map.h5   data [N, 240, 320] meters, id [N]
    ITOP_side_train_labels.h5      is_valid, id [N], visible_joints [N, 15], image_coordinates [N, 15, 2],
                                   real_world_coordinates [N, 15, 3]

and the same for test. Only frames that a person has approved (`is_valid`) are records. Whole frames are kept, since the
protocol of 3D pose counts its margins in their pixels.
"""

from hcmoco.datasets.base import DatasetReader
from hcmoco.datasets.itop.config import JOINTS, ItopConfig
from hcmoco.datasets.itop.frames import DEPTH_CODEC, JOINT_SET, JOINT_SET_3D, ROWS_PER_ITEM, UNIT, Block, items, read
from hcmoco.datasets.itop.inventory import inventory
from hcmoco.unused_options import check_unused


def resolve(config: ItopConfig) -> tuple[ItopConfig, list[str]]:
    """Return the config as it is; raise UserError for an option that counts for nothing with these boxes."""
    if config.boxes_file is None:
        check_unused(config, ("without_box",), "a file of --boxes")
    elif config.without_box != JOINTS:
        check_unused(config, ("joint_margin",), "--boxes joints or --without-box joints")
    return config, []


READER = DatasetReader(
    ItopConfig,
    items,
    read,
    inventory,
    unit=UNIT,
    rows_per_item=ROWS_PER_ITEM,
    joint_set=JOINT_SET,
    joint_set_3d=JOINT_SET_3D,
    depth_codec=DEPTH_CODEC,
    depth_masking="unmasked",  # a room; the task of pose cuts away what is far from the person
    resolve=resolve,
)

__all__ = ["READER", "Block", "ItopConfig", "inventory", "items", "read", "resolve"]
