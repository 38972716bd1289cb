"""The data sets that `prepare` knows: where their readers are, what they are, and on which terms."""

from dataclasses import dataclass
from typing import Literal

from hcmoco.license_terms import SYNTHETIC


@dataclass(frozen=True)
class Kind:
    module: str
    config: str
    help: str
    license: str
    page: str = ""
    records: Literal["person", "scene"] = "person"


_NTU_TERMS = "ROSE Lab's release agreement: academic research only, no redistribution, people's faces only as the agreement allows"
KINDS = {
    "people": Kind(
        "hcmoco.synthetic", "PeopleConfig", "synthetic people, or with --scenes pictures of several", SYNTHETIC
    ),
    "scenes": Kind(
        "hcmoco.synthetic", "ScenesConfig", "synthetic pictures of several people", SYNTHETIC, records="scene"
    ),
    "folder": Kind("hcmoco.datasets.folder", "FolderConfig", "your own pictures: a folder with a JSON Lines file", ""),
    "ntu": Kind(
        "hcmoco.datasets.ntu",
        "NtuConfig",
        "NTU RGB+D 60 and 120: RGB, masked depth and skeletons of clips",
        _NTU_TERMS,
        "https://rose1.ntu.edu.sg/dataset/actionRecognition",
    ),
    "ntu-parsing": Kind(
        "hcmoco.datasets.ntu_parsing",
        "NtuParsingConfig",
        "NTURGBD-Parsing-4K: body parts on frames of NTU RGB+D",
        f"the pictures: {_NTU_TERMS}; the labels: as their authors state",
        "https://github.com/hongfz16/HCMoCo",
    ),
    "mpii": Kind(
        "hcmoco.datasets.mpii",
        "MpiiConfig",
        "MPII Human Pose",
        "annotations: free for research; pictures: no commercial use, their owners' rights",
        "http://human-pose.mpi-inf.mpg.de",
    ),
    "coco": Kind(
        "hcmoco.datasets.coco",
        "CocoConfig",
        "COCO person keypoints",
        "COCO annotations: CC BY 4.0; pictures: their owners' terms",
        "https://cocodataset.org",
    ),
    "densepose-coco": Kind(
        "hcmoco.datasets.densepose_coco",
        "DensePoseCocoConfig",
        "COCO-DensePose: scenes with surface points, masks and boxes",
        "DensePose annotations: CC BY-NC 4.0; COCO annotations: CC BY 4.0; pictures: their owners' terms",
        "http://densepose.org",
        "scene",
    ),
    "h36m-parsing": Kind(
        "hcmoco.datasets.h36m_parsing",
        "H36mParsingConfig",
        "Human3.6M: body parts on frames of the videos",
        "Human3.6M licence agreement: academic research only, no redistribution",
        "http://vision.imar.ro/human3.6m",
    ),
    "itop": Kind(
        "hcmoco.datasets.itop",
        "ItopConfig",
        "ITOP, side view: depth and 3D joints",
        "ITOP (Haque et al. 2016): CC BY 4.0 by its deposit; cite it",
        "https://doi.org/10.5281/zenodo.3932973",
    ),
}
# Nothing is read for these: records are numbered, and made.
MADE = ("people", "scenes")
# On the command line scenes are an option of people.
COMMANDS = tuple(kind for kind in KINDS if kind != "scenes")
