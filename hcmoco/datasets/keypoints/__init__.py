"""Pictures, and the keypoints that a pose estimator found in them or people annotated.

    python pipelines/prepare.py keypoints --images rgb --keypoints openpose-json --out data/mine

The format and the joint set are recognized where that is certain, and printed; else a line asks for them. `--images` is
a folder of JPEG, PNG, WebP, TIFF or BMP, `--keypoints` the file or folder that the tool wrote:

- openpose: a folder of NAME_keypoints.json (OpenPose --write_json); joints body-25 or coco-18.
- coco-results: a JSON list of people (detectron2, MMPose, ViTPose, AlphaPose). `image_id` is a file name, or a number;
  then --image-list names the JSON file in COCO's form that the tool was given.
- coco: an annotation file in COCO's form, with any joint set (Halpe, CrowdPose, AI Challenger, yours).
- mmpose: a folder of NAME.json (MMPoseInferencer's pred_out_dir).
- mediapipe: a folder of NAME.json, or one CSV file.
- yolo: a folder of NAME.txt, or its data.yaml.
- azure-kinect: the JSON file of offline_processor; needs --calibration.

A joint is visible if its confidence is at least --min-confidence and it lies in the picture. A person without a visible
joint, or with a score below --min-score, is left out and counted. Left is the person's own left in an unmirrored
picture. The box of a person is the file's, else it is drawn around the visible joints, wider by a tenth of its longer
side. docs/data/keypoint-tools.md has each tool's command, joints and conventions.
"""

from collections import Counter
from dataclasses import replace
from pathlib import Path

from hcmoco.datasets.base import DatasetReader, Rejected, Skipped
from hcmoco.datasets.folder import PICTURES
from hcmoco.datasets.io.inventory import Fault, Inventory
from hcmoco.datasets.keypoints.config import KeypointsConfig
from hcmoco.datasets.keypoints.people import KeypointItem, items, read
from hcmoco.datasets.keypoints.resolve import resolve

UNIT = "people"


def inventory(config: KeypointsConfig) -> Inventory:
    """Check the pictures of the people that are kept, and count the others."""
    found = Inventory()
    people = items(config)
    kept = [each for each in people if isinstance(each, KeypointItem)]
    found.counts[UNIT] = len(kept)
    found.check_files("pictures", config.images, [each.image for each in kept], *PICTURES["rgb"])
    for what, folder in (("depth pictures", config.depth), ("masks", config.mask)):
        if folder:
            found.check_files(what, folder, [Path(each.image).with_suffix(".png").as_posix() for each in kept], "PNG")
    keypoints = str(Path(config.keypoints).expanduser())
    found.faults += [Fault(keypoints, f"{each.id}: {each.reason}") for each in people if isinstance(each, Rejected)]
    found.notes += _below_threshold(kept)
    for reason, count in Counter(each.reason for each in people if isinstance(each, Skipped)).items():
        found.notes.append(f"{count:,} skipped: {reason}")
    return found


def _below_threshold(people: list[KeypointItem]) -> list[str]:
    """One line on how many joints the threshold makes invisible, if any."""
    if not people:
        return []
    convention = people[0].settings.convention
    there = sum(int(replace(convention, min_confidence=0.0).seen(each.joints).sum()) for each in people)
    below = there - sum(int(convention.seen(each.joints).sum()) for each in people)
    if not below:
        return []
    return [
        f"{below:,} of {there:,} joints have a confidence below {convention.min_confidence:g}, and are invisible: see "
        "--min-confidence"
    ]


READER = DatasetReader(
    KeypointsConfig,
    items,
    read,
    inventory,
    unit=UNIT,
    root="images",
    name=lambda config: config.name,
    joint_set=lambda config: config.joints,
    depth_codec=lambda config: config.depth_codec,
    resolve=resolve,
)
