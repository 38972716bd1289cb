"""Recordings of depth cameras and videos, as the cameras' own programs write them.

The folder is recognized by what is in it; the first lines of output say as what:

    rgb/ or color/, depth/, camera.json      pictures of the same name, number or time (seconds, as TUM's tools write)
    color/, depth/, intrinsic.json           Open3D's recorders; also camera_intrinsic.json
    *_Color.png, *_Depth.raw,                RealSense: the viewer's snapshots, and rs-convert -p PREFIX -r PREFIX;
      *_Depth_metadata.csv, camera.json      their colored depth pictures are passed over
    color/, depth/, calib_color.yaml, ...    Kinect v2 of iai_kinect2; --lens says of which of its topics
    *_color.jpg, *_depth.png                 Kinect v2, as kinect2_viewer saves it
    *.mkv                                    Azure Kinect (k4arecorder), with its own calibration
    *.mp4, *.mov, *.mkv, *.avi               video of any camera: RGB, turned upright
    *.bag, *.mcap, *.db3, or metadata.yaml   ROS bags: image, compressed image and camera_info topics; depth is
                                             registered by the bag's transforms, or aligned (needs the package rosbags)
    meta/info.json, videos/                  LeRobot data set: its color videos; --video-key names one camera

camera.json tells the unit of depth, and how depth and color belong together; docs/data/recordings.md has its keys. With
depth_to_color, depth is registered to color. Pictures are in the formats of `folder`; of depth also RealSense's .raw.

A folder mask/ or masks/ with pictures of the same names is taken along: white is the person, depth outside is dropped.
--segment removes the background of frames that have no mask (docs/data/masks.md).
people.jsonl tells who is where, one person per line, with the keys of `folder` and the name of the frame:

    {"frame": "000123", "box": [180, 60, 330, 400], "keypoints": [[251.0, 88.5, 2], ...], "subject": "anna"}

A frame is called like its color picture without the ending; of a video or bag <file without ending>/<number, 6 digits>.
With --keypoints, the files of a pose estimator say who is where: what it wrote for the pictures, or for the video
(OpenPose's walk_000000000042_keypoints.json, YOLO's walk_43.txt), in a format of `prepare.py keypoints`. With
`--detect WEIGHTS` a detector finds the people of frames without people.jsonl, and the keypoints of lines that have none
(docs/data/detectors.md).

Without any of these each frame is one person, who is where the mask is, else where depth has readings, else all over
the picture. Left is the person's own left in an unmirrored picture.
"""

from hcmoco.datasets.base import DatasetReader, ToDetect
from hcmoco.datasets.recording.config import RecordingConfig
from hcmoco.datasets.recording.frames import (
    Item,
    calibrate,
    inventory,
    items,
    read,
    resolve,
    sampled,
    shown,
    with_people,
)
from hcmoco.datasets.segmentation import stage

__all__ = ["READER", "Item", "RecordingConfig", "inventory", "items", "read", "resolve"]

READER: DatasetReader[RecordingConfig, Item] = DatasetReader(
    RecordingConfig,
    items,
    read,
    inventory,
    root="path",
    name=lambda config: config.name,
    joint_set=lambda config: config.joint_set,
    joint_set_3d=lambda config: config.joint_set_3d,
    depth_codec=lambda config: config.depth_codec,
    label_map=lambda config: config.stored_label_map,
    depth_masking=lambda config: config.masking,
    calibrations=stage.calibrations,
    calibrate=calibrate,
    with_calibrations=stage.with_calibrations,
    sampled=sampled,
    resolve=resolve,
    to_detect=ToDetect(shown, with_people),
)
