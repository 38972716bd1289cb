"""Who of a depth picture is the person: masks of a folder, a static camera's background, or a Mask R-CNN."""

from hcmoco.datasets.segmentation.background import Background
from hcmoco.datasets.segmentation.config import SegmentOptions
from hcmoco.datasets.segmentation.mask_folder import MaskFolder
from hcmoco.datasets.segmentation.mask_rcnn import MaskRcnn
from hcmoco.datasets.segmentation.request import Request, parse

Segmenter = MaskFolder | Background | MaskRcnn
"""What finds the person. Small to pickle."""

__all__ = ["Background", "MaskFolder", "MaskRcnn", "Request", "SegmentOptions", "Segmenter", "parse"]
