"""The mix of the paper on real pictures: people with depth beside photographs of MPII and COCO, which have none."""

import pytest

from tests.helpers.pretrain_program import call, tracked
from tests.helpers.real_samples import real_sample


def prepare(*arguments: str) -> int:
    from hcmoco_ray.commands.prepare import main

    return main(list(arguments))


@pytest.fixture
def samples():
    """The folders of MPII and of COCO; before Ray is started for nothing."""
    return real_sample("mpii"), real_sample("coco-keypoints")


def test_photographs_enter_the_terms_that_they_have_the_modalities_for(samples, ray_session, tiny_home):
    mpii, coco = samples
    data = tiny_home / "photographs"
    # Files that do not lie as in the release are named, below the folder of the download or with paths of their own.
    of_mpii = (f"--source={mpii}", "--annotations=mpii_hrnet_style.json")
    of_coco = (f"--source={coco}", "--annotations=person_keypoints_subset.json", f"--images={coco}/images")
    for name, where in (("mpii", of_mpii), ("coco", of_coco)):
        assert prepare(name, *where, "--check") == 0
        assert prepare(name, *where, f"--out={data}/{name}") == 0
    assert prepare("verify", f"{data}/mpii") == 0

    done = call(
        tiny_home,
        "output_dir=runs/photographs",
        f"data.sources.mpii.path={data}/mpii",
        f"data.sources.coco.path={data}/coco",
        "data.sources.coco.weight=2",
        "data.held_out=null",
        "train.batch_size_per_lane=7",
    )
    assert done.status == 0, done.err
    (run,) = tracked(done.folder)
    # Of 14 rows a step: indoor 3 / 7, wild 1 / 7, MPII 1 / 7, COCO 2 / 7.
    rows = {
        name.removeprefix("train/rows/"): points[-1][1]
        for name, points in run["metrics"].items()
        if name.startswith("train/rows/")
    }
    for term in ("g/rgb-keypoints", "g/keypoints-rgb", "s/rgb-keypoints", "s/inter"):
        assert [rows[f"{term}/{source}"] for source in ("indoor", "wild", "mpii", "coco")] == [6, 2, 2, 4]
    for term in (
        "g/rgb-depth",
        "g/depth-rgb",
        "g/depth-keypoints",
        "g/keypoints-depth",
        "d/rgb-depth",
        "d/depth-rgb",
        "s/depth-keypoints",
    ):
        assert [rows[f"{term}/{source}"] for source in ("indoor", "wild", "mpii", "coco")] == [6, 0, 0, 0]
