"""How DensePose predictions are scored: similarities of detections to people, their matching, precision and recall, surface distances."""

from pathlib import Path

from hcmoco.tasks.densepose.metric.geodesics import Geodesics
from hcmoco.tasks.densepose.metric.metric import DensePoseMetric
from hcmoco.tasks.densepose.metric.people_surface import people_geodesics
from hcmoco.tasks.densepose.metric.published import find_distances, published_geodesics

__all__ = ["DensePoseMetric", "Geodesics", "people_geodesics", "published_geodesics", "read_geodesics"]


def read_geodesics(charts: str) -> Geodesics:
    """Distances on the surface that labels are on, with the protocol's scale for each part.

    Args:
        charts: `people`, the synthetic people's; else the folder of DensePose's evaluation data (`published` says what is in it). Distances
            stored there beside the mesh, as Pdist_matrix.npy or another format but pickle, are used, else they are computed from it.
    Raises:
        UserError: the folder does not hold what is needed.
    """
    if charts == "people":
        return people_geodesics()
    folder = Path(charts).expanduser()
    return published_geodesics(folder, find_distances(folder))
