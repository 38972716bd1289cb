"""3D pose of one person from depth (the ITOP protocol), by weighted anchors."""

from hcmoco.tasks.pose.config import HeadConfig, PoseConfig
from hcmoco.tasks.pose.metric import PoseMetric
from hcmoco.tasks.pose.task import PoseBatch, PoseTask

__all__ = ["HeadConfig", "PoseBatch", "PoseConfig", "PoseMetric", "PoseTask"]
