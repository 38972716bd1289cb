"""Recordings of depth cameras and videos, as the cameras' own programs write them.

The folder is recognized by what is in it; the first lines of output say as what:

    rgb/ or color/, depth/, camera.json      pictures of the same name, number or time (seconds, as TUM's tools write)
    color/, depth/, intrinsic.json           Open3D's recorders; also camera_intrinsic.json
    *_Color.png, *_Depth.raw,                RealSense: the viewer's snapshots, and rs-convert -p PREFIX -r PREFIX;
      *_Depth_metadata.csv, camera.json      their colored depth pictures are passed over
    *.mkv                                    Azure Kinect (k4arecorder), with its own calibration
    *.mp4, *.mov, *.mkv, *.avi               video of any camera: RGB, turned upright

camera.json tells the unit of depth, and how depth and color belong together; docs/data/recordings.md has its keys. With
depth_to_color, depth is registered to color. Pictures are in the formats of `folder`; of depth also RealSense's .raw.

A folder mask/ or masks/ with pictures of the same names is taken along: white is the person, depth outside is dropped.
people.jsonl tells who is where, one person per line, with the keys of `folder` and the name of the frame:

    {"frame": "000123", "box": [180, 60, 330, 400], "keypoints": [[251.0, 88.5, 2], ...], "subject": "anna"}

A frame is called like its color picture without the ending; of a video <file without ending>/<number, 6 digits>.
Without people.jsonl each frame is one person, who is where the mask is, else where depth has readings, else all over
the picture. With `--detect WEIGHTS` a detector finds the people of frames without people.jsonl, and the keypoints of
lines that have none (docs/data/detectors.md). Left is the person's own left in an unmirrored picture.
"""

from hcmoco.datasets.base import DatasetReader, ToDetect
from hcmoco.datasets.recording.config import RecordingConfig
from hcmoco.datasets.recording.frames import Item, inventory, items, read, resolve, shown, with_people

__all__ = ["READER", "Item", "RecordingConfig", "inventory", "items", "read", "resolve"]

READER: DatasetReader[RecordingConfig, Item] = DatasetReader(
    RecordingConfig,
    items,
    read,
    inventory,
    root="path",
    name=lambda config: config.name,
    joint_set=lambda config: config.joint_set,
    depth_codec=lambda config: config.depth_codec,
    resolve=resolve,
    to_detect=ToDetect(shown, with_people),
)
