"""HCMoCo: contrastive pre-training across RGB, depth and 2D keypoints of people.

This package is the method alone: PyTorch, NumPy and Arrow. It knows no cluster (`hcmoco_ray` does).
"""

__version__ = "0.1.0"
