"""Scores of DensePose: surface distances, similarities of detections to people, matching, precision and recall."""

from pathlib import Path

from hcmoco.tasks.densepose.metric.geodesics import Geodesics
from hcmoco.tasks.densepose.metric.metric import DensePoseMetric
from hcmoco.tasks.densepose.metric.people_surface import people_geodesics
from hcmoco.tasks.densepose.metric.published import find_distances, published_geodesics

__all__ = ["DensePoseMetric", "Geodesics", "people_geodesics", "published_geodesics", "read_geodesics"]


def read_geodesics(charts: str) -> Geodesics:
    """Return distances on the surface that the labels are on, with the protocol's scale for each part.

    Args:
        charts: `people` for the synthetic people, or the folder of DensePose's evaluation data (see published.py).
            Distances that are stored there beside the mesh are used; else they are computed from the mesh.
    Raises:
        UserError: the folder lacks a file.
    """
    if charts == "people":
        return people_geodesics()
    folder = Path(charts).expanduser()
    return published_geodesics(folder, find_distances(folder))
